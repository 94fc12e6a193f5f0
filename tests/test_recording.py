"""The saved sound is what was decoded, and its file is whole at any moment."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import hear, noise

from mlx_kstt import AudioError, KsttError, OptionError
from mlx_kstt.audio import open_audio
from mlx_kstt.live.recording import Recording, to_16_bits

HEADER = 80
LARGEST = (2**32 - 2 - (HEADER - 8)) // 2
"""Samples of one channel that a RIFF header can announce."""


def saved(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def kind_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float32 and a.tobytes() == b.tobytes()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_16_bits_are_rounded_and_clipped() -> None:
    sound = np.array([0, 1, -1, 1.5, -7, 0.4 / 32768, 0.6 / 32768, -0.4 / 32768, 32766.6 / 32768], np.float32)
    expected = np.array([0, 32767, -32768, 32767, -32768, 0, 1, 0, 32767], np.float32) / 32768
    assert same_bits(to_16_bits(sound), expected)
    assert same_bits(to_16_bits(to_16_bits(noise(9_999))), to_16_bits(noise(9_999)))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_file_gives_exactly_the_sound_that_is_decoded(tmp_path: Path, channels: int) -> None:
    sound = 1.3 * noise(24_000, *((channels,) if channels > 1 else ()))
    path = tmp_path / "new" / "folder" / "talk.wav"
    with Recording(path, channels) as recording:
        for start in range(0, len(sound), 1_920):
            recording.write(sound[start : start + 1_920])
            assert same_bits(saved(path), to_16_bits(sound[: recording.samples]))
        recording.skip(500)
    assert recording.samples == 24_500
    silence = np.zeros((500, *sound.shape[1:]), np.float32)
    assert same_bits(saved(path), np.concatenate([to_16_bits(sound), silence]))
    assert (soundfile.info(path).samplerate, soundfile.info(path).subtype) == (24_000, "PCM_16")
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getnframes(), file.getframerate()) == (channels, 24_500, 24_000)


def test_our_own_reader_gives_the_same_samples(tmp_path: Path) -> None:
    path, sound = tmp_path / "talk.wav", noise(60_000)
    with Recording(path) as recording:
        recording.write(sound[:, None])
    heard = hear(path)
    assert same_bits(heard.samples, to_16_bits(sound))
    assert (heard.duration, heard.warning) == (2.5, None)


def test_a_recording_without_samples_is_a_wav_file(tmp_path: Path) -> None:
    Recording(tmp_path / "talk.wav").close()
    assert soundfile.info(tmp_path / "talk.wav").frames == 0


def test_beyond_4_gib_it_is_rf64_and_silence_takes_no_room(tmp_path: Path) -> None:
    path, first, last = tmp_path / "days.wav", noise(2_000), noise(3_000)[::-1]
    with Recording(path) as recording:
        recording.write(first)
        recording.skip(48 * 3_600 * 24_000)
        recording.write(last)
    total = 5_000 + 48 * 3_600 * 24_000
    assert path.stat().st_size == HEADER + 2 * total > 2**32
    assert path.stat().st_blocks * 512 < 2**18
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.frames) == ("RF64", total)
        assert same_bits(file.read(2_001, dtype="float32"), np.append(to_16_bits(first), np.float32(0)))
        file.seek(total - 3_001)
        assert same_bits(file.read(dtype="float32"), np.append(np.float32(0), to_16_bits(last)))
    with open_audio(path) as audio:
        assert audio.duration == total / 24_000
        assert same_bits(next(audio.blocks())[:2_000], to_16_bits(first))


@pytest.mark.parametrize(("samples", "kind"), [(LARGEST, b"RIFF"), (LARGEST + 1, b"RF64")])
def test_the_last_sample_of_wav_and_the_first_of_rf64(tmp_path: Path, samples: int, kind: bytes) -> None:
    path, last = tmp_path / "days.wav", np.full(1, 0.5, np.float32)
    with Recording(path) as recording:
        recording.skip(samples - 1)
        assert kind_of(path) == b"RIFF"
        recording.write(last)
        assert kind_of(path) == kind
    with Recording(path, resume=True) as recording:
        assert recording.samples == samples
        recording.write(-last)
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.frames) == ("RF64", samples + 1)
        file.seek(samples - 2)
        assert file.read(dtype="float32").tolist() == [0, 0.5, -0.5]


def test_resume_goes_on_after_the_last_sample(tmp_path: Path) -> None:
    path, sound = tmp_path / "talk.wav", noise(6_000, 2)
    for start in range(0, 6_000, 1_500):
        with Recording(path, 2, resume=True) as recording:
            assert recording.samples == start
            recording.write(sound[start : start + 1_500])
    assert same_bits(saved(path), to_16_bits(sound))


@pytest.mark.parametrize("torn", range(4))
@pytest.mark.parametrize("behind", [0, 700])
def test_what_was_written_counts_after_a_kill(tmp_path: Path, torn: int, behind: int) -> None:
    """Samples, and a part of one, that the header does not announce yet."""
    path, sound = tmp_path / "talk.wav", noise(3_000, 2)
    with Recording(path, 2) as recording:
        recording.write(sound[: 2_000 - behind])
    head = path.read_bytes()[:HEADER]
    with Recording(path, 2, resume=True) as recording:
        recording.write(sound[2_000 - behind : 2_001])
    path.write_bytes(head + path.read_bytes()[HEADER : HEADER + 8_000 + torn])
    assert same_bits(saved(path), to_16_bits(sound[: 2_000 - behind])), "players see what is announced"
    with Recording(path, 2, resume=True) as recording:
        assert recording.samples == 2_000
        assert path.stat().st_size == HEADER + 8_000
        assert same_bits(saved(path), to_16_bits(sound[:2_000]))
        recording.write(sound[2_000:])
    assert same_bits(saved(path), to_16_bits(sound))


def test_any_samples_may_follow_those_that_are_announced(tmp_path: Path) -> None:
    """libsndfile looks for more chunks there."""
    path, sound = tmp_path / "talk.wav", noise(500)
    draw = np.random.default_rng(5)
    with Recording(path) as recording:
        recording.write(sound)
    data = path.read_bytes()
    for length in range(1, 300):
        path.write_bytes(data + draw.integers(0, 256, length, np.uint8).tobytes())
        assert same_bits(saved(path), to_16_bits(sound))


def test_a_header_that_announces_more_than_a_power_cut_left_is_put_right(tmp_path: Path) -> None:
    path, sound = tmp_path / "talk.wav", noise(2_000)
    with Recording(path) as recording:
        recording.write(sound)
    os.truncate(path, HEADER + 2 * 1_200)
    with Recording(path, resume=True) as recording:
        assert recording.samples == 1_200
    assert same_bits(saved(path), to_16_bits(sound[:1_200]))


def test_a_file_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"mine")
    with pytest.raises(OptionError, match=r"talk\.wav exists: name another file, or go on with it by --resume"):
        Recording(path)
    assert path.read_bytes() == b"mine"
    path.write_bytes(b"")
    with Recording(path) as recording:
        recording.write(noise(10))
    assert soundfile.info(path).frames == 10


def test_a_recording_is_for_one_session_at_a_time(tmp_path: Path) -> None:
    path, sound = tmp_path / "talk.wav", noise(200)
    with Recording(path) as recording:
        recording.write(sound[:100])
        for resume in (True, False):
            with pytest.raises(OptionError, match=r"another session writes .*talk\.wav: end that one, or name another"):
                Recording(path, resume=resume)
        recording.write(sound[100:])
    with Recording(path, resume=True) as recording:
        assert recording.samples == 200
    assert same_bits(saved(path), to_16_bits(sound))


def _with_a_chunk_at_the_end(data: bytes) -> bytes:
    longer = data + b"LIST\x04\x00\x00\x00INFO"
    return longer[:4] + (len(longer) - 8).to_bytes(4, "little") + longer[8:]


FOREIGN = {
    "text": lambda data: b"a text that is longer than the header of a recording " * 3,
    "short": lambda data: data[: HEADER - 1],
    "one byte": lambda data: b"R",
    "rate": lambda data: data.replace((24_000).to_bytes(4, "little"), (16_000).to_bytes(4, "little")),
    "bits": lambda data: data[:70] + b"\x18" + data[71:],
    "chunk": _with_a_chunk_at_the_end,
    "no channels": lambda data: data[:58] + b"\x00" + data[59:],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_resume_refuses_what_it_did_not_write(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "talk.wav"
    with Recording(path) as recording:
        recording.write(noise(100))
    foreign = FOREIGN[kind](path.read_bytes())
    path.write_bytes(foreign)
    with pytest.raises(OptionError, match=r"talk\.wav is no recording of mlx_kstt .*: name another file"):
        Recording(path, resume=True)
    assert path.read_bytes() == foreign


def test_resume_refuses_the_file_of_another_encoder(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, noise(100), 24_000, subtype="PCM_16")
    with pytest.raises(OptionError, match="is no recording of mlx_kstt"):
        Recording(path, resume=True)


def test_resume_refuses_another_number_of_channels(tmp_path: Path) -> None:
    Recording(tmp_path / "talk.wav", 2).close()
    with pytest.raises(OptionError, match=r"has 2 channel\(s\) and cannot go on with 1: choose as many as before"):
        Recording(tmp_path / "talk.wav", resume=True)


def test_sound_of_another_shape_is_refused(tmp_path: Path) -> None:
    with Recording(tmp_path / "talk.wav", 2) as recording:
        for shape in ((4,), (4, 3), (4, 2, 2)):
            with pytest.raises(AudioError, match=r"does not fit a recording with 2 channel\(s\)"):
                recording.write(np.zeros(shape, np.float32))
        with pytest.raises(OptionError, match="-1 samples cannot be skipped"):
            recording.skip(-1)
    assert soundfile.info(tmp_path / "talk.wav").frames == 0


@pytest.mark.parametrize("size", [HEADER + 2_000, HEADER + 2_001, HEADER + 2_333])
def test_a_full_disk_is_told_and_the_file_stays_whole(tmp_path: Path, size: int) -> None:
    path, sound = tmp_path / "talk.wav", noise(3_000)
    with Recording(path) as recording:
        recording.write(sound[:1_000])
        with largest_file(size):
            for failing in (lambda: recording.write(sound[1_000:]), lambda: recording.skip(500)):
                with pytest.raises(KsttError, match=r"talk\.wav cannot be written \(File too large\): check the disk"):
                    failing()
                assert recording.samples == 1_000
                assert path.stat().st_size == HEADER + 2_000
                assert same_bits(saved(path), to_16_bits(sound[:1_000]))
        recording.write(sound[1_000:])
    assert same_bits(saved(path), to_16_bits(sound))


def test_a_header_that_cannot_be_written_takes_its_samples_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sound, write = tmp_path / "talk.wav", noise(2_000), os.pwrite

    def fail_at_header(file: int, data: memoryview, position: int) -> int:
        if position == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:7], position)  # the system may take less than all

    with Recording(path) as recording:
        recording.write(sound[:1_000])
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fail_at_header)
            with pytest.raises(KsttError, match="No space left on device"):
                recording.write(sound[1_000:])
        assert path.stat().st_size == HEADER + 2_000
        recording.write(sound[1_000:])
    assert same_bits(saved(path), to_16_bits(sound))


def test_what_cannot_even_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    with largest_file(40), pytest.raises(KsttError, match="cannot be written"):
        Recording(path)
    assert path.stat().st_size == 0
    Recording(path).close()
    with pytest.raises(KsttError, match=r"cannot be written \(Not a directory\)"):
        Recording(path / "talk.wav")
    with pytest.raises(KsttError, match=r"cannot be written \(Is a directory\)"):
        Recording(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_device_that_is_full() -> None:
    with pytest.raises(KsttError, match=r"/dev/full cannot be written \(No space left on device\)"):
        Recording("/dev/full")


def test_it_is_made_durable_every_10_s_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    with Recording(tmp_path / "talk.wav") as recording:
        for _ in range(25):
            recording.write(np.zeros(24_000, np.float32))
    recording.close()
    assert synced == [HEADER + 48_000 * seconds for seconds in (0, 10, 20, 25)]


def test_a_disk_that_fails_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    recording = Recording(tmp_path / "talk.wav")
    recording.write(noise(100))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KsttError, match="Input/output error"):
        recording.close()
    recording.close()
    assert same_bits(saved(tmp_path / "talk.wav"), to_16_bits(noise(100)))


WRITER = """
import sys, time
import numpy as np
from mlx_kstt.live.recording import Recording
sound = np.random.default_rng(11).uniform(-0.9, 0.9, (1_000_000, 2)).astype(np.float32)
recording = Recording(sys.argv[1], 2, resume=True)
while True:
    recording.write(sound[recording.samples : recording.samples + 1_920])
    print(recording.samples, flush=True)
    time.sleep(0.08 / 20)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_written(tmp_path: Path) -> None:
    draw = random.Random(3)
    sound = to_16_bits(np.random.default_rng(11).uniform(-0.9, 0.9, (1_000_000, 2)).astype(np.float32))
    path, before = tmp_path / "talk.wav", 0
    for _ in range(20):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        lines = [writer.stdout.readline() for _ in range(draw.randrange(1, 20))]
        for _ in range(draw.randrange(50_000)):
            pass  # anywhere between two lines
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines(keepends=True)
        assert writer.returncode == -signal.SIGKILL
        found = saved(path)
        assert same_bits(found, sound[: len(found)])
        told = [int(line) for line in lines if line.endswith("\n")]
        assert len(found) >= max([before, *told])
        before = len(found)
        assert path.stat().st_size % 4 == 0
    assert before > 20 * 1_920
