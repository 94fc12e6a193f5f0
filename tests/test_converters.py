"""m4a, webm and the like: through ffmpeg, through afconvert (played by a script), and with neither."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from mlx_kstt.audio import open_audio
from mlx_kstt.errors import AudioError

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")

RATE = 44_100
SAMPLES = np.random.default_rng(6).integers(-30_000, 30_000, (RATE * 2, 2)).astype(np.int16)
M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A isom" + bytes(100)  # the head of one, without content


def hear(source: Any, **options: Any) -> tuple[np.ndarray, str | None]:
    """Samples and warning."""
    heard = sounds.hear(source, **options)
    return heard.samples, heard.warning


def program(folder: Path, name: str, *lines: str) -> None:
    """A program in the folder that runs these shell lines."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the only place where converters are looked for."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("mlx_kstt.audio.converters._MORE_FOLDERS", "")
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def ffmpeg_file(path: Path, *options: str) -> Path:
    """SAMPLES, encoded by ffmpeg."""
    assert FFMPEG is not None
    wav = path.with_suffix(".wav")
    soundfile.write(wav, SAMPLES, RATE)
    subprocess.run([FFMPEG, "-v", "error", "-y", "-i", wav, *options, path], check=True, stdin=subprocess.DEVNULL)
    return path


@needs_ffmpeg
@pytest.mark.parametrize("channel", [None, 0, 1])
def test_a_lossless_m4a_gives_the_samples_of_the_wav(tmp_path: Path, channel: int | None) -> None:
    path = ffmpeg_file(tmp_path / "talk.m4a", "-c:a", "alac")
    heard, warning = hear(path, channel=channel)
    assert np.array_equal(heard, hear(SAMPLES, sampling_rate=RATE, channel=channel)[0])
    assert warning is None


@needs_ffmpeg
def test_a_file_object_that_ffmpeg_must_read_is_copied_and_removed(tmp_path: Path, temporary: Path) -> None:
    data = ffmpeg_file(tmp_path / "talk.m4a", "-c:a", "alac").read_bytes()
    heard, warning = hear(io.BytesIO(data))
    assert np.array_equal(heard, hear(SAMPLES, sampling_rate=RATE)[0])
    assert warning is None
    assert list(temporary.iterdir()) == []


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [("talk.webm", ("-c:a", "libopus")), ("talk.aac", ("-c:a", "aac")), ("t.mka", ("-c:a", "pcm_s16le"))],
)
def test_other_containers_are_read_whole(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    heard, warning = hear(ffmpeg_file(tmp_path / name, *options))
    assert 2.0 <= len(heard) / 24_000 < 2.2
    assert warning is None


@needs_ffmpeg
def test_a_truncated_m4a_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = ffmpeg_file(tmp_path / "talk.m4a", "-c:a", "alac", "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    heard, warning = hear(path)
    assert 1.0 < len(heard) / 24_000 < 1.3
    whole = hear(SAMPLES, sampling_rate=RATE)[0]
    assert np.array_equal(heard[:24_000], whole[:24_000])
    assert warning is not None
    assert warning.startswith(f"{path} is cut off or damaged: 1.")


@needs_ffmpeg
def test_what_ffmpeg_cannot_read_gives_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "talk.m4a"
    path.write_bytes(M4A)
    with pytest.raises(
        AudioError, match=r"talk\.m4a cannot be decoded \(libsndfile: .*, ffmpeg: moov atom not found\)$"
    ):
        open_audio(path)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["-i; x.m4a", "concat:talk.m4a", "two  words.m4a"])
def test_a_path_is_never_an_option_or_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ffmpeg_file(tmp_path / "talk.m4a", "-c:a", "alac").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(hear(name)[0], hear(SAMPLES, sampling_rate=RATE)[0])


def test_without_a_converter_the_message_says_what_to_install(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "talk.m4a").write_bytes(M4A)
    with pytest.raises(AudioError, match=r"talk\.m4a cannot be decoded \(libsndfile: .*\); install ffmpeg \(brew"):
        open_audio(tmp_path / "talk.m4a")


def test_ffmpeg_is_also_found_where_homebrew_puts_it(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program started from the Dock has a short PATH."""
    homebrew = tmp_path / "homebrew"
    program(homebrew, "ffmpeg", "echo '[x @ 0x1] no such luck.' >&2", "exit 1")
    monkeypatch.setattr("mlx_kstt.audio.converters._MORE_FOLDERS", f"{tmp_path}{os.pathsep}{homebrew}")
    (tmp_path / "talk.m4a").write_bytes(M4A)
    with pytest.raises(AudioError, match=r"ffmpeg: no such luck\)$"):
        open_audio(tmp_path / "talk.m4a")


@pytest.fixture
def afconvert(tmp_path: Path, programs: Path) -> Path:
    """A folder with an afconvert that answers with SAMPLES and notes what it was asked."""
    soundfile.write(tmp_path / "answer.caf", SAMPLES / 32_768, RATE, subtype="FLOAT")
    program(programs, "afconvert", f'echo "$@" > "{tmp_path}/asked"', f'exec /bin/cp "{tmp_path}/answer.caf" "$6"')
    return programs


def test_afconvert_is_asked_for_float_samples(
    tmp_path: Path, afconvert: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(afconvert, "ffmpeg", f'echo ffmpeg > "{tmp_path}/first"', "exit 1")
    (tmp_path / "-talk.m4a").write_bytes(M4A)
    monkeypatch.chdir(tmp_path)
    with open_audio("-talk.m4a", channel=1) as opened:
        assert opened.duration == 2.0
        assert opened.name == "-talk.m4a"
        asked = (tmp_path / "asked").read_text().split()
        assert asked[:5] == ["-f", "caff", "-d", "LEF32", str(tmp_path / "-talk.m4a")]
        assert asked[5].startswith(str(temporary))
        assert not (tmp_path / "first").exists()
        heard = np.concatenate(list(opened.blocks()))
        assert len(list(temporary.iterdir())) == 1
    assert np.array_equal(heard, hear(SAMPLES, sampling_rate=RATE, channel=1)[0])
    assert list(temporary.iterdir()) == []


def test_a_refused_channel_leaves_no_temporary_file(tmp_path: Path, afconvert: Path, temporary: Path) -> None:
    (tmp_path / "talk.m4a").write_bytes(M4A)
    with pytest.raises(AudioError, match=r"talk\.m4a has no channel 2: it has channels 0 to 1"):
        open_audio(tmp_path / "talk.m4a", channel=2)
    assert list(temporary.iterdir()) == []


def test_what_afconvert_cannot_read_goes_to_ffmpeg(tmp_path: Path, programs: Path, temporary: Path) -> None:
    program(programs, "afconvert", "echo \"Error: ExtAudioFileOpenURL failed ('typ?')\"", "exit 1")
    (tmp_path / "talk.webm").write_bytes(b"\x1aE\xdf\xa3" + bytes(100))
    with pytest.raises(AudioError, match=r"afconvert: Error: ExtAudioFileOpenURL failed \('typ\?'\)\); install ffmpeg"):
        open_audio(tmp_path / "talk.webm")
    soundfile.write(tmp_path / "answer.au", SAMPLES / 32_768, RATE, subtype="FLOAT", format="AU")
    program(programs, "ffmpeg", f'exec /bin/cat "{tmp_path}/answer.au"')
    heard, warning = hear(tmp_path / "talk.webm")
    assert np.array_equal(heard, hear(SAMPLES, sampling_rate=RATE)[0])
    assert warning is None
    assert list(temporary.iterdir()) == []


def test_closing_ends_ffmpeg(tmp_path: Path, programs: Path) -> None:
    """It said a lot, and now it neither goes on nor ends."""
    soundfile.write(tmp_path / "answer.au", SAMPLES / 32_768, RATE, subtype="FLOAT", format="AU")
    program(
        programs,
        "ffmpeg",
        f'echo $$ > "{tmp_path}/pid"',
        'n=0; while [ $n -lt 9999 ]; do echo "a line that would fill a pipe" >&2; n=$((n + 1)); done',
        f'/bin/cat "{tmp_path}/answer.au"',
        "exec /bin/sleep 600",
    )
    (tmp_path / "talk.m4a").write_bytes(M4A)
    with open_audio(tmp_path / "talk.m4a") as opened:
        blocks = opened.blocks()
        heard = np.concatenate([next(blocks), next(blocks)])
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert np.array_equal(heard[:40_000], hear(SAMPLES, sampling_rate=RATE)[0][:40_000])
    assert list(blocks) == []


def test_ffmpeg_that_fails_in_the_middle_is_a_warning(tmp_path: Path, programs: Path) -> None:
    soundfile.write(tmp_path / "answer.au", SAMPLES / 32_768, RATE, subtype="FLOAT", format="AU")
    program(programs, "ffmpeg", f'/usr/bin/head -c 400001 "{tmp_path}/answer.au"', "exit 1")
    (tmp_path / "talk.m4a").write_bytes(M4A)
    _, warning = hear(tmp_path / "talk.m4a")
    assert warning == f"{tmp_path}/talk.m4a is cut off or damaged: 1.13 s could be read"
