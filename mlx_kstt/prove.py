"""Measure what quantising has cost: a model and what was made of it, on the same recordings.

In: two loaders, recordings. Out: a `Proof`. One model is in memory at a time; the source's logits stay (frames x
vocabulary x 4 bytes). Knows nothing of how the result was made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from .checkpoints import Checkpoint
from .config import FRAME_SAMPLES, PAD, SttConfig
from .distances import Share, equal_share, kl_divergence, plain_words, word_edits
from .hub import CONFIG
from .mlx_thread import on_mlx_thread
from .proof import Figures, Proof
from .samples import Excerpt, Sample, read_excerpts, shortened
from .sizes import step_bytes
from .tokenizer import Tokenizer
from .transcriber import Transcriber

FLOAT_BYTES = 2
"""Of each value that is not quantised, as a decoder runs on a GPU."""

_WARM_UP, _TIMED = 5, 20  # frames
_PASSES = 2  # over each frame: a free one, and a teacher-forced one that costs at most as much


class Heard(NamedTuple):
    """What a model makes of n frames."""

    codes: np.ndarray  # (n, codebooks) int32
    tokens: np.ndarray  # (n + 1,) int32: its own, greedy
    logits: np.ndarray  # (n + 1, vocabulary) float32: given the source's codes and tokens

    def first(self, frames: int) -> Heard:
        """What it had made of the first of them."""
        return Heard(self.codes[:frames], self.tokens[: frames + 1], self.logits[: frames + 1])


class _Measured(NamedTuple):
    config: SttConfig
    tokenizer: Tokenizer
    seconds_per_frame: float
    excerpts: list[Excerpt]
    heard: list[Heard]


def prove(
    load_source: Callable[[], Transcriber],
    load_result: Callable[[], Transcriber],
    samples: Sequence[Sample],
    *,
    disk_bytes: tuple[int, int],
    seconds_limit: float = 300.0,
    announce: Callable[[str], None],
) -> Proof:
    """Compare two models on the same recordings.

    Args:
        load_source, load_result: called once each; the source is dropped before the result is loaded.
        samples: recordings.
        disk_bytes: of the source and of the result, see `disk_bytes`.
        seconds_limit: that it may take, by an estimate on the safe side; where all recordings would take longer, only
            the first part of them is used, but never less than 2 s of audio.
        announce: called with a sentence where recordings are left out.

    Raises:
        AudioError: a recording cannot be read.
        OptionError: there is no recording.
    """
    end = perf_counter() + seconds_limit

    def on_cut(seconds: float) -> None:
        announce(f"the proof uses the first {seconds:.1f} s of audio: more would take over {seconds_limit:g} s in all")

    def choose(config: SttConfig, frames: float) -> list[Excerpt]:
        return shortened(read_excerpts(samples, config, frames), config, frames, on_cut)

    def choose_again(config: SttConfig, frames: float) -> list[Excerpt]:
        return shortened(source.excerpts, config, frames, on_cut)

    # Until the result is loaded it counts as fast as the source.
    source = _measure(load_source, choose, (), lambda: (end - perf_counter()) / 2)
    result = _measure(load_result, choose_again, source.heard, lambda: end - perf_counter())
    heard = [whole.first(excerpt.frames) for whole, excerpt in zip(source.heard, result.excerpts, strict=False)]
    return _compare(source._replace(excerpts=result.excerpts, heard=heard), result, disk_bytes)


def disk_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of the files that loading reads: weights, tokenizer and config."""
    tokenizer = checkpoint.tokenizer
    return sum(path.stat().st_size for path in (*checkpoint.weights, tokenizer, tokenizer.parent / CONFIG))


def seconds_per_frame(stt: Transcriber) -> float:
    """Seconds that codec and decoder take for a frame of 80 ms, live.

    The median over frames of noise that are pushed into an open stream one at a time, after a few that warm up. The
    attention rings have their full size from the first frame on, so that a frame costs the same at any time.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, (_WARM_UP + _TIMED, FRAME_SAMPLES)).astype(np.float32)
    stream, times = stt.open(), [perf_counter()]
    for frame in noise:
        stream.push(frame)
        times.append(perf_counter())
    return float(np.median(np.diff(times)[_WARM_UP:]))


def hear(stt: Transcriber, excerpt: Excerpt, given: Heard | None = None) -> Heard:
    """What a model makes of an excerpt; `given` is what the source makes of it, None for the source itself."""
    codes = stt.encode(excerpt.sound)
    tokens = stt.generate(codes=codes)
    frames = excerpt.frames
    given_codes, given_tokens = (codes, tokens) if given is None else (given.codes[:frames], given.tokens)
    return Heard(codes, tokens, stt.forward(given_codes, given_tokens[:frames]))


def forced_shares(source: Iterable[np.ndarray], result: Iterable[np.ndarray]) -> tuple[Share, Share]:
    """Positions at which both logits have the same maximum: of all, and of those where the source writes text."""
    ours, theirs = (np.concatenate([logits.argmax(-1) for logits in side]) for side in (source, result))
    return equal_share(ours, theirs), equal_share(ours[ours > PAD], theirs[ours > PAD])


def forced_divergence(source: Iterable[np.ndarray], result: Iterable[np.ndarray]) -> np.ndarray:
    """`kl_divergence` at all positions."""
    return np.concatenate([kl_divergence(*logits) for logits in zip(source, result, strict=True)])


def _measure(
    load: Callable[[], Transcriber],
    choose: Callable[[SttConfig, float], list[Excerpt]],
    given: Sequence[Heard],
    seconds_left: Callable[[], float],
) -> _Measured:
    """One model's part. `choose` is told for how many frames there is time."""
    stt = load()
    seconds = seconds_per_frame(stt)
    excerpts = choose(stt.config, max(0.0, seconds_left()) / (_PASSES * seconds))
    heard = [hear(stt, excerpt, *given[i : i + 1]) for i, excerpt in enumerate(excerpts)]
    measured = _Measured(stt.config, stt.tokenizer, seconds, excerpts, heard)
    del stt
    free_memory()
    return measured


@on_mlx_thread
def free_memory() -> None:
    """Give back the memory of a model that nobody holds any more."""
    gc.collect()  # an engine and its steps hold each other
    mx.clear_cache()


def _compare(source: _Measured, result: _Measured, disk_bytes: tuple[int, int]) -> Proof:
    logits = [[heard.logits for heard in side.heard] for side in (source, result)]
    codes, tokens = (_same([heard[field] for heard in side.heard] for side in (source, result)) for field in (0, 1))
    forced, forced_text = forced_shares(*logits)
    divergence = forced_divergence(*logits)
    transcripts = [[text.split() for text in _transcripts(side)] for side in (source, result)]
    return Proof(
        recordings=len(result.excerpts),
        seconds=sum(excerpt.seconds for excerpt in result.excerpts),
        machine=_machine(),
        forced=forced,
        forced_text=forced_text,
        free=tokens,
        kl_mean=float(divergence.mean()),
        kl_max=float(divergence.max()),
        codes=codes,
        word_errors=_word_errors(zip(*transcripts, strict=True)),
        source=_figures(source, disk_bytes[0]),
        result=_figures(result, disk_bytes[1]),
    )


def _same(sides: Iterable[Sequence[np.ndarray]]) -> Share:
    return equal_share(*map(np.concatenate, sides))


def _figures(side: _Measured, disk_bytes: int) -> Figures:
    step = step_bytes(side.config, FLOAT_BYTES)
    pairs = [
        (plain_words(excerpt.text), plain_words(text))
        for excerpt, text in zip(side.excerpts, _transcripts(side), strict=True)
        if excerpt.text is not None
    ]
    return Figures(disk_bytes, step.weights, step.rings, side.seconds_per_frame, _word_errors(pairs))


def _transcripts(side: _Measured) -> list[str]:
    return [side.tokenizer.decode(heard.tokens) for heard in side.heard]


def _word_errors(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Share:
    """Word edits from what was said to what was heard, of the words that were said."""
    pairs = list(pairs)
    return Share(sum(word_edits(said, heard) for said, heard in pairs), sum(len(said) for said, _ in pairs))


@on_mlx_thread
def _machine() -> str:
    return str(mx.device_info()["device_name"])
