"""The proof: a model against itself, against quantised ones, and what happens where there is no time."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable
from math import exp, fsum, log

import numpy as np
import pytest
import soundfile
from test_tiny import TAIL, errors

import mlx_kstt
from mlx_kstt import AudioError, OptionError, Transcriber, prove
from mlx_kstt.checkpoints import BUNDLED, read_checkpoint
from mlx_kstt.distances import Share
from mlx_kstt.proof import Figures, Proof
from mlx_kstt.quantization import QuantFormat, uniform
from mlx_kstt.samples import Sample, default_samples

SAMPLES = default_samples()


def silent(message: str) -> None:
    """For proofs that have nothing to announce."""
    raise AssertionError(message)


def compare(source: Transcriber, result: Transcriber, samples=SAMPLES, **options) -> Proof:
    """A proof with models that are loaded already."""
    options = {"announce": silent, "disk_bytes": (0, 0)} | options
    return prove.prove(lambda: source, lambda: result, samples, **options)


@pytest.fixture(scope="module")
def quantised() -> Callable[[str], Transcriber]:
    """The bundled model in 2, 4 or 8 bits."""
    models: dict[str, Transcriber] = {}

    def get(name: str) -> Transcriber:
        recipe = uniform(QuantFormat(2, 64)) if name == "q2" else name
        return models.setdefault(name, mlx_kstt.load("tiny", dtype="float32", quantize=recipe))

    return get


@pytest.fixture(scope="module")
def q4_proof(tiny, quantised) -> Proof:
    return compare(tiny, quantised("q4"), SAMPLES[:4], disk_bytes=(2_000_000, 1_000_000))


def test_a_model_is_its_own_equal(tiny) -> None:
    proof = compare(tiny, tiny, SAMPLES[:2])
    assert {share.rate for share in (proof.forced, proof.forced_text, proof.free, proof.codes)} == {1.0}
    assert (proof.kl_mean, proof.kl_max, proof.word_errors.part) == (0, 0, 0)
    assert proof.source.text_errors == proof.result.text_errors == Share(1, 18)
    assert proof.seconds == pytest.approx(3.92 + 4.32)


def test_every_number_is_that_of_an_independent_computation(tiny, quantised) -> None:
    """With ids and logits of the public interface, and the definitions written out, on a result that errs a lot."""
    result, recording = quantised("q2"), SAMPLES[1]
    proof = compare(tiny, result, [recording])
    pcm = np.concatenate([soundfile.read(recording.path, dtype="float32")[0], TAIL])
    pcm = np.pad(pcm, (0, -len(pcm) % 1920))
    codes, tokens, found = tiny.encode(pcm), tiny.generate(pcm), result.generate(pcm)
    p, q = (stt.forward(codes, tokens[:-1]) for stt in (tiny, result))
    same = [int(a.argmax()) == int(b.argmax()) for a, b in zip(p, q, strict=True)]
    text = [same[i] for i in range(len(p)) if p[i].argmax() > 3]
    assert proof.forced == Share(sum(same), len(pcm) // 1920 + 1)
    assert proof.forced_text == Share(sum(text), len(text))
    assert proof.free == Share(sum(a == b for a, b in zip(tokens, found, strict=True)), len(tokens))
    assert proof.codes == Share(codes.size, codes.size)
    divergence = [kl(a.tolist(), b.tolist()) for a, b in zip(p, q, strict=True)]
    assert (proof.kl_mean, proof.kl_max) == pytest.approx((fsum(divergence) / len(p), max(divergence)), rel=1e-9)
    ours, theirs = (stt.transcribe(recording.path).text.split() for stt in (tiny, result))
    said = str(recording.text).split()
    assert proof.word_errors == Share(errors(ours, theirs), len(ours))
    assert proof.source.text_errors == Share(errors(said, ours), len(said))
    assert proof.result.text_errors == Share(errors(said, theirs), len(said))


def kl(source: list[float], result: list[float]) -> float:
    """Divergence of softmax distributions by the definition."""
    p, q = ([exp(x - max(side)) for x in side] for side in (source, result))
    return fsum(a / fsum(p) * log((a / fsum(p)) / (b / fsum(q))) for a, b in zip(p, q, strict=True))


def test_8_bits_change_next_to_nothing(tiny, quantised) -> None:
    """Measured: all 280 ids stay, and 0.00003 nats."""
    proof = compare(tiny, quantised("q8"), SAMPLES[:4])
    assert proof.forced.whole == 280 and proof.forced.part >= 279
    assert proof.forced_text.whole == 53 and proof.free.rate >= 0.97
    assert 1e-6 < proof.kl_mean < 1e-4 and proof.kl_max < 0.01
    assert proof.word_errors.part <= 1


def test_4_bits_change_some_ids(q4_proof) -> None:
    """Measured: 276 of 280 ids stay, free-running 244; 0.008 nats, 0.39 at most; 1 word of 34."""
    assert 0.97 <= q4_proof.forced.rate <= 0.995
    assert 0.75 <= q4_proof.free.rate < q4_proof.forced.rate
    assert 0.004 < q4_proof.kl_mean < 0.016 and 0.1 < q4_proof.kl_max < 1
    assert q4_proof.codes == Share(2208, 2208), "the codec is not quantised"
    assert q4_proof.word_errors.part <= 4 and q4_proof.word_errors.whole == 34


def test_2_bits_break_the_model(tiny, quantised) -> None:
    proof = compare(tiny, quantised("q2"), SAMPLES[:3])
    assert proof.forced.rate < 0.75 and proof.forced_text.rate < 0.2
    assert proof.kl_mean > 1
    assert proof.word_errors.rate > 0.7 and proof.result.text_errors.rate > 0.7


def test_sizes_are_those_of_the_files_and_of_a_step(q4_proof, quantised) -> None:
    """Affine 4 bits in groups of 64 take 4.5 bits per weight, the heads 8.5; 9 embedding rows and 9 norms 16."""
    layers = 4 * (3 * 192 * 192 + 192 * 192 + 192 * 1024 + 512 * 192)
    heads, floats = 192 * (512 + 24), 192 * (9 + 9)
    assert q4_proof.source.step_weight_bytes == 2 * (layers + heads + floats)
    assert q4_proof.result.step_weight_bytes == (4.5 * layers + 8.5 * heads) / 8 + 2 * floats
    assert q4_proof.source.step_ring_bytes == q4_proof.result.step_ring_bytes == 2 * 2 * 4 * 125 * 192
    assert (q4_proof.source.disk_bytes, q4_proof.result.disk_bytes) == (2_000_000, 1_000_000)
    checkpoint = read_checkpoint(BUNDLED["tiny"], delay=None, prefix=None)
    assert prove.disk_bytes(checkpoint) == sum(path.stat().st_size for path in BUNDLED["tiny"].iterdir())


def test_json_gives_the_proof_back(q4_proof) -> None:
    assert Proof.from_dict(json.loads(json.dumps(q4_proof.to_dict()))) == q4_proof


def test_the_table_says_what_the_proof_says() -> None:
    source = Figures(5_234_275_128, 4_949_000_000, 147_500_000, 0.0123456, Share(5, 169))
    result = Figures(1_700_000_000, 1_392_000_000, 147_500_000, 0.00654321, Share(7, 169))
    shares = {"forced": Share(992, 1000), "forced_text": Share(95, 100), "free": Share(9, 10), "codes": Share(8, 8)}
    proof = Proof(
        7,
        28.24,
        "Apple M3",
        **shares,
        kl_mean=0.01234,
        kl_max=1.5,
        word_errors=Share(3, 0),
        source=source,
        result=result,
    )
    lines = proof.to_markdown().split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    assert cells == [
        ["", "source", "result"],
        ["---", "---:", "---:"],
        ["token agreement, teacher-forced", "", "99.20 % (992 of 1000)"],
        ["token agreement, where the source writes text", "", "95.00 % (95 of 100)"],
        ["token agreement, free-running", "", "90.00 % (9 of 10)"],
        ["KL divergence per frame, mean", "", "0.012 nats"],
        ["KL divergence per frame, maximum", "", "1.5 nats"],
        ["same codes", "", "100.00 % (8 of 8)"],
        ["word error rate against the source's transcript", "", "(3 of 0)"],
        ["word error rate against the reference text", "2.96 % (5 of 169)", "4.14 % (7 of 169)"],
        ["on disk", "5234.28 MB", "1700.00 MB"],
        ["weights read per step", "4949.00 MB", "1392.00 MB"],
        ["keys and values read per step", "147.50 MB", "147.50 MB"],
        ["time per frame of 80 ms", "12.35 ms", "6.54 ms"],
    ]
    assert all(re.fullmatch(r"\|( [^|]* \|){3}", line) for line in lines[: lines.index("")])
    assert lines[-1].startswith("Measured on Apple M3 with 28.2 s of audio in 7 recordings.")


def test_without_reference_texts_their_row_is_left_out(tiny) -> None:
    proof = compare(tiny, tiny, [Sample(SAMPLES[0].path)])
    assert proof.source.text_errors == proof.result.text_errors == Share(0, 0)
    assert "reference text |" not in proof.to_markdown()


def test_one_model_is_in_memory_at_a_time(tiny) -> None:
    models: list[weakref.ref] = []

    def load() -> Transcriber:
        assert all(model() is None for model in models), "the source is still there"
        stt = mlx_kstt.load("tiny", dtype="float32")
        models.append(weakref.ref(stt._engine._decoder))
        return stt

    prove.prove(load, load, SAMPLES[:1], disk_bytes=(0, 0), announce=silent)
    assert [model() for model in models] == [None, None]


class Clock:
    """Time that passes only when somebody looks at it: so many seconds each time."""

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 1.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A frame takes a second."""
    clock = Clock()
    monkeypatch.setattr(prove, "perf_counter", clock)
    return clock


def test_all_is_heard_where_there_is_time(tiny, clock) -> None:
    """A frame costs two passes for each model: 68 + 73 frames take 564 s, and timing both models 52 s more."""
    proof = compare(tiny, tiny, SAMPLES[:2], seconds_limit=630)
    assert (proof.recordings, proof.forced.whole) == (2, 68 + 73 + 2)
    assert proof.source.seconds_per_frame == proof.result.seconds_per_frame == 1.0


def test_recordings_are_shortened_where_there_is_no_time(tiny, clock) -> None:
    """350 s less 27 for timing the source are enough for 80 frames: a recording of 68 and 12 frames of the next."""
    news: list[str] = []
    proof = compare(tiny, tiny, SAMPLES[:3], seconds_limit=350, announce=news.append)
    assert news == ["the proof uses the first 4.9 s of audio: more would take over 350 s in all"]
    assert (proof.recordings, proof.forced.whole) == (2, 80 + 2)
    assert proof.seconds == pytest.approx(3.92 + 12 * 0.08)
    assert proof.result.text_errors.whole == len(str(SAMPLES[0].text).split()), "a cut recording has no reference text"


def test_a_slow_result_shortens_once_more(tiny, clock) -> None:
    """The source leaves 303 s; at 2 s a frame, 54 go to timing, and 249 are enough for 62 frames."""
    news: list[str] = []

    def load_slow() -> Transcriber:
        clock.tick = 2.0
        return tiny

    proof = prove.prove(
        lambda: tiny, load_slow, SAMPLES[:2], disk_bytes=(0, 0), seconds_limit=330, announce=news.append
    )
    assert [re.findall(r"first (\S+) s", line) for line in news] == [["4.5"], ["3.9"]]
    assert (proof.forced, proof.free, proof.codes) == (Share(63, 63), Share(63, 63), Share(62 * 8, 62 * 8))
    assert (proof.word_errors.part, proof.result.text_errors) == (0, Share(0, 0))
    assert proof.kl_max < 1e-9, "passes of other lengths round differently"
    assert (proof.source.seconds_per_frame, proof.result.seconds_per_frame) == (1.0, 2.0)


def test_two_seconds_are_always_heard(tiny, clock) -> None:
    news: list[str] = []
    proof = compare(tiny, tiny, SAMPLES[:2], seconds_limit=1, announce=news.append)
    assert proof.forced.whole == 44 + 1, "2 s, the delay of 0.5 s and 1 s of silence"
    assert 2 <= proof.seconds <= 44 * 0.08
    assert len(news) == 1


def test_what_cannot_be_heard_is_named(tiny, tmp_path) -> None:
    with pytest.raises(OptionError, match="no recording"):
        compare(tiny, tiny, [])
    with pytest.raises(AudioError, match=r"missing\.wav"):
        compare(tiny, tiny, [Sample(tmp_path / "missing.wav")])
