"""A finished transcript and its text formats: txt, srt, vtt, tsv, json, jsonl.

In: events as they come, and the duration. Out: what is final of them, and strings. Knows nothing of audio, models or
files.
Every time that is written is a whole number of milliseconds, rounded once from the event's seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from .events import EndOfTurn, Event, Gap, Partial, Pause, Word, event_to_dict, time_of
from .subtitles import DEFAULT_RULES, Cue, SubtitleRules, label, make_cues, milliseconds, one_line, runs

E = TypeVar("E", bound=Event)

_SECONDS = ("start", "end", "time")
_DIGITS = 4  # of a probability: more than the model's own arithmetic holds in bfloat16


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one source.

    Attributes:
        events: the final Words, Pauses, EndOfTurns, Gaps and Refreshes, in the order in which they came.
        duration: seconds of audio.
        warning: one sentence, where the source broke off before its end.
    """

    events: tuple[Event, ...]
    duration: float
    warning: str | None = None

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all speakers, by the time at which they start."""
        return tuple(_in_time(self.events, Word))

    @property
    def text(self) -> str:
        """The words with single spaces between them."""
        return " ".join(word.text for word in self.words)

    def to_txt(self, *, paragraph_gap: float = 2.0) -> str:
        """The text; a new line where a silence exceeds paragraph_gap seconds or the lane, "Name: ", changes."""
        lines = (label(run[0].lane) + " ".join(word.text for word in run) for run in runs(self.words, paragraph_gap))
        return "".join(f"{line}\n" for line in lines)

    def to_srt(self, rules: SubtitleRules = DEFAULT_RULES) -> str:
        """SubRip. It has no escape for its own arrow, so "-->" within a text is written as "→"."""
        return "\n".join(_srt_cue(number, cue) for number, cue in enumerate(make_cues(self.words, rules), 1))

    def to_vtt(self, rules: SubtitleRules = DEFAULT_RULES) -> str:
        """WebVTT, a lane as the cue's voice. Cues and lines are those of to_srt."""
        return "\n".join(["WEBVTT\n", *(_vtt_cue(cue) for cue in make_cues(self.words, rules))])

    def to_tsv(self) -> str:
        """A header, and one word per row: start and end (milliseconds), text, confidence, and lane if any has one."""
        lanes = any(word.lane is not None for word in self.words)
        rows = ["start\tend\ttext\tconfidence" + "\tlane" * lanes]
        for word in self.words:
            cells = [
                milliseconds(word.start),
                milliseconds(word.end),
                one_line(word.text),
                f"{word.confidence:.{_DIGITS}f}",
            ]
            cells += [one_line(word.lane or "")] * lanes
            rows.append("\t".join(map(str, cells)))
        return "".join(f"{row}\n" for row in rows)

    def to_json(self, *, source: str | None = None) -> str:
        """One object: text, duration, words, pauses, turns, gaps, and warning where there is one. Times are seconds.

        Args:
            source: the name to put first, as "source", where the transcripts of several sources go together.
        """
        head = {} if source is None else {"source": source}
        tail = {} if self.warning is None else {"warning": self.warning}
        lists = {
            name: [_fields(event) for event in _in_time(self.events, kind)]
            for name, kind in (("words", Word), ("pauses", Pause), ("turns", EndOfTurn), ("gaps", Gap))
        }
        times = {"duration": milliseconds(self.duration) / 1000}
        return json.dumps(head | {"text": self.text} | times | lists | tail, ensure_ascii=False, indent=2) + "\n"

    def to_jsonl(self, *, source: str | None = None) -> str:
        """One object per line and event, named by its `type`; `source` as in to_json, in every line."""
        head = {} if source is None else {"source": source}
        return "".join(json.dumps(head | event_record(event), ensure_ascii=False) + "\n" for event in self.events)


class FinalEvents:
    """What is final in one session: no unfinished words, and a revised word in the place of its first version."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._places: dict[tuple[str | None, float], int] = {}  # of words, by lane and start

    def add(self, events: Iterable[Event]) -> None:
        """Take in what is told next."""
        for event in events:
            if isinstance(event, Word):
                place = self._places.setdefault((event.lane, event.start), len(self._events))
                self._events[place : place + 1] = [event]
            elif not isinstance(event, Partial):
                self._events.append(event)

    @property
    def events(self) -> tuple[Event, ...]:
        """In the order in which they first came."""
        return tuple(self._events)


def _in_time(events: Iterable[Event], kind: type[E]) -> list[E]:
    chosen = [event for event in events if isinstance(event, kind)]
    return sorted(chosen, key=time_of)


def event_record(event: Event) -> dict[str, object]:
    """The event as a JSON object, as jsonl has it: times in seconds to the millisecond."""
    return {name: _rounded(name, value) for name, value in event_to_dict(event).items()}


def _fields(event: Event) -> dict[str, object]:
    return {name: value for name, value in event_record(event).items() if name != "type"}


def _rounded(name: str, value: object) -> object:
    """Seconds to milliseconds, probabilities to a few digits, the rest as it is."""
    if isinstance(value, float):
        return milliseconds(value) / 1000 if name in _SECONDS else round(value, _DIGITS)
    if isinstance(value, tuple):
        return [round(item, _DIGITS) for item in value]
    return value


def _clock(time: int, mark: str) -> str:
    """Milliseconds as hours (two digits or more), minutes, seconds, and milliseconds after the mark."""
    seconds, millis = divmod(time, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{millis:03}"


def _srt_cue(number: int, cue: Cue) -> str:
    text = (label(cue.lane) + "\n".join(cue.lines)).replace("-->", "→")
    return f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{text}\n"


def _vtt_cue(cue: Cue) -> str:
    voice = "" if cue.lane is None else f"<v {_vtt_escaped(cue.lane)}>"
    text = voice + "\n".join(map(_vtt_escaped, cue.lines))
    return f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n"


def _vtt_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
