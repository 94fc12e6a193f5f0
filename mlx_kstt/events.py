"""What a stream says: words, the unfinished word, pauses, ends of turns, gaps and fresh starts.

In: nothing. Out: frozen values. Knows nothing of tokens, models or formats.
All times are seconds from the first sample of the user's audio.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A finished word.

    A later Word with the same start (and lane) is a revision: it replaces this one. Two different words never share
    a start.

    Attributes:
        text: the word, with its punctuation, without surrounding spaces.
        start: seconds.
        end: seconds, never before start.
        confidence: geometric mean of the probabilities of the word's pieces, 0 to 1.
        lane: the speaker's label where several channels are transcribed, else None.
    """

    text: str
    start: float
    end: float
    confidence: float
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """The unfinished word so far. Its text only grows."""

    text: str
    start: float
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """The speaker has just paused.

    Attributes:
        time: seconds of audio heard when the pause began.
        probabilities: of no speech within the next 0.5, 1, 2 and 3 s (one per pause head of the checkpoint; none where
            the pause was told by the sound's energy).
    """

    time: float
    probabilities: tuple[float, ...]
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """The speaker has finished.

    Attributes:
        time: seconds of audio heard when the pause began.
        text: the words of the turn.
    """

    time: float
    text: str
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Audio that was lost between start and end (seconds), and why."""

    start: float
    end: float
    reason: str
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """The decoder was started afresh, and has heard again what it needs: no word is lost or told twice.

    Attributes:
        time: seconds of audio heard.
        reason: one sentence.
    """

    time: float
    reason: str
    lane: str | None = None


Event = Word | Partial | Pause | EndOfTurn | Gap | Refresh

_TYPES: dict[type, str] = {
    Word: "word",
    Partial: "partial",
    Pause: "pause",
    EndOfTurn: "end_of_turn",
    Gap: "gap",
    Refresh: "refresh",
}


def event_to_dict(event: Event) -> dict[str, object]:
    """The event as a JSON object: a `type` and its fields; a lane of None is left out."""
    fields = {name: value for name, value in asdict(event).items() if not (name == "lane" and value is None)}
    return {"type": _TYPES[type(event)], **fields}


def time_of(event: Event) -> float:
    """When it begins, or happens."""
    return event.start if isinstance(event, Word | Partial | Gap) else event.time
