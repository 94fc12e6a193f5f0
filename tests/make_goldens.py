"""Writes tests/golden: what transformers says to the random models and to the tiny one.

In: the specs of random_models.py, the recordings, and `../shared/tiny/trfs` beside the repository. Out: one npz file
per model. Run by hand (`python tests/make_goldens.py`, with the `oracle` extra) when a spec changes; the tests only
read. Before it writes, it makes sure that the answers mean something: the codebooks are used, no choice is a near-tie,
and leaving out a mask, a window or a padding changes the answers by more than the tests forgive.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from golden_files import GOLDEN, TINY_RECORDINGS, fingerprint, read_recording, sound, teacher_text
from layouts import SPECS, Spec, write_layout
from random_models import pause_head_tensors
from transformers_reference import Reference, additive, window

TINY = Path(__file__).parents[2] / "shared" / "tiny" / "trfs"
# The tests forgive 0.1 % of codes and 1e-4 of logits.
CODES_MUST_CHANGE, LOGITS_MUST_CHANGE, NEAR_TIE = 0.002, 0.01, 1e-4


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for spec in SPECS:
        with TemporaryDirectory() as folder:
            reference = Reference(write_layout(Path(folder) / "trfs", spec, "trfs"))
            np.savez_compressed(GOLDEN / f"{spec.name}.npz", allow_pickle=False, **answers(spec, reference))
            check_shards(spec, reference, Path(folder))
    np.savez_compressed(GOLDEN / "tiny.npz", allow_pickle=False, **tiny_answers(Reference(TINY)))


def answers(spec: Spec, reference: Reference) -> dict[str, np.ndarray]:
    """What the random model of `spec` says to its sound, after all checks."""
    pcm = sound(spec)
    codes, tokens = reference.codes(pcm), reference.tokens(pcm)
    if not np.array_equal(codes, reference.streamed_codes(pcm)):
        raise ValueError("transformers' streamed codes differ from its whole-file codes")
    text = teacher_text(spec)
    logits = reference.logits(codes, text)
    check_codebooks(spec, codes)
    check_tokens(spec, reference, codes, tokens)
    check_codec(spec, reference, pcm, codes)
    check_decoder(spec, reference, codes, text)
    return {
        "codes": codes.astype(np.uint16),
        "tokens": tokens.astype(np.uint16),
        "logits": logits,
        "pauses": pauses(spec, reference, codes, tokens),
        "fingerprint": np.array(fingerprint(spec)),
    }


def tiny_answers(reference: Reference) -> dict[str, np.ndarray]:
    """What the tiny model says to recordings; of the long one's logits every eighth."""
    said: dict[str, np.ndarray] = {}
    for name, every in TINY_RECORDINGS.items():
        pcm = read_recording(name)
        codes, tokens = reference.codes(pcm), reference.tokens(pcm)
        said[f"{name} codes"] = codes.astype(np.uint16)
        said[f"{name} tokens"] = tokens.astype(np.uint16)
        said[f"{name} logits"] = reference.logits(codes, tokens[:-1])[::every]
    return said


def pauses(spec: Spec, reference: Reference, codes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Pause probabilities (frames + 1, heads) along the greedy text, by heads put on transformers' hidden states."""
    hidden = reference.hidden(codes, tokens[:-1])
    heads = torch.from_numpy(np.stack(list(pause_head_tensors(spec).values())))
    return torch.einsum("td,hcd->thc", hidden, heads).softmax(dim=-1)[..., 0].numpy()


def check_codebooks(spec: Spec, codes: np.ndarray) -> None:
    """Each codebook's perplexity is at least a third of what it can be."""
    for k, column in enumerate(codes.T):
        share = np.bincount(column) / len(column)
        perplexity = np.exp(-np.sum(share[share > 0] * np.log(share[share > 0])))
        if perplexity < min(spec.card, spec.frames) / 3:
            raise ValueError(f"{spec.name}: codebook {k} is hardly used (perplexity {perplexity:.1f})")


def check_tokens(spec: Spec, reference: Reference, codes: np.ndarray, tokens: np.ndarray) -> None:
    """The greedy text is varied, runs 60 frames past the window, and no choice is close."""
    best = np.sort(reference.logits(codes, tokens[:-1]), axis=1)[:, -2:]
    margin = np.min(best[:, 1] - best[:, 0]) / np.max(best)
    distinct = len(set(tokens.tolist()))
    print(f"{spec.name}: {distinct} distinct ids in {len(tokens)}, smallest margin {margin:.1e}")
    start_row = reference.model.lm_head.weight[reference.start]
    if start_row.any() or np.min(best[:, 1]) <= 0:
        raise ValueError(f"{spec.name}: the start id, with its logit of 0, must be there and must not win")
    if margin < NEAR_TIE or distinct < 40 or spec.frames < spec.context + 60:
        raise ValueError(f"{spec.name}: the greedy text is no fair test")


def check_codec(spec: Spec, reference: Reference, pcm: np.ndarray, codes: np.ndarray) -> None:
    """Wrong masks, windows, padding and activation give other codes."""
    positions, context = 2 * spec.frames, spec.codec.context
    distance = np.arange(positions)[:, None] - np.arange(positions)
    wrong = {
        "the first of a pair sees the second": mask_codec(reference, window(positions, context) | (distance == -1)),
        "no mask": mask_codec(reference, np.ones((positions, positions), bool)),
        "no window": mask_codec(reference, window(positions, positions)),
        "a window of one more": mask_codec(reference, window(positions, context + 1)),
        "a window of one less": mask_codec(reference, window(positions, context - 1)),
        "zeros before the downsampling": pad_with_zeros(reference),
        "a codebook of sums": without_usage(reference),
        # A model of one layer and few codes cannot tell.
        **({"an approximate GELU": approximate_gelu(reference)} if spec.codec.layers > 1 else {}),
    }
    for name, patched in wrong.items():
        with patched:
            changed = np.mean(reference.codes(pcm) != codes)
        print(f"{spec.name}: codec, {name}: {changed:.2%} of codes change")
        if changed < CODES_MUST_CHANGE:
            raise ValueError(f"{spec.name}: {name} would go unnoticed")


def check_decoder(spec: Spec, reference: Reference, codes: np.ndarray, text: np.ndarray) -> None:
    """Wrong windows give other logits."""
    right, positions = reference.logits(codes, text), spec.frames + 1
    for name, context in (("no window", positions), ("one more", spec.context + 1), ("one less", spec.context - 1)):
        other = reference.logits(codes, text, window(positions, context))
        change = np.max(np.abs(other - right)) / np.max(np.abs(right))
        print(f"{spec.name}: decoder, {name}: logits change by {change:.2%}")
        if change < LOGITS_MUST_CHANGE:
            raise ValueError(f"{spec.name}: {name} would go unnoticed")


def check_shards(spec: Spec, reference: Reference, folder: Path) -> None:
    """transformers reads the sharded folder, with its older config, as the same model."""
    sharded = Reference(write_layout(folder / "sharded", spec, "trfs-sharded"))
    pcm, text = sound(spec), teacher_text(spec)
    codes = reference.codes(pcm)
    same = np.array_equal(codes, sharded.codes(pcm))
    if not (same and np.array_equal(reference.logits(codes, text), sharded.logits(codes, text))):
        raise ValueError(f"{spec.name}: the shards are another model")


@contextmanager
def mask_codec(reference: Reference, visible: np.ndarray) -> Iterator[None]:
    """The codec's transformer with a mask of its own."""
    transformer = reference.model.codec_model.encoder.encoder_transformer
    forward = transformer.forward
    transformer.forward = partial(forward, attention_mask=additive(visible))
    yield
    transformer.forward = forward


@contextmanager
def pad_with_zeros(reference: Reference) -> Iterator[None]:
    """The downsampling padded like every other convolution."""
    downsample = reference.model.codec_model.encoder.downsample
    downsample.pad_mode = "constant"
    yield
    downsample.pad_mode = "replicate"


@contextmanager
def approximate_gelu(reference: Reference) -> Iterator[None]:
    """The activation that moshi_mlx has."""
    layers = reference.model.codec_model.encoder.encoder_transformer.layers
    exact = layers[0].mlp.activation_fn
    for layer in layers:
        layer.mlp.activation_fn = torch.nn.GELU(approximate="tanh")
    yield
    for layer in layers:
        layer.mlp.activation_fn = exact


@contextmanager
def without_usage(reference: Reference) -> Iterator[None]:
    """Codebook sums taken for codebook entries."""
    quantizer = reference.model.codec_model.quantizer
    branches = (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer)
    codebooks = [layer.codebook for branch in branches for layer in branch.layers]
    for codebook in codebooks:
        codebook._embed = codebook.embed_sum
    yield
    for codebook in codebooks:
        codebook._embed = None


if __name__ == "__main__":
    main()
