"""Files that break off are read as far as they go, with a warning; files that are not audio are refused."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sounds import RATE, cut, decode, encode, hear, tone

from mlx_kstt.audio.containers import ogg_is_cut
from mlx_kstt.errors import AudioError


@pytest.mark.parametrize(
    ("container", "subtype", "least", "announced"),
    [
        ("WAV", "PCM_16", 5.99, " of 10.00 s"),
        ("WAV", "PCM_24", 5.99, " of 10.00 s"),
        ("AIFF", "PCM_16", 5.99, " of 10.00 s"),
        ("FLAC", "PCM_16", 5.0, " of 10.00 s"),
        ("MP3", "MPEG_LAYER_III", 5.0, " of 10.00 s"),
        ("OGG", "VORBIS", 4.0, ""),
        ("OGG", "OPUS", 4.0, ""),
    ],
)
def test_of_a_truncated_file_what_is_there_is_read(
    tmp_path: Path, container: str, subtype: str, least: float, announced: str
) -> None:
    data = encode(tone(10), format=container, subtype=subtype)
    path = tmp_path / "talk.xyz"
    path.write_bytes(cut(data))
    heard = hear(path)
    whole = decode(data)
    assert least <= heard.seconds_read < 6.5
    assert len(heard.samples) == round(heard.seconds_read * RATE)
    good = len(heard.samples) - 5_000  # the last frame of a lossy codec fades
    np.testing.assert_allclose(heard.samples[:good], whole[:good], rtol=0, atol=1e-6)
    assert heard.warning == f"{path} is cut off or damaged: {heard.seconds_read:.2f} s{announced} could be read"
    assert heard.duration == (10.0 if announced else None)


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")])
def test_a_hole_in_a_compressed_file_is_warned_about(container: str, subtype: str) -> None:
    data = bytearray(encode(tone(10), format=container, subtype=subtype))
    middle = len(data) * 6 // 10
    data[middle : middle + 9_000] = bytes(9_000)
    heard = hear(io.BytesIO(data))
    assert 5.0 < heard.seconds_read < 9.5
    expected = f"the file object is cut off or damaged: {heard.seconds_read:.2f} s of 10.00 s could be read"
    assert heard.warning == expected


@pytest.mark.parametrize("length", [6, 7])
def test_chunks_before_the_samples_do_not_hide_that_a_wav_is_cut(length: int) -> None:
    data = encode(tone(), format="WAV", subtype="PCM_16")
    chunk = b"note" + length.to_bytes(4, "little") + bytes(8)[: length + length % 2]
    heard = hear(io.BytesIO(cut(data[:36] + chunk + data[36:])))
    assert heard.duration == pytest.approx(3.0, abs=1e-3)  # it may be cut within a sample
    assert heard.warning is not None


def ogg_page(flags: int, size: int, kept: int | None = None) -> bytes:
    """An Ogg page with one packet (RFC 3533); of its content only the first `kept` bytes are there."""
    segments = bytes([255] * (size // 255) + [size % 255])
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(segments)]) + segments + bytes(size)[:kept]


@pytest.mark.parametrize(
    ("data", "is_cut"),
    [
        (ogg_page(2, 30) + ogg_page(4, 1_000), False),
        (ogg_page(6, 0), False),
        (ogg_page(2, 30) + ogg_page(5, 64_000), False),
        (ogg_page(2, 30) + ogg_page(1, 1_000), True),
        (ogg_page(2, 30) + ogg_page(4, 1_000, kept=999), True),
        (ogg_page(2, 30) + ogg_page(4, 64_000, kept=0), True),
        (ogg_page(2, 30) + ogg_page(4, 1_000)[:20], True),
        (b"RIFF" + ogg_page(0, 30), False),
    ],
)
def test_an_ogg_file_is_whole_if_its_last_page_is_and_says_so(data: bytes, is_cut: bool) -> None:
    assert ogg_is_cut(io.BytesIO(data)) == is_cut


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000])
def test_a_wav_that_was_written_to_a_pipe_is_whole(size: int) -> None:
    """Its writer could not fill in the length."""
    data = bytearray(encode(tone(), format="WAV", subtype="PCM_16"))
    data[40:44] = size.to_bytes(4, "little")
    heard = hear(io.BytesIO(data))
    assert len(heard.samples) == 3 * RATE
    assert heard.warning is None


def test_a_flac_that_was_written_to_a_pipe_is_whole() -> None:
    data = bytearray(encode(tone(), format="FLAC", subtype="PCM_16"))
    data[21] &= 0xF0  # the 36 bits of the number of samples, in STREAMINFO
    data[22:26] = bytes(4)
    heard = hear(io.BytesIO(data))
    np.testing.assert_allclose(heard.samples, tone(), rtol=0, atol=2**-14)
    assert heard.duration is None
    assert heard.warning is None
    assert hear(io.BytesIO(cut(bytes(data)))).warning is not None


def refused(source: Any) -> str:
    """The sentence with which the source is refused."""
    with pytest.raises(AudioError) as caught:
        hear(source)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


BAD: list[tuple[str, Callable[[], bytes], str]] = [
    ("zero.wav", lambda: b"", "is empty (0 bytes)"),
    ("frames.wav", lambda: encode(np.zeros(0), format="WAV", subtype="PCM_16"), "holds no sound (zero samples)"),
    ("frames.aiff", lambda: encode(np.zeros(0), format="AIFF", subtype="PCM_16"), "holds no sound (zero samples)"),
    (
        "text.wav",
        lambda: b"Dear all, the meeting is at noon.\n" * 40,
        "is not audio: its content is of no known format",
    ),
    ("utf16.wav", lambda: "Dear all\n".encode("utf-16"), "is not audio: its content is of no known format"),
    ("image.mp3", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "is not audio: its content is of no known format"),
    ("nan.wav", lambda: encode(np.array([0, 0, 0, np.nan]), format="WAV", subtype="FLOAT"), "infinite at 0.000 s"),
    ("head.wav", lambda: encode(tone(), format="WAV", subtype="PCM_16")[:44], "holds no sound (zero samples)"),
    ("head.flac", lambda: encode(tone(), format="FLAC", subtype="PCM_16")[:100], "nothing of it can be read"),
    ("slow.wav", lambda: encode(tone(), 500, format="WAV", subtype="PCM_16"), "announces 500 samples per second"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD, ids=[name for name, _, _ in BAD])
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str, content: Callable[[], bytes], sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    said = refused(path)
    assert said.startswith(str(path))
    assert sentence in said


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.wav") == f"there is no file {str(tmp_path / 'nothing.wav')!r}: check the path"
    assert refused("") == "there is no file '': check the path"
    assert refused(tmp_path) == f"{tmp_path} is a folder: give the audio files in it"
    assert "an object of type StringIO" in refused(io.StringIO("text"))
    assert "an object of type list" in refused([0.0, 0.1])


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may read everything, so be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    soundfile.write(path, tone(), RATE)
    path.chmod(0)
    with ordinary_user():
        assert refused(path) == f"{path} may not be read by this user: change its permissions"


def test_the_time_of_a_nan_in_a_file(tmp_path: Path) -> None:
    samples = np.zeros((40_000, 2), np.float32)
    samples[36_000, 1] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    assert "nan.wav has a sample that is NaN or infinite at 2.250 s" in refused(tmp_path / "nan.wav")
    assert len(hear(tmp_path / "nan.wav", channel=0).samples) == 60_000
