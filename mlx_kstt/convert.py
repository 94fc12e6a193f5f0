"""Any Kyutai STT checkpoint to one folder in our own layout: quantised or not, self-describing, proven.

In: a checkpoint of any layout. Out: config.json, weights without the codec's decoder half, tokenizer, and a model card
with what was measured. Tensors are streamed: no more is in memory than one file of the result and twice its largest
tensor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import mlx.core as mx

from .audio import open_audio
from .card import model_card, read_origin
from .checkpoints import Checkpoint, find_checkpoint, home_expanded, read_checkpoint
from .config import SttConfig
from .errors import CheckpointError, OptionError
from .loading import checked_dtype, load, print_to_stderr
from .mlx_thread import on_mlx_thread
from .proof import Proof
from .prove import disk_bytes, prove
from .quantization import HEAD, PAUSE_HEADS, Recipe
from .samples import Sample, default_samples
from .saving import SHARD_BYTES, check_target, new_folder, write_config, write_tensors
from .search import SearchResult, search
from .weights import dequantized, only, read_tensors

PROOF = "proof.json"
_NORM_WEIGHT, _HEAD_WEIGHT, _PAUSE_HEADS_WEIGHT = "decoder.norm.weight", f"{HEAD}.weight", f"{PAUSE_HEADS}.weight"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was measured on the way.

    Attributes:
        proof: source and result compared; None without samples.
        search: how the recipe was found; None where it was given.
    """

    proof: Proof | None
    search: SearchResult | None

    def to_markdown(self) -> str:
        """Both, as tables."""
        return "\n\n".join(part.to_markdown() for part in (self.search, self.proof) if part is not None)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    quantize: str | Recipe | None = None,
    search_target: float | None = None,
    dtype: str | None = None,
    dequantize: bool = False,
    pause_heads_from: str | Path | None = None,
    samples: Sequence[Sample] | None = None,
    force: bool = False,
    name: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    delay: float | None = None,
    prefix: float | None = None,
    announce: Callable[[str], None] = print_to_stderr,
) -> Conversion:
    """Write a checkpoint that `load` opens at once.

    Args:
        source: an existing folder, a hub repo, or "tiny".
        target: folder to make.
        quantize: a preset ("q4", "q8", "mixed_4_8") or a recipe; None keeps the weights as they are.
        search_target: instead of a recipe, the share of text ids that must stay the source's: the smallest recipe that
            reaches it is searched for.
        dtype: of what is not quantised, and of the scales; by default as in the source. The codec is always float32.
        dequantize: the source is quantised: read it back into full weights first.
        pause_heads_from: another layout of the same model that has pause heads, for a source that has none.
        samples: recordings to prove the result with; by default 28 s of the bundled ones; with () nothing is proven.
        force: replace a checkpoint that this package wrote.
        name: by which the model card calls the result; by default that of the target.
        revision, offline, delay, prefix: see `load`.
        announce: called with each line of news.

    Returns:
        What was measured; it is also in the model card, and the proof in proof.json.

    Raises:
        CheckpointError: the source cannot be read, or the target not be written.
        HubError: see `load`.
        OptionError: an option has a value that it cannot have, or no recipe reaches the target.
    """
    precision, target = checked_dtype(dtype), home_expanded(target).resolve()
    if search_target is not None and quantize is not None:
        raise OptionError("quantize names a recipe and search_target searches for one: give only one of them")
    heard = default_samples() if samples is None else samples
    for sample in heard:
        open_audio(sample.path).close()
    find = partial(find_checkpoint, offline=offline, announce=announce)
    folder = find(source, revision=revision)
    _refuse_overlap(folder, target)
    check_target(target, force=force)
    checkpoint = read_checkpoint(folder, delay=delay, prefix=prefix)
    parts = [_full_weights(checkpoint, dequantize)]
    if pause_heads_from is not None:
        parts.append(_pause_heads(parts[0], lambda: find(pause_heads_from, revision=None), target))
    searching = search_target is not None
    found = search(parts[0], search_target, heard or default_samples(), announce) if searching else None
    config = _joined_config(parts)
    config = replace(config, quantization=config.decoder.plan(found.recipe if found else quantize))
    with new_folder(target) as new:
        tensors = chain.from_iterable(read_tensors(part, config.quantization, precision) for part in parts)
        write_tensors(new, tensors, shard_bytes=SHARD_BYTES)
        write_config(new, config)
        is_json = parts[0].tokenizer.suffix == ".json"
        shutil.copyfile(parts[0].tokenizer, new / ("tokenizer.json" if is_json else "tokenizer.model"))
        done = Conversion(_prove(folder, checkpoint, new, heard, announce) if heard else None, found)
        _describe(
            new, model_card(name or target.name, read_origin(source, folder), config, done.to_markdown()), done.proof
        )
    return done


def _prove(
    folder: Path, checkpoint: Checkpoint, new: Path, samples: Sequence[Sample], announce: Callable[[str], None]
) -> Proof:
    """Compare source and result, both loaded as a user would."""
    config = checkpoint.config
    load_source, load_result = (partial(load, at, delay=config.delay, prefix=config.prefix) for at in (folder, new))
    sizes = disk_bytes(checkpoint), disk_bytes(read_checkpoint(new, delay=None, prefix=None))
    announce("comparing source and result on recordings")
    return prove(load_source, load_result, samples, disk_bytes=sizes, announce=announce)


def _describe(folder: Path, card: str, proof: Proof | None) -> None:
    (folder / "README.md").write_text(card, "utf-8")
    if proof is not None:
        (folder / PROOF).write_text(json.dumps(proof.to_dict(), indent=2) + "\n", "utf-8")


def _refuse_overlap(source: Path, target: Path) -> None:
    source, target = source.resolve(), target.resolve()
    if target == source or target.is_relative_to(source) or source.is_relative_to(target):
        raise CheckpointError(f"the target {target} and the source {source} overlap: name a target outside the source")


def _full_weights(checkpoint: Checkpoint, dequantize: bool) -> Checkpoint:
    """The checkpoint with full weights, as the caller said that it must be read."""
    if checkpoint.config.quantization and not dequantize:
        raise CheckpointError("the source is quantised already: convert the one that it was made of, or dequantize it")
    if dequantize and not checkpoint.config.quantization:
        raise OptionError("the source is not quantised: leave dequantize out")
    return dequantized(checkpoint) if dequantize else checkpoint


def _pause_heads(checkpoint: Checkpoint, find: Callable[[], Path], target: Path) -> Checkpoint:
    """The pause heads alone, of another layout of the same model."""
    if checkpoint.config.decoder.pause_heads:
        raise OptionError("the source has pause heads of its own: leave pause_heads_from out")
    folder = find()
    _refuse_overlap(folder, target)
    donor = read_checkpoint(folder, delay=checkpoint.config.delay, prefix=checkpoint.config.prefix)
    if not donor.config.decoder.pause_heads:
        raise CheckpointError(f"{folder} has no pause heads to take")
    donor = dequantized(donor)
    if not _same_model(checkpoint, donor):
        raise CheckpointError(f"{folder} is another model: its pause heads fit only its own decoder")
    return only(donor, _PAUSE_HEADS_WEIGHT)


@on_mlx_thread
def _same_model(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether the weights next to the pause heads are equal: the heads read what those make."""
    if one.config.decoder.transformer != other.config.decoder.transformer:
        return False
    for name in (_NORM_WEIGHT, _HEAD_WEIGHT):
        (_, a), (_, b) = (next(read_tensors(only(part, name), {}, mx.float32)) for part in (one, other))
        if a.shape != b.shape or not mx.array_equal(a, b).item():
            return False
    return True


def _joined_config(parts: Sequence[Checkpoint]) -> SttConfig:
    """The config of the first, with the pause heads of the second where there is one."""
    config, heads = parts[0].config, parts[-1].config
    decoder = replace(config.decoder, pause_heads=heads.decoder.pause_heads, pause_classes=heads.decoder.pause_classes)
    return replace(
        config, decoder=decoder, pause_head=heads.pause_head, pause_threshold=heads.pause_threshold, quantization={}
    )
