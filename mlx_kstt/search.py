"""The smallest recipe that keeps enough of the source's text ids, found by measuring.

In: a checkpoint with full weights, the share of ids to keep, recordings. Out: a plan, and the tables it was decided
from. Knows nothing of how a plan is measured.

First a uniform format is searched for, from few bits to many. Then each attention and each feed-forward part is
quantised alone in the next smaller format; those that lose most by it for the bytes that it saves keep the larger one.
How many do is found by bisection. Every recipe is run as a whole, so the chosen one has been measured itself. Agreement
wavers by a few ids between neighbours, so a mixture that nobody tried can be smaller still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .checkpoints import Checkpoint
from .config import DecoderConfig
from .errors import CheckpointError, OptionError
from .quantization import Plan, QuantFormat, Recipe, uniform
from .samples import Sample
from .trials import Trial, Trials

BITS = (2, 3, 4, 5, 6, 8)
"""Of the uniform formats: affine, in groups of 64, or of 32 where 64 does not divide the inputs of a layer."""


@dataclass(frozen=True, slots=True)
class Part:
    """An attention or feed-forward part, alone in the smaller format.

    Attributes:
        trial: of it alone; all else has full weights.
        saved_bytes: per step, by the smaller format instead of the larger one.
    """

    trial: Trial
    saved_bytes: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was chosen, and why.

    Attributes:
        target: share of positions that had to agree.
        chosen: the smallest of the recipes that reach it.
        recipes: all that were run, in that order.
        parts: of the decoder, the most sensitive first; empty where the smallest format will do everywhere.
    """

    target: float
    chosen: Trial
    recipes: tuple[Trial, ...]
    parts: tuple[Part, ...]

    @property
    def recipe(self) -> Recipe:
        """The chosen one, for `load` and `convert`."""
        return self.chosen.plan.get

    def to_markdown(self) -> str:
        """The tables it was decided from, and the decision."""
        tables = [_table(("recipe", "weights read per step"), ((trial, trial.step_bytes) for trial in self.recipes))]
        if self.parts:
            parts = ((part.trial, part.saved_bytes) for part in self.parts)
            tables.append(_table(("one part alone", "saved per step"), parts))
        chosen = f"{self.chosen.name}, which keeps {self.chosen.agreement}"
        return "\n\n".join([*tables, f"Chosen to keep {100 * self.target:g} % of the text ids: {chosen}."])


def search(
    checkpoint: Checkpoint, target: float, samples: Sequence[Sample], announce: Callable[[str], None]
) -> SearchResult:
    """Find the smallest recipe whose teacher-forced token agreement meets a target.

    Args:
        checkpoint: with full weights.
        target: share of positions, above 0 and at most 1.
        samples: recordings to measure with.
        announce: called with a sentence on each trial.

    Raises:
        AudioError: a recording cannot be read.
        CheckpointError: the checkpoint is quantised.
        OptionError: no recipe reaches the target, or there is no recording.
    """
    if not 0 < target <= 1:
        raise OptionError(f"the token agreement to reach is {target}; it must be above 0 and at most 1")
    if checkpoint.config.quantization:
        raise CheckpointError("the checkpoint is quantised already: search with the one that it was made of")
    decoder = checkpoint.config.decoder
    plans = {bits: _uniform_plan(decoder, bits) for bits in BITS}
    trials = Trials(checkpoint, samples, announce)
    recipes = _climb(trials, plans, target)
    if len(recipes) == 1:
        return SearchResult(target, recipes[0], tuple(recipes), ())
    small, large = BITS[len(recipes) - 2 : len(recipes)]
    parts = _by_sensitivity(trials, small, plans[small], plans[large], decoder.transformer.layers)
    mixed = _bisect(trials, f"{small} bits, {large}", plans[large], [part.trial.plan for part in parts], target)
    reaching = [trial for trial in (recipes[-1], *mixed) if trial.agreement.rate >= target]
    chosen = min(reaching, key=lambda trial: trial.step_bytes)
    return SearchResult(target, chosen, (*recipes, *mixed), tuple(parts))


def _uniform_plan(decoder: DecoderConfig, bits: int) -> Plan:
    inputs = decoder.layers()
    return decoder.plan(lambda name: uniform(QuantFormat(bits, 32 if inputs[name] % 64 else 64))(name))


def _climb(trials: Trials, plans: Mapping[int, Plan], target: float) -> list[Trial]:
    """Uniform recipes from the smallest up to the first that reaches the target.

    Raises:
        OptionError: none does.
    """
    done: list[Trial] = []
    for bits, plan in plans.items():
        done.append(trials.run(f"{bits} bits", plan))
        if done[-1].agreement.rate >= target:
            return done
    best = max(done, key=lambda trial: trial.agreement.rate)
    raise OptionError(
        f"no recipe keeps {100 * target:g} % of the text ids, the best ({best.name}) keeps {best.agreement}: "
        "lower the target, or leave the weights as they are"
    )


def _by_sensitivity(trials: Trials, bits: int, small: Plan, large: Plan, layers: int) -> list[Part]:
    """Each part alone in the smaller format: first those that lose most for each byte that they save."""
    parts = []
    for i in range(layers):
        for name in ("attention", "mlp"):
            start = f"decoder.transformer.layers.{i}.{name}."
            plan = {layer: format for layer, format in small.items() if layer.startswith(start)}
            saved = trials.step_bytes(large) - trials.step_bytes({**large, **plan})
            parts.append(Part(trials.run(f"layer {i} {name}, {bits} bits", plan), saved))
    return sorted(parts, key=lambda part: part.trial.divergence / part.saved_bytes, reverse=True)


def _bisect(trials: Trials, name: str, large: Plan, small: Sequence[Plan], target: float) -> list[Trial]:
    """Recipes run to find how few of the first parts must keep the large format; `small` has the other one by part."""
    done: list[Trial] = []
    too_few, enough = 0, len(small)
    while enough - too_few > 1:
        kept = (too_few + enough) // 2
        plan = dict(large)
        for part in small[kept:]:
            plan |= part
        done.append(trials.run(f"{name} in {kept} of {len(small)} parts", plan))
        if done[-1].agreement.rate >= target:
            enough = kept
        else:
            too_few = kept
    return done


def _table(heads: tuple[str, str], rows: Iterable[tuple[Trial, int]]) -> str:
    lines = [f"| {heads[0]} | {heads[1]} | token agreement | KL divergence per frame |", "| --- | ---: | ---: | ---: |"]
    for trial, size in rows:
        lines.append(f"| {trial.name} | {size / 1e6:.2f} MB | {trial.agreement} | {trial.divergence:.2g} nats |")
    return "\n".join(lines)
