"""Files that libsndfile reads to mono 24 kHz: every sample is right, and a long file needs no memory."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import soundfile
from sounds import RATE, decode, encode, hear, tone

from mlx_kstt.audio import open_audio
from mlx_kstt.errors import AudioError

CODECS = [
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("AIFF", "PCM_16"),
    ("CAF", "FLOAT"),
    ("AU", "PCM_16"),
]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_width_of_wav_is_exact(tmp_path: Path, subtype: str) -> None:
    steps = np.random.default_rng(5).integers(-128, 128, 50_000)
    path = tmp_path / "steps.wav"
    if subtype in ("FLOAT", "DOUBLE"):
        soundfile.write(path, steps / 128, RATE, subtype=subtype)
    else:
        soundfile.write(path, (steps * 2**24).astype(np.int32), RATE, subtype=subtype)
    heard = hear(path)
    assert np.array_equal(heard.samples, (steps / 128).astype(np.float32))
    assert heard.duration == heard.seconds_read == 50_000 / RATE
    assert heard.warning is None


def test_clipped_float_samples_stay_as_they_are(tmp_path: Path) -> None:
    samples = np.array([4.0, -4.0, 1.0, -1.0, 0.5], np.float32)
    soundfile.write(tmp_path / "loud.wav", samples, RATE, subtype="FLOAT")
    assert np.array_equal(hear(tmp_path / "loud.wav").samples, samples)


@pytest.mark.parametrize(("container", "subtype"), [*CODECS, ("MP3", "MPEG_LAYER_III")])
def test_reading_in_blocks_equals_reading_at_once(tmp_path: Path, container: str, subtype: str) -> None:
    """In mp3 a seek between two blocks, which is soundfile's habit, is audible."""
    data = encode(tone(3.3), format=container, subtype=subtype)
    whole = decode(data)
    (tmp_path / "talk").write_bytes(data)
    for source in (tmp_path / "talk", str(tmp_path / "talk"), io.BytesIO(data)):
        heard = hear(source)
        np.testing.assert_allclose(heard.samples, whole, rtol=0, atol=1e-6)
        assert heard.duration == 3.3
        assert heard.warning is None


@pytest.mark.parametrize("rate", [4_000, 192_000])
def test_six_channels_at_unusual_rates(tmp_path: Path, rate: int) -> None:
    seconds = np.arange(2 * rate) / rate
    pitches = [100.0, 200.0, 300.0, 400.0, 500.0, 600.0]
    samples = np.stack([0.5 * np.sin(2 * np.pi * pitch * seconds) for pitch in pitches], axis=1)
    soundfile.write(tmp_path / "six.wav", samples, rate, subtype="FLOAT")
    exact = np.stack([0.5 * np.sin(2 * np.pi * pitch * np.arange(48_000) / RATE) for pitch in pitches], axis=1)
    inside = slice(2_400, -2_400)
    mixed = hear(tmp_path / "six.wav").samples
    np.testing.assert_allclose(mixed[inside], exact.mean(axis=1)[inside], rtol=0, atol=2e-6)
    picked = hear(tmp_path / "six.wav", channel=4).samples
    np.testing.assert_allclose(picked[inside], exact[inside, 4], rtol=0, atol=2e-6)
    with pytest.raises(AudioError, match=r"six\.wav has no channel 6: it has channels 0 to 5"):
        open_audio(tmp_path / "six.wav", channel=6)


@pytest.mark.parametrize("rate", [4_000, 24_000, 192_000])
def test_one_sample_is_audio(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), rate)
    heard = hear(tmp_path / "one.wav")
    assert heard.seconds_read == heard.duration == 1 / rate
    assert abs(len(heard.samples) - RATE / rate) <= 1
    assert heard.warning is None


def test_silence_is_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.flac", np.zeros(RATE), RATE)
    assert np.array_equal(hear(tmp_path / "silence.flac").samples, np.zeros(RATE))


def test_a_file_object_is_read_from_its_start_and_left_open() -> None:
    file = io.BytesIO(encode(tone(), format="WAV", subtype="FLOAT"))
    file.seek(1_000)
    assert np.array_equal(hear(file).samples, tone())
    assert not file.closed


def test_a_file_that_cannot_seek_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reader, writer = os.pipe()
    samples = tone(0.5)  # fits into a pipe
    with os.fdopen(reader, "rb") as pipe:
        with os.fdopen(writer, "wb") as sink:
            sink.write(encode(samples, format="WAV", subtype="PCM_16"))
        with open_audio(pipe) as opened:
            heard = np.concatenate(list(opened.blocks()))
            assert len(list(tmp_path.iterdir())) == 1
        assert not pipe.closed
    np.testing.assert_allclose(heard, samples, rtol=0, atol=2**-14)
    assert list(tmp_path.iterdir()) == []


class SyntheticWav(io.RawIOBase):
    """A 16-bit wav file of any length that takes no memory."""

    def __init__(self, seconds: int, rate: int) -> None:
        empty = encode(np.zeros(0), rate, format="WAV", subtype="PCM_16")
        size = 2 * rate * seconds
        self.head = empty[:40] + size.to_bytes(4, "little")
        self.second = (tone(1.0, rate) * 32_767).astype("<i2").tobytes()
        self.end = len(self.head) + size
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.end)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self.at < self.end:
            source = self.head if self.at < len(self.head) else self.second
            start = self.at if source is self.head else (self.at - len(self.head)) % len(self.second)
            part = source[start : start + min(len(view) - done, self.end - self.at)]
            view[done : done + len(part)] = part
            done, self.at = done + len(part), self.at + len(part)
        return done


@pytest.mark.parametrize(("rate", "minutes"), [(24_000, 60), (8_000, 10)])
def test_a_long_file_needs_no_more_memory_than_a_short_one(rate: int, minutes: int) -> None:
    def peak(seconds: int) -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with open_audio(cast(BinaryIO, SyntheticWav(seconds, rate))) as opened:
            count = sum(len(block) for block in opened.blocks())
        assert abs(count - seconds * RATE) <= 1
        assert opened.seconds_read == opened.duration == seconds
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        peak(3)
        assert peak(60 * minutes) < peak(60) + 50_000 < 3_000_000
    finally:
        tracemalloc.stop()
