"""One speaker's words, pauses and turns from what a row says: times, labels, and what is left at the end."""

from __future__ import annotations

import pytest
from scripted_engine import LIKELY, UNLIKELY, ScriptedTokenizer, scripted_config

from mlx_kstt.config import PAD, WORD_START
from mlx_kstt.engine import Said
from mlx_kstt.events import EndOfTurn, Event, Partial, Pause, Word
from mlx_kstt.lane import Lane, LaneState
from mlx_kstt.options import StreamOptions

LOUD, QUIET = -20.0, -90.0
PAUSES = (LIKELY,) * 4


def lane(name: str | None = None, *, delay: int = 0, prefix: float = 0.0, heads: int = 4, **options: float) -> Lane:
    config = scripted_config(delay, prefix=prefix, heads=heads)
    return Lane(config, ScriptedTokenizer(), StreamOptions(**options), name)  # type: ignore[arg-type]


def said(id: int = PAD, *, pause: bool = False) -> Said:
    return Said(id, 0.0, PAUSES if pause else (UNLIKELY,) * 4)


def hear(lane: Lane, frames: list[tuple[Said, float]], state: LaneState | None = None) -> tuple[list[Event], LaneState]:
    """All events; position 0 needs no sound."""
    events: list[Event] = []
    if state is None:
        _, state = lane.read(said(), LaneState())
    for row, level in frames:
        new, state = lane.hear(row, level, state)
        events += new
        if lane.ends_turn(state):
            state = lane.wait_for_end(state)
    return events, state


def silence(frames: int) -> list[tuple[Said, float]]:
    return [(said(pause=True), QUIET)] * frames


def spoken(*ids: int) -> list[tuple[Said, float]]:
    return [(said(id), LOUD) for id in ids]


def test_words_pauses_and_turns_have_the_times_of_their_sound() -> None:
    events, _ = hear(lane(), [*spoken(PAD, 5, PAD, 6), *silence(9)])
    assert events == [
        Partial("w5", 0.08),
        Word("w5", 0.08, 0.24, 1.0),
        Partial("w6", 0.24),
        Pause(0.4, PAUSES),
        Word("w6", 0.24, 0.4, 1.0),
        EndOfTurn(0.4, "w5 w6"),
    ]


def test_all_times_begin_at_the_start_that_was_asked_for_and_the_prefix_is_before_it() -> None:
    plain, _ = hear(lane(), [*spoken(PAD, 5, PAD, 6), *silence(9)])
    later, _ = hear(lane(start=100.0), [*spoken(PAD, 5, PAD, 6), *silence(9)])
    after_prefix, _ = hear(lane(prefix=0.8), [*silence(10), *spoken(PAD, 5, PAD, 6), *silence(9)])
    assert [time_of(event) for event in later] == pytest.approx([time_of(event) + 100 for event in plain])
    assert after_prefix == plain


def time_of(event: Event) -> float:
    assert isinstance(event, Word | Partial | Pause | EndOfTurn)
    return event.time if isinstance(event, Pause | EndOfTurn) else event.start


def test_text_before_the_sound_begins_at_its_beginning_and_words_stay_apart() -> None:
    events, _ = hear(lane(delay=6, start=50.0), spoken(5, 6, 7, PAD, PAD))
    assert [event.start for event in events if isinstance(event, Word)] == [50.0, 50.08]


def test_every_event_has_the_label() -> None:
    ann = lane("Ann")
    events, state = hear(ann, [*spoken(5, PAD, WORD_START), *silence(20), *spoken(6)])
    last, _ = ann.finish(3.0, state)
    assert {type(event) for event in events + last} == {Word, Partial, Pause, EndOfTurn}
    assert {event.lane for event in events + last} == {"Ann"}


def test_the_turn_waits_for_its_words_and_leaves_later_ones_to_the_next() -> None:
    """A delay of 6 frames: the pause is felt at once, and the text of 0.48 s ago still comes."""
    frames = [*spoken(PAD, PAD), *silence(5), *[(said(id, pause=True), QUIET) for id in (5, PAD, PAD, PAD)]]
    late = lane(delay=6)
    _, state = late.read(said(), LaneState())
    state = state._replace(turn=state.turn._replace(loud=1))
    events, state = hear(late, [*frames, *spoken(PAD, 6, PAD), *silence(9)], state)
    assert [event for event in events if isinstance(event, EndOfTurn)] == [EndOfTurn(0.24, "w5")]
    last, _ = late.finish(1.5, state)
    assert last == [EndOfTurn(1.2, "w6")]


def test_at_the_end_comes_the_open_word_and_the_last_turn() -> None:
    plain = lane()
    events, state = hear(plain, spoken(PAD, 5, 205))
    assert [event for event in events if isinstance(event, Word)] == []
    last, state = plain.finish(0.21, state)
    assert last == [Word("w5x205", 0.08, 0.32, 1.0), EndOfTurn(0.21, "w5x205")]
    assert plain.finish(0.21, state)[0] == [], "once"


def test_where_nothing_was_said_nothing_ends() -> None:
    plain = lane()
    _, state = hear(plain, [*spoken(*[PAD] * 30), *silence(40)])
    assert plain.finish(5.6, state)[0] == []


def test_without_heads_a_pause_begins_where_the_sound_ended() -> None:
    events, _ = hear(lane(heads=0), [(row._replace(pauses=()), level) for row, level in [*spoken(5), *silence(20)]])
    assert [event for event in events if isinstance(event, Pause | EndOfTurn)] == [
        Pause(0.16, ()),
        EndOfTurn(0.16, "w5"),
    ]


def test_frames_that_nobody_heard_move_the_words_behind_them() -> None:
    plain = lane()
    _, state = hear(plain, [*spoken(5, PAD), *silence(9)])
    events, _ = hear(plain, [*spoken(6, PAD), *silence(3)], plain.moved(1000, state))
    assert [event for event in events if isinstance(event, Word)] == [Word("w6", 80.88, 81.04, 1.0)]
