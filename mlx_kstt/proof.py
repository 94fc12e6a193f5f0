"""What quantising has cost, as a value: a table for people, JSON for programs.

In: what `prove` has measured. Out: Markdown and JSON. Knows nothing of models and audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .distances import Share


@dataclass(frozen=True, slots=True)
class Figures:
    """What is measured on each model by itself.

    Attributes:
        disk_bytes: of the files that loading reads.
        step_weight_bytes: of the weights that a decoder step reads, in bfloat16 where they are not quantised.
        step_ring_bytes: of the keys and values that it reads at full context, in bfloat16.
        seconds_per_frame: of 80 ms, live, codec and decoder, on this machine.
        text_errors: words in which the transcripts differ from the reference texts, of theirs.
    """

    disk_bytes: int
    step_weight_bytes: int
    step_ring_bytes: int
    seconds_per_frame: float
    text_errors: Share


@dataclass(frozen=True, slots=True)
class Proof:
    """How close the result comes to its source.

    Attributes:
        recordings: heard; the last one perhaps in part.
        seconds: of audio in them.
        machine: that measured.
        forced: positions at which both models find the same text id likeliest, given the source's codes and text.
        forced_text: the same, of those where the source writes something: most ids are padding.
        free: positions with the same text id where each model follows its own. They are compared frame by frame: a word
            that comes a frame later differs in its ids, though not in the transcript.
        kl_mean, kl_max: divergence of the result's text distribution from the source's, in nats per frame, given the
            source's codes and text.
        codes: codes of the codecs that are equal.
        word_errors: words in which the transcripts differ as they are written, of the source's.
        source, result: what each is by itself.
    """

    recordings: int
    seconds: float
    machine: str
    forced: Share
    forced_text: Share
    free: Share
    kl_mean: float
    kl_max: float
    codes: Share
    word_errors: Share
    source: Figures
    result: Figures

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Proof:
        """The opposite of `to_dict`."""
        shares = {name: Share(**raw[name]) for name in ("forced", "forced_text", "free", "codes", "word_errors")}
        sides = {name: _figures(raw[name]) for name in ("source", "result")}
        return cls(**{**raw, **shares, **sides})

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A table, and how it was measured."""
        rows = [("", "source", "result"), ("---", "---:", "---:"), *self._shared_rows(), *self._own_rows()]
        return "\n".join([*(f"| {' | '.join(map(str, row))} |" for row in rows), "", self._method()])

    def _shared_rows(self) -> list[tuple[object, ...]]:
        return [
            ("token agreement, teacher-forced", "", self.forced),
            ("token agreement, where the source writes text", "", self.forced_text),
            ("token agreement, free-running", "", self.free),
            ("KL divergence per frame, mean", "", f"{self.kl_mean:.2g} nats"),
            ("KL divergence per frame, maximum", "", f"{self.kl_max:.2g} nats"),
            ("same codes", "", self.codes),
            ("word error rate against the source's transcript", "", self.word_errors),
        ]

    def _own_rows(self) -> list[tuple[object, ...]]:
        sides = (self.source, self.result)
        errors = ("word error rate against the reference text", *(side.text_errors for side in sides))
        return [
            *([errors] if self.source.text_errors.whole else []),
            ("on disk", *(_megabytes(side.disk_bytes) for side in sides)),
            ("weights read per step", *(_megabytes(side.step_weight_bytes) for side in sides)),
            ("keys and values read per step", *(_megabytes(side.step_ring_bytes) for side in sides)),
            ("time per frame of 80 ms", *(f"{1000 * side.seconds_per_frame:.2f} ms" for side in sides)),
        ]

    def _method(self) -> str:
        heard = f"{self.recordings} recording{'s' * (self.recordings != 1)}"
        return (
            f"Measured on {self.machine} with {self.seconds:.1f} s of audio in {heard}. "
            "Teacher-forced: both models are given the source's codes and text. "
            "Free-running: each follows its own text, and ids are compared frame by frame, so that a word that comes a "
            "frame later counts although the transcript is the same. "
            "Words are compared with the reference text without case and punctuation, with the source's transcript as "
            "they are written. What a step reads is counted with bfloat16 for all that is not quantised."
        )


def _figures(raw: Mapping[str, Any]) -> Figures:
    return Figures(**{**raw, "text_errors": Share(**raw["text_errors"])})


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
