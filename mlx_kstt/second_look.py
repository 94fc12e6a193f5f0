"""One row of the model by itself: ahead of the sound, or once more over what it has heard.

In: a row's state, and what its lane remembers. Out: what the lane knows then. The stream's own state stays as it is.
Knows nothing of where sound comes from, of other rows, or of when to look.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from .config import FRAME_SAMPLES, frames_in
from .engine import BLOCK, Engine, EngineState
from .events import Event, Word
from .lane import Lane, LaneState
from .mlx_thread import is_abandoned
from .options import TAIL
from .settled import replace_revised
from .words import PADS_THAT_END_A_WORD


def ahead(
    engine: Engine, temperature: float, delay: float, lane: Lane, one: EngineState, state: LaneState
) -> tuple[Word, ...] | None:
    """The words that are still to come when the sound ends here: silence, in a burst, on a fork.

    Ends when the delay is over and the last word has not gone on for as long as ends one. None where nobody waits any
    more.
    """
    least, most = frames_in(delay), frames_in(delay + TAIL)
    words: tuple[Word, ...] = ()
    block, heard = least + PADS_THAT_END_A_WORD, 0
    while heard < most and not (heard >= least and lane.has_told_its_word(state)):
        block = min(block, BLOCK, most - heard)
        codes, one = engine.hear(np.zeros((1, block * FRAME_SAMPLES), np.float32), one)
        for t in range(block):
            if is_abandoned():
                return None
            # Here, and not in a function: whoever holds the old state makes the step copy its rings.
            answer, one = engine.follow(codes[:, t : t + 1], temperature, one)
            events, state = lane.read(engine.read(answer, one)[0], state)
            words = _with_revisions(words, events)
            heard += 1
            if heard >= least and lane.has_told_its_word(state):
                break
    return _with_revisions(words, lane.close_word(state)[0])


def again(
    engine: Engine, temperature: float, codes: Sequence[np.ndarray], lane: Lane, one: EngineState, state: LaneState
) -> tuple[list[Event], EngineState, LaneState] | None:
    """Frames' codes (codebooks,) once more, by a decoder that starts afresh.

    Args:
        engine, temperature, lane, one: the model and its row.
        codes: of the frames.
        state: of the lane, at the position where the decoder starts.

    Returns:
        the new events, the row with its new decoder, and the lane's state; None where nobody waits any more.
    """
    answer, one = engine.restart(temperature, one)
    events, state = lane.read(engine.read(answer, one)[0], state)
    for frame in codes:
        if is_abandoned():
            return None
        answer, one = engine.follow(mx.array(frame)[None, None], temperature, one)
        more, state = lane.read(engine.read(answer, one)[0], state)
        events = [*events, *more]
    return lane.labelled(events), one, state


def _with_revisions(words: tuple[Word, ...], events: Sequence[Event]) -> tuple[Word, ...]:
    for event in events:
        if isinstance(event, Word):
            words = replace_revised(words, event)
    return words
