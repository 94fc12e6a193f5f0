"""The search for the smallest recipe: on the bundled model, and on models whose losses are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from mlx.utils import tree_flatten
from test_tiny import TAIL

import mlx_kstt
from mlx_kstt import CheckpointError, OptionError, search
from mlx_kstt.checkpoints import BUNDLED, Checkpoint, read_checkpoint
from mlx_kstt.distances import Share
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.quantization import HEAD, PAUSE_HEADS, Plan, QuantFormat
from mlx_kstt.samples import default_samples
from mlx_kstt.trials import Trial, Trials

# isort: split
import mlx.core as mx

SAMPLES = default_samples()[:2]
PARTS = [f"layer {i} {name}" for i in range(4) for name in ("attention", "mlp")]


def silent(message: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The bundled model's."""
    return read_checkpoint(BUNDLED["tiny"], delay=None, prefix=None)


@pytest.fixture(scope="module")
def found(checkpoint) -> search.SearchResult:
    """Measured: 2 bits keep 86 of 143 ids, 3 bits 137, 2 bits with 3 in half of the parts 133."""
    return search.search(checkpoint, 0.9, SAMPLES, silent)


def test_the_chosen_recipe_reaches_the_target_when_it_is_loaded(recordings, found) -> None:
    """Measured anew, with the public interface."""
    source, result, same = mlx_kstt.load("tiny"), mlx_kstt.load("tiny", quantize=found.recipe), []
    for recording in recordings[:2]:
        pcm = np.concatenate([recording.sound(), TAIL])
        pcm = np.pad(pcm, (0, -len(pcm) % 1920))
        codes, tokens = source.encode(pcm), source.generate(pcm)
        ours, theirs = (stt.forward(codes, tokens[:-1]).argmax(-1) for stt in (source, result))
        same += (ours == theirs).tolist()
    assert found.chosen.agreement == Share(sum(same), len(same))
    assert sum(same) / len(same) >= 0.9


def test_the_chosen_recipe_is_a_mixture_smaller_than_the_uniform_one(found) -> None:
    uniform = [trial for trial in found.recipes if " in " not in trial.name]
    assert [trial.agreement.rate >= 0.9 for trial in uniform] == [False] * (len(uniform) - 1) + [True]
    assert uniform[-2].step_bytes < found.chosen.step_bytes < uniform[-1].step_bytes
    assert len({format.bits for name, format in found.chosen.plan.items() if name not in (HEAD, PAUSE_HEADS)}) == 2
    assert {found.chosen.plan[name] for name in (HEAD, PAUSE_HEADS)} == {QuantFormat(8, 64)}
    assert found.chosen.step_bytes == min(x.step_bytes for x in found.recipes if x.agreement.rate >= 0.9)


def test_parts_are_ordered_by_what_they_lose_for_a_byte(found) -> None:
    losses = [part.trial.divergence / part.saved_bytes for part in found.parts]
    assert losses == sorted(losses, reverse=True) and losses[0] > 5 * losses[-1] > 0
    assert sorted(part.trial.name.split(",")[0] for part in found.parts) == PARTS
    assert all(len(part.trial.plan) == 2 for part in found.parts)
    # One bit less of 3 x 192 x 192 + 192 x 192 and of 2 x 512 x 192 + 512 x 192 weights.
    assert {part.saved_bytes * 8 for part in found.parts} == {4 * 192 * 192, 3 * 512 * 192}


def test_the_tables_say_what_was_run(found) -> None:
    recipes, parts, sentence = found.to_markdown().split("\n\n")
    for table, head, rows in ((recipes, "| recipe |", found.recipes), (parts, "| one part alone |", found.parts)):
        lines = table.split("\n")
        assert lines[0].startswith(head) and len(lines) == 2 + len(rows)
        assert {line.count("|") for line in lines} == {5}
    chosen = found.chosen
    row = f"| {chosen.name} | {chosen.step_bytes / 1e6:.2f} MB | {chosen.agreement} | {chosen.divergence:.2g} nats |"
    assert row in recipes.split("\n")
    assert sentence == f"Chosen to keep 90 % of the text ids: {chosen.name}, which keeps {chosen.agreement}."


def test_every_trial_is_announced(checkpoint) -> None:
    news: list[str] = []
    result = search.search(checkpoint, 0.4, SAMPLES[:1], news.append)
    assert news == [f"2 bits: {result.chosen.agreement} of the text ids are the source's"]
    assert (len(result.recipes), result.parts) == (1, ())


@pytest.mark.parametrize("plan", [{}, {HEAD: QuantFormat(8, 32, "mxfp8"), "decoder.embedding": QuantFormat(4, 64)}])
def test_a_trial_is_what_loading_with_its_plan_gives(checkpoint, plan: Plan) -> None:
    trials = Trials(checkpoint, SAMPLES[:1], silent)

    @on_mlx_thread
    def differences() -> list[str]:
        loaded = [stt._engine for stt in (trials.load(plan), mlx_kstt.load("tiny", quantize=plan.get))]
        ours, theirs = (dict(tree_flatten([e._codec.parameters(), e._decoder.parameters()])) for e in loaded)
        assert ours.keys() == theirs.keys()
        return [name for name in ours if not mx.array_equal(ours[name], theirs[name]).item()]

    assert differences() == []


@dataclass
class KnownLosses:
    """In the place of `Trials`: parts lose so many of 10,000 ids for each bit below 5; an mlp is twice as large."""

    losses: Mapping[str, int]

    def run(self, name: str, plan: Plan) -> Trial:
        lost = 0
        for part, loss in self.losses.items():
            _, layer, kind = part.split()
            format = plan.get(
                f"decoder.transformer.layers.{layer}.{kind}." + ("qkv" if kind == "attention" else "down")
            )
            lost += loss * max(0, 5 - format.bits) if format else 0
        return Trial(name, plan, Share(10_000 - lost, 10_000), lost / 1000, self.step_bytes(plan))

    def step_bytes(self, plan: Plan) -> int:
        return sum(1000 * format.bits * (1 + ("mlp" in name)) for name, format in plan.items())


@pytest.fixture
def search_known(checkpoint, monkeypatch) -> Callable[..., search.SearchResult]:
    """A search among parts with known losses."""

    def run(target: float, *losses: int, checkpoint: Checkpoint = checkpoint) -> search.SearchResult:
        monkeypatch.setattr(search, "Trials", lambda *_: KnownLosses(dict(zip(PARTS, losses, strict=True))))
        return search.search(checkpoint, target, SAMPLES, silent)

    return run


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (0.672, []),
        (0.6721, [7]),
        (0.8907, [7]),
        (0.8908, [6, 7]),
        (0.9879, [5, 6, 7]),
        (0.99, [4, 5, 6, 7]),
        (0.9999, [1, 2, 3, 4, 5, 6, 7]),
        (1.0, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_fewest_parts_that_reach_the_target_keep_5_bits(search_known, target: float, kept: list[int]) -> None:
    """Losses of 1, 3, .. 2187 of 10,000, in all 3280; without the largest 1093, and so on."""
    plan = search_known(target, *(3**i for i in range(8))).chosen.plan
    starts = [f"decoder.transformer.layers.{i // 2}.{('attention', 'mlp')[i % 2]}." for i in range(8)]
    bits = [{format.bits for name, format in plan.items() if name.startswith(start)} for start in starts]
    assert bits == [{5 if i in kept else 4} for i in range(8)]


def test_what_is_large_must_lose_more_to_keep_its_bits(search_known) -> None:
    """Attention parts lose 2 and 3 and mlp parts 3 and 7, which for their bytes is 1.5 and 3.5."""
    parts = search_known(0.999, 2, 3, 0, 0, 3, 7, 0, 0).parts
    names = ["layer 2 mlp", "layer 2 attention", "layer 0 attention", "layer 0 mlp"]
    assert [part.trial.name for part in parts[:4]] == [f"{name}, 4 bits" for name in names]


def test_layers_that_64_does_not_divide_have_groups_of_32(search_known, checkpoint, monkeypatch) -> None:
    config = checkpoint.config
    narrow = replace(config.decoder, transformer=replace(config.decoder.transformer, dim=96))
    monkeypatch.setattr(search, "BITS", (5,))
    odd = replace(checkpoint, config=replace(config, decoder=narrow))
    plan = search_known(1.0, *[0] * 8, checkpoint=odd).chosen.plan
    assert plan["decoder.transformer.layers.1.attention.qkv"] == QuantFormat(5, 32)
    assert plan["decoder.transformer.layers.1.mlp.down"] == QuantFormat(5, 64)
    assert plan[HEAD] == QuantFormat(8, 32)


def test_what_no_recipe_reaches_is_refused_with_the_best(search_known, monkeypatch) -> None:
    monkeypatch.setattr(search, "BITS", (2, 3, 4))
    message = (
        r"no recipe keeps 99 % of the text ids, the best \(4 bits\) keeps 98.70 % \(9870 of 10000\): lower the target"
    )
    with pytest.raises(OptionError, match=message):
        search_known(0.99, 100, 10, 10, 10, 0, 0, 0, 0)


def test_a_quantised_checkpoint_is_refused(checkpoint) -> None:
    config = replace(checkpoint.config, quantization={HEAD: QuantFormat(8, 64)})
    with pytest.raises(CheckpointError, match="the checkpoint is quantised already: search with the one"):
        search.search(replace(checkpoint, config=config), 0.9, SAMPLES, silent)


@pytest.mark.parametrize("target", [-1, 0, 1.001, 99])
def test_a_target_that_is_no_share_is_refused(checkpoint, target: float) -> None:
    with pytest.raises(OptionError, match=f"the token agreement to reach is {target}; it must be above 0"):
        search.search(checkpoint, target, SAMPLES, silent)
