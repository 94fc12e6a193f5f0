"""Arrays and live blocks to mono 24 kHz: the samples are right, and what is not sound is refused."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import hear, noise, sine

from mlx_kstt import audio
from mlx_kstt.audio import find_audio, open_audio, open_raw
from mlx_kstt.audio import resample_blocks as resample_items
from mlx_kstt.errors import AudioError, OptionError


def resample_blocks(blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Blocks without lost time among them."""
    return (item for item in resample_items(blocks, rate) if isinstance(item, np.ndarray))


def read(source: np.ndarray, **options: Any) -> np.ndarray:
    return hear(source, **options).samples


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_resampled_sine_is_the_sine_at_24_khz_without_delay(rate: int) -> None:
    heard = read(sine(rate, 2.5), sampling_rate=rate)
    exact = sine(24_000, 2.5)
    assert heard.dtype == np.float32
    assert abs(len(heard) - len(exact)) <= 1
    inside = slice(2_400, -2_400)  # the filter sees the edges as steps
    np.testing.assert_allclose(heard[inside], exact[: len(heard)][inside], rtol=0, atol=2e-6)


def test_what_24_khz_cannot_hold_is_removed() -> None:
    heard = read(sine(48_000, 1, frequency=15_000.0), sampling_rate=48_000)
    assert np.abs(heard[2_400:-2_400]).max() < 1e-5


def test_24_khz_passes_untouched() -> None:
    samples = noise(60_000)
    samples[:3] = [3.0, -7.5, 1e-30]
    assert np.array_equal(read(samples), samples)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_any_cut_into_blocks_gives_the_same_samples(rate: int) -> None:
    samples = noise(2 * rate + 17)
    cuts = np.sort(np.random.default_rng(1).integers(0, len(samples), 25)).repeat(2)  # every second block is empty
    whole = np.concatenate(list(resample_blocks([samples], rate)))
    pieces = list(resample_blocks(np.split(samples, cuts), rate))
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(read(samples, sampling_rate=rate), whole)
    assert all(len(piece) for piece in pieces)


def test_live_blocks_come_out_before_the_next_one_goes_in() -> None:
    taken = []

    def live() -> Iterator[np.ndarray]:
        for number in range(10):
            taken.append(number)
            yield sine(48_000, 0.5).astype(np.float32)

    blocks = resample_blocks(live(), 48_000)
    heard = len(next(blocks))
    assert taken == [0]
    assert 11_000 < heard <= 12_000


def test_an_array_comes_in_blocks_of_a_second() -> None:
    with open_audio(noise(100_000), sampling_rate=48_000) as opened:
        assert opened.duration == 100_000 / 48_000
        sizes, times = [], []
        for block in opened.blocks():
            sizes.append(len(block))
            times.append(opened.seconds_read)
        assert sum(sizes) == 50_000
        assert max(sizes) <= 24_500
        assert times[:2] == [1.0, 2.0]
        assert opened.seconds_read == opened.duration
        assert opened.warning is None


@pytest.mark.parametrize(
    ("dtype", "scale", "middle"),
    [("int16", 2**15, 0), (">i2", 2**15, 0), ("int32", 2**31, 0), ("uint8", 2**7, 128), ("float64", 1, 0)],
)
def test_full_scale_is_one_in_every_number_type(dtype: str, scale: int, middle: int) -> None:
    steps = np.array([-128, -64, 0, 1, 127]) / 128
    heard = read((steps * scale + middle).astype(dtype))
    assert np.array_equal(heard, steps.astype(np.float32))
    blocks = list(resample_blocks([(steps * scale + middle).astype(dtype)], 24_000))
    assert np.array_equal(blocks[0], heard)


def test_channels_are_mixed_by_their_mean_or_picked() -> None:
    samples = noise(30_000, 6)
    np.testing.assert_allclose(read(samples), samples.mean(axis=1, dtype=np.float64), rtol=0, atol=1e-7)
    for channel in range(6):
        assert np.array_equal(read(samples, channel=channel), samples[:, channel])
    assert np.array_equal(np.concatenate(list(resample_blocks([samples], 24_000))), read(samples))


def test_one_channel_may_be_named() -> None:
    assert np.array_equal(read(noise(9), channel=0), noise(9))


@pytest.mark.parametrize(
    ("channels", "channel", "has"), [(1, 1, "only channel 0"), (2, 2, "channels 0 to 1"), (2, -1, "")]
)
def test_a_channel_that_does_not_exist_is_refused(channels: int, channel: int, has: str) -> None:
    with pytest.raises(AudioError, match=f"the array has no channel {channel}: it has .*{has}"):
        open_audio(noise(9, channels), channel=channel)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_sample_that_is_not_a_number_is_refused_with_its_time(value: float, channels: int) -> None:
    samples = np.zeros((30_000, channels), np.float32)
    samples[25_000:, -1] = value
    with pytest.raises(AudioError, match=r"the array has a sample that is NaN or infinite at 3\.125 s"):
        read(samples, sampling_rate=8_000)
    with pytest.raises(AudioError, match=r"the audio has a sample that is NaN or infinite at 3\.125 s"):
        list(resample_blocks(np.split(samples, 10), 8_000))
    assert len(read(samples[:25_000], sampling_rate=8_000)) == 75_000


def test_infinite_samples_of_both_signs_do_not_hide_in_the_mean() -> None:
    samples = np.zeros((9, 2))
    samples[3] = [np.inf, -np.inf]
    with pytest.raises(AudioError, match="NaN or infinite at"):
        read(samples)
    with pytest.raises(AudioError, match="NaN or infinite"):
        read(np.array([1e300]))  # infinite once it is float32


@pytest.mark.parametrize("rate", [0, -24_000, 999, 768_001, 16_000.0, "24000", None])
def test_an_impossible_rate_is_refused_when_opening(rate: Any) -> None:
    for call in (
        lambda: open_audio(noise(9), sampling_rate=rate),
        lambda: open_raw(io.BytesIO(), sampling_rate=rate),
        lambda: resample_blocks([], rate),
    ):
        with pytest.raises(OptionError, match=f"a sampling rate of {rate} is not possible.* 1000 to 768000"):
            call()


def test_a_numpy_rate_is_a_rate() -> None:
    assert len(read(noise(8_000), sampling_rate=np.int64(8_000))) == 24_000


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros(0), "holds no sound"),
        (np.zeros((0, 2)), "holds no sound"),
        (np.zeros(()), r"shape \(\)"),
        (np.zeros((1, 2, 3)), r"shape \(1, 2, 3\)"),
        (np.zeros((2, 48_000)), r"shape \(2, 48000\).*transpose it"),
        (np.zeros((5, 0)), r"shape \(5, 0\)"),
        (np.zeros(5, np.int64), "type int64 have no known full scale"),
        (np.zeros(5, bool), "type bool"),
        (np.zeros(5, complex), "type complex128"),
    ],
)
def test_an_array_that_is_not_sound_is_refused_when_opening(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(AudioError, match=sentence):
        open_audio(array)


def test_blocks_go_on_where_they_stopped_and_end_at_close() -> None:
    samples = noise(72_000)
    opened = open_audio(samples)
    first = next(opened.blocks())
    second = next(opened.blocks())
    assert np.array_equal(np.concatenate([first, second]), samples[:48_000])
    heard = [first for first in opened.blocks() if opened.close() is None]
    assert len(heard) == 1
    opened.close()
    assert list(opened.blocks()) == []


def test_folders_are_searched_by_suffix_without_hidden_files(tmp_path: Path) -> None:
    names = ["b.wav", "a.FLAC", "sub/c.m4a", "sub/deep/d.Mp3", "notes.txt", "e", "wav", ".hidden.wav", "._b.wav"]
    for name in [*names, ".git/f.wav", "sub/.cache/g.ogg", "sub/h.wav.srt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)]
    assert found == ["a.FLAC", "b.wav", "sub/c.m4a", "sub/deep/d.Mp3"]
    assert find_audio(str(tmp_path / "folder.wav")) == []


def test_libraries_load_where_they_are_used() -> None:
    program = (
        "import sys, io, mlx_kstt.audio as audio\n"
        "list(audio.open_raw(io.BytesIO(bytes(9600))).blocks())\n"
        "print([name for name in ('soundfile', 'soxr') if name in sys.modules])"
    )
    root = Path(audio.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
