"""An engine without a model: what it writes and when it pauses stands in the sound itself.

In: sound made by `frame` and `sound`. Out: text ids `delay` frames later and pause probabilities, as
`mlx_kstt.engine.Engine` gives them, in a few microseconds a frame. Needs NumPy only.

A frame of sound is constant. Its size says the text id: 0.1 + id / 1000, where silence says PAD; id PAD is speech
without text. Its sign says whether a pause is felt: negative is speech in which the model believes in a pause; silence
is a pause from its `pause_lag`-th frame on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlx_kstt.config import FRAME_RATE, FRAME_SAMPLES, PAD, DecoderConfig, MimiConfig, SttConfig, TransformerConfig
from mlx_kstt.engine import Said
from mlx_kstt.events import Event, Word
from mlx_kstt.options import StreamOptions
from mlx_kstt.stream import Stream

WORDS, PIECES = range(4, 200), range(200, 300)
"""Ids that begin a word, and ids that go on with one."""
LIKELY, UNLIKELY = 0.9, 0.1
"""Pause probabilities."""
SILENT = 2 * PAD + 1
"""Code of a silent frame."""
_HEADS = 4

Rule = Callable[[tuple[int, ...]], int]
"""The id to write, from the codes of the last frames, newest last: twice the id, plus one where a pause is felt."""


class ScriptedTokenizer:
    """Ids to words: 5 is "w5", and 205 adds "x205"."""

    size = PIECES.stop

    def piece(self, id: int) -> str:
        return f"▁w{id}" if id in WORDS else f"x{id}" if id in PIECES else ""

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.piece(id) for id in ids).replace("▁", " ").removeprefix(" ")

    def encode(self, text: str) -> list[int]:
        raise AssertionError("streams never encode")


class Row(NamedTuple):
    """What is remembered of a row."""

    name: int  # its number when the stream was opened
    codes: tuple[int, ...]  # of the last frames that the decoder has heard
    age: int = 0  # positions since the decoder was started
    quiet: int = 0  # silent frames in succession
    late: int = 0  # frames by which it writes later than the first decoder


class ScriptedState(NamedTuple):
    """The rows, with the arithmetic that `Rows` expects of an engine's state."""

    rows: tuple[Row, ...]
    frames: int = 0  # encoded
    positions: int = 0

    def row(self, index: int) -> ScriptedState:
        return self if len(self.rows) == 1 else self._replace(rows=self.rows[index : index + 1])

    def with_decoder_of(self, one: ScriptedState, index: int) -> ScriptedState:
        return self._replace(rows=(*self.rows[:index], one.rows[0], *self.rows[index + 1 :]))


class ScriptedEngine:
    """Plays what the sound says.

    Args:
        delay: frames between a word's sound and the position before its text.
        write: replaces the rule that an id is written once it is `delay` frames old.
        pause_lag: silent frames from which a pause is felt.
        heads: of the pause probabilities; 0 for a checkpoint without.
        silent_after: positions after which a row's decoder falls silent, until it is started afresh; for the rows of
            a stream by number.
        late_after_restart: frames by which a decoder that was started afresh writes later than the first one.
    """

    def __init__(
        self,
        delay: int,
        *,
        write: Rule | None = None,
        pause_lag: int = 1,
        heads: int = _HEADS,
        silent_after: Mapping[int, int] | None = None,
        late_after_restart: int = 0,
    ) -> None:
        self._delay = delay
        self._write = write
        self._pause_lag = pause_lag
        self._likely, self._unlikely = (LIKELY,) * heads, (UNLIKELY,) * heads
        self._silent_after = dict(silent_after or {})
        self._late = late_after_restart
        self._start = (PAD * 2,) * (delay + late_after_restart + 8)
        self.heard = self.followed = self.restarts = 0  # frames and positions worked on, for tests of effort

    def open(self, rows: int, temperature: float, seed: int) -> tuple[list[Said], ScriptedState]:
        return self._started(ScriptedState(tuple(Row(name, self._start) for name in range(rows))))

    def restart(self, temperature: float, state: ScriptedState) -> tuple[list[Said], ScriptedState]:
        self.restarts += 1
        rows = tuple(Row(row.name, self._start, late=self._late) for row in state.rows)
        return self._started(state._replace(rows=rows, positions=0))

    def hear(self, sound: np.ndarray, state: ScriptedState) -> tuple[np.ndarray, ScriptedState]:
        """Codes (B, n, 1)."""
        frames = sound.shape[1] // FRAME_SAMPLES
        self.heard += frames
        means = sound.reshape(len(sound), frames, FRAME_SAMPLES).mean(axis=2)
        sizes = np.abs(means)
        ids = np.where(sizes > 0.05, np.rint((sizes - 0.1) * 1000), PAD).astype(np.int32)
        codes = 2 * ids + (means <= 0)
        return codes[:, :, None].astype(np.int32), state._replace(frames=state.frames + frames)

    def follow(self, codes: Any, temperature: float, state: ScriptedState) -> tuple[list[Said], ScriptedState]:
        self.followed += 1
        newest = np.asarray(codes)[:, 0, 0].tolist()
        rows = tuple([self._next(row, code) for row, code in zip(state.rows, newest, strict=True)])
        said = [self._said(row) for row in rows]
        return said, state._replace(rows=rows, positions=state.positions + 1)

    def read(self, heard: list[Said], state: ScriptedState) -> list[Said]:
        return heard

    def _started(self, state: ScriptedState) -> tuple[list[Said], ScriptedState]:
        """Position 0."""
        rows = tuple(row._replace(age=1) for row in state.rows)
        return [Said(PAD, 0.0, self._unlikely) for _ in rows], state._replace(rows=rows, positions=1)

    def _next(self, row: Row, code: int) -> Row:
        quiet = row.quiet + 1 if code == SILENT else 0
        return Row(row.name, (*row.codes[1:], code), row.age + 1, quiet, row.late)

    def _said(self, row: Row) -> Said:
        id = self._write(row.codes) if self._write else row.codes[-1 - self._delay - row.late] >> 1
        if row.age > self._silent_after.get(row.name, row.age):
            id = PAD
        feels_pause = row.codes[-1] & 1 and not 0 < row.quiet < self._pause_lag
        return Said(id, 0.0, self._likely if feels_pause else self._unlikely)


def frame(id: int | None = PAD, *, pause: bool = False) -> np.ndarray:
    """(1920,) float32: a frame with this id; None is silence."""
    size = 0.0 if id is None else 0.1 + id / 1000
    return np.full(FRAME_SAMPLES, -size if pause else size, np.float32)


def sound(*parts: int | np.ndarray | None) -> np.ndarray:
    """(samples,) float32: frames by their ids (None is silence), and sounds as they are, one after another."""
    return np.concatenate([part if isinstance(part, np.ndarray) else frame(part) for part in parts])


def silence(frames: int) -> np.ndarray:
    return np.zeros(frames * FRAME_SAMPLES, np.float32)


def speech(frames: int, *, pause: bool = False) -> np.ndarray:
    """Speech without text."""
    return np.tile(frame(pause=pause), frames)


def scripted_config(delay: int = 6, *, prefix: float = 0.0, heads: int = _HEADS) -> SttConfig:
    """A model of `delay` frames that says when a word's sound begins to the frame."""
    inner = TransformerConfig(dim=2, layers=1, heads=1, head_dim=2, ffn=2, context=2, rope_base=1e4, norm_eps=1e-5)
    codec = MimiConfig(transformer=inner, codebooks=1, codebook_size=1000)
    decoder = DecoderConfig(inner, PIECES.stop, 1, 1000, pause_heads=heads)
    return SttConfig(codec, decoder, delay / FRAME_RATE, prefix, pause_head=min(2, max(0, heads - 1)))


def scripted_stream(
    engine: ScriptedEngine | None = None,
    *,
    delay: int = 6,
    prefix: float = 0.0,
    heads: int = _HEADS,
    lanes: Sequence[str] = (),
    **options: Any,
) -> Stream:
    """A stream that hears with a scripted engine; options as `Transcriber.open` takes them, and `ahead`."""
    config = scripted_config(delay, prefix=prefix, heads=heads)
    engine = engine or ScriptedEngine(delay, heads=heads)
    return Stream(engine, config, ScriptedTokenizer(), StreamOptions(**options, lanes=tuple(lanes)))  # type: ignore[arg-type]


def frame_by_frame(stream: Stream, pcm: np.ndarray) -> list[tuple[int, Event]]:
    """Each event with the number of frames that had been pushed when it came; -1 is the flush."""
    told = [
        (start // FRAME_SAMPLES + 1, event)
        for start in range(0, len(pcm), FRAME_SAMPLES)
        for event in stream.push(pcm[start : start + FRAME_SAMPLES])
    ]
    return [*told, *[(-1, event) for event in stream.flush()]]


def final_words(events: Iterable[Event], lane: str | None = None) -> list[Word]:
    """The lane's words with their revisions, after a look at the contract: a revision is of the last word, its start is
    the same, and it says something new; every other word starts later than all before.
    """
    words: list[Word] = []
    for event in events:
        if not isinstance(event, Word) or event.lane != lane:
            continue
        if words and event.start == words[-1].start:
            assert event != words[-1], f"told twice: {event}"
            words.pop()
        assert not words or event.start > words[-1].start, f"{event} after {words[-1]}"
        words.append(event)
    return words
