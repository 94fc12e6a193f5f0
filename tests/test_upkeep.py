"""Fresh decoders: in pauses after a while, and where there is speech without text. No word is lost or told twice."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import LONG_RECORDINGS
from scripted_engine import (
    Row,
    ScriptedEngine,
    final_words,
    frame,
    frame_by_frame,
    scripted_config,
    scripted_stream,
    silence,
    sound,
    speech,
)
from test_tiny import errors

import mlx_kstt
from mlx_kstt import Event, Refresh, Stream, Transcriber, Word
from mlx_kstt.engine import Engine, EngineState, Heard, Said
from mlx_kstt.lane import LaneState
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.options import StreamOptions
from mlx_kstt.upkeep import KEPT_FRAMES, SecondLook, Upkeep
from mlx_kstt.words import WordBuilder, WordState


def spans(events: list[Event], lane: str | None = None) -> list[tuple[str, float]]:
    return [(word.text, word.start) for word in final_words(events, lane)]


def heard(stream: Stream, pcm: np.ndarray, size: int = 9_600) -> list[Event]:
    events = [event for start in range(0, len(pcm), size) for event in stream.push(pcm[start : start + size])]
    return events + stream.flush()


def refreshes(events: list[Event]) -> list[Refresh]:
    return [event for event in events if isinstance(event, Refresh)]


def talk(words: int, first: int = 0) -> np.ndarray:
    """A word every 4 frames."""
    return np.concatenate([sound(4 + (first + i) % 150, 3, 3, 3) for i in range(words)])


TURNS = sound(*[part for i in range(12) for part in (talk(6, 6 * i), silence(14))])
"""A pause of 1.12 s after every 1.92 s of speech."""


# By hand.


def upkeep(delay: int = 6, **options: float) -> Upkeep:
    return Upkeep(scripted_config(delay), StreamOptions(**options))  # type: ignore[arg-type]


def test_without_options_nothing_is_due_and_nothing_kept() -> None:
    assert upkeep().due(LaneState(age=10**6, unheard=10**6), pause=20, frames=10**6, kept=750) is None
    assert not upkeep().keeps_codes
    stream = scripted_stream()
    stream.push(TURNS)
    assert stream.snapshot().rows.kept == ()


def test_a_refresh_is_due_in_a_pause_that_is_long_enough_once_the_decoder_is_old_enough() -> None:
    rules, old = upkeep(refresh=8.0), LaneState(age=100)
    look = SecondLook(490, "refreshed in a pause after 0.1 min")
    assert rules.due(old, pause=10, frames=500, kept=750) == look
    assert rules.due(old, pause=8, frames=500, kept=750) is None, "words may still come: 6 of delay, and 3 to end one"
    assert rules.due(old, pause=0, frames=500, kept=750) is None
    assert rules.due(old._replace(age=99), pause=10, frames=500, kept=750) is None
    assert rules.due(old, pause=10, frames=500, kept=9) == look._replace(first=491), "as far as it can be heard again"


def test_a_rescue_waits_twice_as_long_each_time_and_hears_what_is_kept() -> None:
    rules = upkeep(rescue=4.0)
    for rescues, frames in ((0, 50), (1, 100), (2, 200), (3, 400), (4, 800), (8, 12_800)):
        state = LaneState(unheard=frames - 1, unheard_from=2000, rescues=rescues)
        assert rules.due(state, pause=0, frames=3000, kept=750) is None
        look = rules.due(state._replace(unheard=frames), pause=0, frames=3000, kept=750)
        assert look is not None and look.first >= 2250
    assert KEPT_FRAMES == 750


# Refreshes of a scripted decoder.


@pytest.mark.parametrize("heads", [4, 0])
@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("prefix", [0.0, 0.8])
def test_refreshed_words_are_the_same(heads: int, ahead: bool, prefix: float) -> None:
    options: dict[str, Any] = {"heads": heads, "ahead": ahead, "prefix": prefix}
    expected = spans(heard(scripted_stream(**options), TURNS))
    engine = ScriptedEngine(6, heads=heads)
    told = frame_by_frame(scripted_stream(engine, refresh=8.0, **options), TURNS)
    assert spans([event for _, event in told]) == expected
    found = [(at, event) for at, event in told if isinstance(event, Refresh)]
    assert engine.restarts == len(found) == 4
    for at, refresh in found:
        assert at % 38 == (33 if heads else 34), "9 frames into a pause, which the sound tells from the tenth on"
        assert refresh.time == pytest.approx(at * 0.08)
        assert re.fullmatch(r"refreshed in a pause after 0\.[12] min", refresh.reason)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_word_whose_text_comes_late_is_not_lost_by_a_refresh(ahead: bool) -> None:
    """A decoder that writes 3 frames later than its delay: still within what real ones do after long words."""
    pcm = sound(talk(30), 5, silence(40))
    options: dict[str, Any] = {"ahead": ahead, "turn_hold": 1.0}
    expected = spans(heard(scripted_stream(ScriptedEngine(9), **options), pcm))
    stream = scripted_stream(ScriptedEngine(9), refresh=5.0, **options)
    events = heard(stream, pcm)
    assert len(refreshes(events)) == 1
    assert spans(events) == expected


@pytest.mark.parametrize("ahead", [True, False])
def test_a_refresh_in_a_pause_that_only_the_model_feels_does_not_cut_a_word(ahead: bool) -> None:
    """The pause head fires in the middle of a long word, for longer than a refresh waits."""
    felt = [frame(203 if i == 0 else 3, pause=True) for i in range(16)]
    pcm = sound(talk(30), 5, *felt, talk(4), silence(20))
    expected = spans(heard(scripted_stream(ahead=ahead), pcm))
    assert ("w5x203", 9.6) in expected
    events = heard(scripted_stream(refresh=5.0, ahead=ahead), pcm)
    assert refreshes(events)
    assert spans(events) == expected


@pytest.mark.parametrize("late", [1, 2])
def test_a_fresh_decoder_that_writes_later_repeats_no_word(late: int) -> None:
    """Speech in the felt pause: it is told by the old decoder, and heard again by the fresh one."""
    felt = [frame(id, pause=True) for id in (3, 6, 3, 3, 3, 3, 3, 7, 3, 3, 3, 8, 3, 3, 3, 3)]
    pcm = sound(talk(20), *felt, talk(4), silence(20))
    for hold in (0.08, 0.32, 0.64):
        expected = spans(heard(scripted_stream(turn_hold=hold, ahead=False), pcm))
        engine = ScriptedEngine(6, late_after_restart=late)
        events = heard(scripted_stream(engine, refresh=5.0, turn_hold=hold), pcm)
        assert [text for text, _ in spans(events)] == [text for text, _ in expected], f"hold {hold}"
        assert len(refreshes(events)) >= 1


# Rescues of a scripted decoder.


@pytest.mark.parametrize("silent_after", [100, 103, 109])
@pytest.mark.parametrize("delay", [6, 31])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_what_a_silent_decoder_missed_is_heard_again(silent_after: int, delay: int, late: int) -> None:
    """Also what it had heard and not yet written, which is more the longer the delay."""
    pcm = sound(talk(60), silence(50))
    expected = spans(heard(scripted_stream(delay=delay, ahead=False), pcm))
    engine = ScriptedEngine(delay, silent_after={0: silent_after}, late_after_restart=late)
    told = frame_by_frame(scripted_stream(engine, delay=delay, rescue=4.0, turn_hold=10.0), pcm[: 220 * 1920])
    events = [event for _, event in told]
    found = [(at, event) for at, event in told if isinstance(event, Refresh)]
    assert 1 <= len(found) <= 2, "the fresh decoder falls silent at the same age"
    assert found[0][0] == pytest.approx(silent_after + 50, abs=5)
    assert found[0][1].time == pytest.approx(found[0][0] * 0.08)
    assert found[0][1].reason.startswith("no word for ") and found[0][1].reason.endswith(" s of sound")
    expected = [(text, start) for text, start in expected if start < 11]
    words = spans(events)[: len(expected)]
    assert [text for text, _ in words] == [text for text, _ in expected]
    assert [start for _, start in words] == pytest.approx([start for _, start in expected], abs=0.08 * late + 1e-6)


def test_a_healthy_decoder_is_not_rescued_while_its_first_words_are_in_the_delay() -> None:
    """A delay of 2.48 s, and a rescue after 2 s: so much sound without text is nothing to worry about."""
    engine = ScriptedEngine(31)
    events = heard(scripted_stream(engine, delay=31, rescue=2.0), sound(talk(20), silence(60), talk(20), silence(60)))
    assert engine.restarts == 0
    assert len(spans(events)) == 40


def test_music_is_heard_again_ever_more_rarely_and_what_is_kept_is_bounded() -> None:
    engine = ScriptedEngine(6)
    stream = scripted_stream(engine, rescue=4.0)
    told = frame_by_frame_of_music(stream, 5000)
    gaps = np.diff([0, *[at for at, _ in told]]).tolist()
    assert gaps == [50, 100, 200, 400, 800, 1600]
    assert len(stream.snapshot().rows.kept) == 750
    assert engine.followed <= 1 + 5000 + 5000 + 5 * 10, "as much work again at most"
    assert [text for text, _ in spans(stream.push(talk(3)) + stream.flush())] == ["w4", "w5", "w6"]


def frame_by_frame_of_music(stream: Stream, frames: int) -> list[tuple[int, Event]]:
    return [(at + 1, event) for at in range(frames) for event in stream.push(frame())]


def test_after_a_word_the_next_rescue_comes_early_again() -> None:
    stream = scripted_stream(rescue=4.0)
    pcm = sound(speech(200), 5, speech(60))
    times = [refresh.time for refresh in refreshes(heard(stream, pcm))]
    assert times == pytest.approx([4.0, 12.0, (207 + 50) * 0.08])


# Two lanes: the other one notices nothing.


def scripted_rows(stream: Stream) -> tuple[Row, ...]:
    state: Any = stream.snapshot().rows.engine
    return state.rows


@pytest.mark.parametrize(("option", "reason"), [({"rescue": 4.0}, "no word"), ({"refresh": 8.0}, "refreshed")])
def test_the_other_lane_notices_nothing(option: dict[str, Any], reason: str) -> None:
    left = sound(talk(40), silence(20), talk(20), silence(20))
    right = sound(talk(48, 70), silence(20), talk(20, 70), np.zeros(8 * 1920, np.float32))[: len(left)]
    both = np.stack([left, right], axis=1)
    silent = {0: 100} if "rescue" in option else {}
    alone = heard(scripted_stream(ahead=False), right)
    stream = scripted_stream(ScriptedEngine(6, silent_after=silent), lanes=("Ann", "Bob"), **option)
    events = stream.push(both)
    rows = scripted_rows(stream)
    plain = scripted_stream(ScriptedEngine(6), lanes=("Ann", "Bob"))
    plain.push(both)
    events += stream.flush()
    assert spans(events, "Bob") == spans(alone)
    if "rescue" in option:
        assert rows[1] == scripted_rows(plain)[1]
        assert {event.lane for event in refreshes(events)} == {"Ann"}
    else:
        assert {event.lane for event in refreshes(events)} == {"Ann", "Bob"}
    assert all(event.reason.startswith(reason) for event in refreshes(events))
    assert spans(events, "Ann") == spans(heard(scripted_stream(ahead=False), left))


# The real model.


class Muted:
    """An engine whose decoder says nothing from a position on, until it is started afresh.

    Args:
        engine: the real one.
        row: that falls silent.
        after: position.
    """

    def __init__(self, engine: Engine, row: int, after: int) -> None:
        self._engine, self._row, self._after = engine, row, after
        self.open, self.hear, self.follow = engine.open, engine.hear, engine.follow

    def restart(self, temperature: float, state: EngineState) -> tuple[Heard, EngineState]:
        self._after = 10**9
        return self._engine.restart(temperature, state)

    def read(self, heard: Heard, state: EngineState) -> list[Said]:
        said = self._engine.read(heard, state)
        if state.positions > self._after and len(said) > self._row:
            said[self._row] = said[self._row]._replace(id=3)
        return said


def muted(stt: Transcriber, after: int, *, row: int = 0, **options: Any) -> Stream:
    engine: Any = Muted(stt._engine, row, after)
    return Stream(engine, stt.config, stt.tokenizer, StreamOptions(**options))


@pytest.fixture(scope="module")
def long() -> np.ndarray:
    return soundfile.read(LONG_RECORDINGS / "long_en-us.flac", dtype="float32")[0]


@pytest.fixture(scope="module")
def with_pauses(tiny, long) -> np.ndarray:
    """Its first 20 s, with 1.5 s of silence in breaths between its words; whole frames."""
    pcm = long[: 20 * 24_000]
    words = tiny.transcribe(pcm).words
    parts, last = [], 0
    for before, after in pairwise(words):
        middle = round((before.end + after.start) * 12_000)
        if after.start - before.end >= 0.2 and middle - last >= 5 * 24_000:
            parts += [pcm[last:middle], np.zeros(36_000, np.float32)]
            last = middle
    assert len(parts) >= 4
    pcm = np.concatenate([*parts, pcm[last:]])
    return pcm[: len(pcm) // 1920 * 1920]


@pytest.mark.parametrize("prefix", [None, 0.8])
def test_the_long_recording_survives_its_refreshes(with_pauses, prefix: float | None) -> None:
    """Each fresh decoder may hear a word in a hundred otherwise, or a frame earlier or later."""
    stt = mlx_kstt.load("tiny", dtype="float32", prefix=prefix)
    expected = stt.transcribe(with_pauses).words
    stream = stt.open(refresh=6.0)
    events = heard(stream, with_pauses)
    found = refreshes(events)
    words = final_words(events)
    assert len(found) >= 2
    assert errors([word.text for word in expected], [word.text for word in words]) <= len(found)
    same = {word.text: word for word in words}
    for word in expected:
        if word.text in same and sum(w.text == word.text for w in (*expected, *words)) == 2:
            assert same[word.text].start == pytest.approx(word.start, abs=0.17)
    for refresh in found:
        assert all(not word.start + 0.1 < refresh.time - 0.4 < word.end - 0.1 for word in expected), "in a pause"
    frames = stream.snapshot().rows.frames
    offset = int(np.array(stream.snapshot().rows.engine.decoder.offset)[0])
    assert offset < frames / 2, "positions begin anew"


def test_after_a_refresh_the_words_are_those_of_a_fresh_decoder_on_the_kept_codes(tiny, with_pauses) -> None:
    """To the id: one refresh, then the ids of `generate` over the codes from the pause on."""
    pcm = with_pauses
    stream = tiny._open(StreamOptions(refresh=6.0, ahead=False))
    looked: list[SecondLook] = []
    due = stream._rows._upkeep.due
    stream._rows._upkeep.due = lambda *at: looked.append(look) or look if (look := due(*at)) else None  # type: ignore[method-assign]
    told = frame_by_frame(stream, pcm)
    at = [n for n, event in told if isinstance(event, Refresh)]
    first, end = looked[0].first, at[1] if len(at) > 1 else len(pcm) // 1920
    codes = tiny.encode(np.concatenate([pcm, np.zeros(36_000, np.float32)]))
    ids = tiny.generate(codes=codes[first:end])
    builder, state = WordBuilder(tiny.tokenizer, tiny.config.delay, 0.0), WordState(position=first)
    expected: list[Event] = []
    for id in ids:
        new, state = builder.step(int(id), 0.0, state)
        expected += [event for event in new if isinstance(event, Word)]
    last = max(event.start for n, event in told if isinstance(event, Word) and 0 <= n < at[0])
    words = [event for n, event in told if isinstance(event, Word) and at[0] <= n <= end]
    assert len(words) >= 8
    assert [(word.text, word.start) for word in words] == [(t, s) for t, s in spans(expected) if s > last + 0.2]


@pytest.mark.parametrize("after", [60, 75, 83, 97])
def test_a_decoder_that_falls_silent_in_mid_word_or_between_words_is_rescued(tiny, long, after: int) -> None:
    """No word that was told comes again in part, and none that was begun stays half."""
    pcm = long[: 12 * 24_000]
    expected = [word.text for word in tiny.transcribe(pcm).words]
    events = heard(muted(tiny, after, rescue=3.0), pcm)
    assert len(refreshes(events)) == 1
    assert [word.text for word in final_words(events)] == expected


@on_mlx_thread
def states_of_row(stream: Stream, row: int) -> list[np.ndarray]:
    engine = stream.snapshot().rows.engine
    return [np.array(x) for ring in engine.decoder.rings for x in (ring.keys[row], ring.values[row])] + [
        np.array(engine.decoder.offset[row]),
        np.array(engine.text[row]),
    ]


def test_a_rescue_of_one_lane_leaves_the_other_as_it_was_bit_for_bit(tiny, long) -> None:
    both = np.stack([long[: 8 * 24_000], long[20 * 24_000 : 28 * 24_000]], axis=1)
    lanes = ("Ann", "Bob")
    rescued, plain = muted(tiny, 50, rescue=3.0, lanes=lanes), tiny.open(lanes=lanes)
    events, expected = rescued.push(both), plain.push(both)
    assert {event.lane for event in refreshes(events)} == {"Ann"}
    assert [event for event in events if event.lane == "Bob"] == [event for event in expected if event.lane == "Bob"]
    for one, other in zip(states_of_row(rescued, 1), states_of_row(plain, 1), strict=True):
        assert np.array_equal(one, other)
    own = states_of_row(rescued, 0)[-2], states_of_row(plain, 0)[-2]
    assert own[0] < own[1]
