"""mp3 files, whose length is often an estimate: all of the sound is heard, and a whole file raises no alarm."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, cut, decode, encode, hear, tone


@pytest.fixture
def bare_mp3() -> tuple[bytes, np.ndarray]:
    """An mp3 of 10 s with a variable bit rate and no frame count, and its samples: loud first, so an estimate fails."""
    samples = 0.02 * tone(10)
    samples[:RATE] = np.random.default_rng(4).uniform(-0.9, 0.9, RATE)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5
    ) as writer:
        writer.write(samples)
    data = file.getvalue()
    first_frame = data.index(data[:2], 4)  # the frame with the Xing header
    return data[first_frame:], decode(data)


def test_an_mp3_without_frame_count_is_read_to_its_end(bare_mp3: tuple[bytes, np.ndarray], tmp_path: Path) -> None:
    data, samples = bare_mp3
    assert len(decode(data)) < 5 * RATE  # libsndfile's own estimate: this is what goes wrong without care
    (tmp_path / "talk.mp3").write_bytes(data)
    for source in (tmp_path / "talk.mp3", io.BytesIO(data)):
        heard = hear(source)
        delay = 576 + 529  # of encoder and decoder, which the frame count's header would have removed
        np.testing.assert_allclose(heard.samples[delay:][: len(samples)], samples, rtol=0, atol=1e-5)
        assert heard.duration is None
        assert heard.warning is None


def test_tags_around_an_mp3_do_not_make_it_damaged(bare_mp3: tuple[bytes, np.ndarray]) -> None:
    data, _ = bare_mp3
    id3v2 = b"ID3\x04\0\0" + bytes([0, 0, 0x40, 0]) + b"TIT2" + bytes(0x40 * 128 - 4)
    id3v1 = b"TAG" + bytes(125)
    plain = hear(io.BytesIO(data)).samples
    tagged = hear(io.BytesIO(id3v2 + data + id3v1))
    assert np.array_equal(tagged.samples, plain)
    assert tagged.warning is None
    counted = id3v2 + encode(tone(), format="MP3", subtype="MPEG_LAYER_III") + id3v1
    assert hear(io.BytesIO(counted)).duration == 3.0
    assert hear(io.BytesIO(counted)).warning is None
    assert hear(io.BytesIO(cut(counted))).warning is not None


@pytest.mark.parametrize(("more", "warned"), [(2, False), (20, True)])
def test_an_mp3_whose_count_is_off_by_a_frame_or_two_is_whole(more: int, warned: bool) -> None:
    data = bytearray(encode(tone(), format="MP3", subtype="MPEG_LAYER_III"))
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    count = int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = (count + more).to_bytes(4, "big")
    heard = hear(io.BytesIO(data))
    assert heard.duration is not None
    assert heard.duration > 3.0
    assert (heard.warning is not None) == warned


@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_whole_mp3s_raise_no_false_alarm(bitrate_mode: str, rate: int) -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format="MP3", bitrate_mode=bitrate_mode) as writer:
        writer.write(tone(2.345, rate))
    assert hear(file).warning is None
