"""What is heard of recordings: the bundled ones, the silence around them, and what is left when time is short."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import LONG_RECORDINGS

from mlx_kstt import OptionError, load
from mlx_kstt.samples import Excerpt, Sample, default_samples, find_sample, read_excerpts, shortened


def write(path: Path, seconds: float) -> Sample:
    """A recording of noise that lasts so long."""
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, round(24_000 * seconds))
    soundfile.write(path, sound, 24_000, subtype="FLOAT")
    return Sample(path, "some text")


def test_default_samples_are_the_bundled_recordings_that_last_up_to_30_s(recordings) -> None:
    samples = default_samples()
    assert [(x.path, x.text) for x in samples] == [(x.path, x.text) for x in recordings[: len(samples)]]
    seconds = np.cumsum([len(recording.sound()) / 24_000 for recording in recordings])
    assert seconds[len(samples) - 1] <= 30 < seconds[len(samples)]


def test_the_text_beside_a_recording_is_found(tmp_path: Path) -> None:
    found = find_sample(LONG_RECORDINGS / "long_en-us.flac")
    assert found.text == (LONG_RECORDINGS / "long_en-us.txt").read_text("utf-8")
    assert find_sample(tmp_path / "talk.m4a") == Sample(tmp_path / "talk.m4a", None)


@pytest.mark.parametrize(("delay", "prefix"), [(0.5, 0.0), (2.5, 1.0)])
def test_an_excerpt_is_what_a_stream_hears(tmp_path: Path, monkeypatch, delay: float, prefix: float) -> None:
    """The silence around a recording is that of `transcribe`, sample by sample."""
    stt = load("tiny", delay=delay, prefix=prefix)
    sample, heard, hear = write(tmp_path / "noise.wav", 1.2345), [], stt._engine.hear
    monkeypatch.setattr(stt._engine, "hear", lambda sound, *rest: heard.append(sound) or hear(sound, *rest))
    stt.transcribe(sample.path)
    (excerpt,) = read_excerpts([sample], stt.config)
    assert np.array_equal(np.concatenate(heard, axis=1)[0], excerpt.sound)
    assert (excerpt.seconds, excerpt.text) == (pytest.approx(1.2345), "some text")


@pytest.fixture
def three(tiny) -> list[Excerpt]:
    """Excerpts of 5, 1 and 4 s with 1 s of silence before and 3.5 s after each: 119, 69 and 107 frames."""
    pieces = ((119, 5), (69, 1), (107, 4))
    return [Excerpt(np.ones(1920 * n, np.float32), slice(24_000, 24_000 * (s + 1)), "text") for n, s in pieces]


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        (inf, [(119, 5, "text"), (69, 1, "text"), (107, 4, "text")]),
        (295, [(119, 5, "text"), (69, 1, "text"), (107, 4, "text")]),
        (294, [(119, 5, "text"), (69, 1, "text"), (106, 4, None)]),
        (200.9, [(119, 5, "text"), (69, 1, "text"), (12, 0, None)]),
        (188, [(119, 5, "text"), (69, 1, "text")]),
        (119, [(119, 5, "text")]),
        (100, [(100, 5, None)]),
        (82, [(82, 5, None)]),
        (10, [(82, 5, None)]),
        (0, [(82, 5, None)]),
    ],
)
def test_short_time_keeps_the_first_frames(tiny, three, frames: float, kept: list[tuple]) -> None:
    """At least 2 s of audio with the silence of this model around it: 81.25 frames."""
    config, cuts = replace(tiny.config, delay=2.5, prefix=1.0), []
    found = shortened(iter(three), config, frames, cuts.append)
    assert [(x.frames, x.seconds, x.text) for x in found] == [(n, pytest.approx(s), text) for n, s, text in kept]
    assert cuts == ([] if frames >= 295 else [pytest.approx(sum(s for _, s, _ in kept))])


def test_two_seconds_are_gathered_from_several_recordings(tiny, three) -> None:
    config, cuts = replace(tiny.config, delay=2.5, prefix=1.0), []
    found = shortened([three[1], three[2]], config, 10, cuts.append)
    assert [x.frames for x in found] == [69, 69]
    assert cuts == [pytest.approx(1 + 4.0)] and sum(x.seconds for x in found) >= 2


def test_no_more_of_a_recording_is_read_than_there_is_time_for(tiny, tmp_path: Path) -> None:
    sample = write(tmp_path / "long.wav", 60.0)
    (excerpt,) = shortened(read_excerpts([sample], tiny.config, 50), tiny.config, 50, lambda seconds: None)
    (whole,) = read_excerpts([sample], tiny.config)
    assert excerpt.frames == 50 and np.array_equal(excerpt.sound, whole.sound[: 50 * 1920])
    (read,) = read_excerpts([sample], tiny.config, 50)
    assert read.seconds < 8 and whole.seconds == 60


def test_no_recording_is_refused(tiny) -> None:
    with pytest.raises(OptionError, match="there is no recording to measure with"):
        read_excerpts([], tiny.config)
