"""Raw samples from a pipe: as they arrive, however they are cut; and never a whole file taken for samples."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import pytest
from sounds import sine

from mlx_kstt.audio import open_raw
from mlx_kstt.errors import AudioError, OptionError


def read_raw(pipe: Any, **options: Any) -> np.ndarray:
    with open_raw(pipe, **options) as opened:
        return np.concatenate([np.zeros(0, np.float32), *opened.blocks()])


class Chunks:
    """A pipe whose every read brings the next chunk, as a live pipe does."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def read1(self, size: int) -> bytes:
        if not self.chunks:
            return b""
        data, self.chunks[0] = self.chunks[0][:size], self.chunks[0][size:]
        if not self.chunks[0]:
            self.chunks.pop(0)
        return data

    def read(self, size: int) -> bytes:
        raise AssertionError("read waits for all of it")


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
@pytest.mark.parametrize("cut", [1, 3, 7, 4_096])
def test_raw_samples_survive_any_cut_of_the_pipe(encoding: str, cut: int) -> None:
    values = np.random.default_rng(2).integers(-32_768, 32_767, 300)
    data = values.astype("<i2").tobytes() if encoding == "s16le" else (values / 32_768).astype("<f4").tobytes()
    chunks = [data[start : start + cut] for start in range(0, len(data), cut)]
    heard = read_raw(Chunks(*chunks), encoding=encoding)
    assert np.array_equal(heard, (values / 32_768).astype(np.float32))
    assert np.array_equal(read_raw(io.BytesIO(data), encoding=encoding), heard)


@pytest.mark.parametrize(("encoding", "width"), [("s16le", 2), ("f32le", 4)])
def test_an_incomplete_last_sample_is_dropped(encoding: str, width: int) -> None:
    for extra in range(width):
        heard = read_raw(Chunks(bytes(20 * width), bytes(extra)), encoding=encoding)
        assert np.array_equal(heard, np.zeros(20))
    assert len(read_raw(Chunks(b"\0\0"), encoding="s16le")) == 1


def test_raw_samples_are_resampled() -> None:
    data = (sine(8_000, 2) * 32_767).round().astype("<i2").tobytes()
    heard = read_raw(io.BytesIO(data), sampling_rate=8_000)
    np.testing.assert_allclose(heard[2_400:-2_400], sine(24_000, 2)[2_400:-2_400], rtol=0, atol=5e-5)


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_live_pipe_gives_what_has_arrived(buffering: int) -> None:
    reader, writer = os.pipe()
    samples = np.arange(100, dtype="<i2")
    with os.fdopen(reader, "rb", buffering=buffering) as pipe, os.fdopen(writer, "wb", buffering=0) as sink:
        opened = open_raw(pipe)
        assert opened.duration is None
        blocks = opened.blocks()
        sink.write(samples.tobytes())
        heard = next(blocks)
        while len(heard) < 100:  # the first bytes may come out by themselves
            heard = np.concatenate([heard, next(blocks)])
        assert np.array_equal(heard, samples / np.float32(32_768))
        assert opened.seconds_read == 100 / 24_000
        sink.write(samples[:7].tobytes())
        assert np.array_equal(next(blocks), samples[:7] / np.float32(32_768))
        sink.close()
        assert list(blocks) == []
        opened.close()
        assert not pipe.closed


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\x24\x01\0\0WAVEfmt ", "WAV"),
        (b"fLaC\0\0\0\x22" + bytes(8), "FLAC"),
        (b"OggS\0\x02" + bytes(10), "Ogg"),
        (b"ID3\x04" + bytes(12), "MP3"),
        (b"\0\0\0\x20ftypM4A " + bytes(8), "MP4"),
        (b"\x1aE\xdf\xa3" + bytes(12), "WebM"),
    ],
)
def test_a_whole_file_in_the_pipe_is_refused(head: bytes, kind: str) -> None:
    for pipe in (io.BytesIO(head), Chunks(*[head[at : at + 1] for at in range(len(head))])):
        with pytest.raises(AudioError, match=f"the pipe brings a whole {kind}.* file, not raw samples: .*-f s16le"):
            read_raw(pipe)


def test_a_pipe_without_samples_and_unknown_encodings_are_refused() -> None:
    for data in (b"", b"\0"):
        with pytest.raises(AudioError, match="the pipe holds no sound"):
            read_raw(io.BytesIO(data))
    with pytest.raises(OptionError, match="encoding 's24le' is unknown: use one of s16le, f32le"):
        open_raw(io.BytesIO(), encoding="s24le")
    with pytest.raises(AudioError, match=r"the pipe has a sample that is NaN or infinite at 0\.001 s"):
        read_raw(io.BytesIO(np.array([*[0] * 24, np.nan], "<f4").tobytes()), encoding="f32le")
