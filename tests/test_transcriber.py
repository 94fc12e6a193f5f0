"""The front door: what each call takes and gives, and what importing costs."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import mlx_kstt
from mlx_kstt import EndOfTurn, Pause, Word
from mlx_kstt.checkpoints import BUNDLED, read_checkpoint
from mlx_kstt.engine import Engine
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.weights import load_model

# isort: split
import mlx.core as mx


def test_encode_drops_what_is_left_of_a_frame(tiny, recordings) -> None:
    sound = recordings[0].sound()
    codes = tiny.encode(sound[: 5 * 1920 + 1919])
    assert (codes.shape, codes.dtype) == ((5, 8), np.int32)
    assert np.array_equal(codes, tiny.encode(sound[: 5 * 1920]))
    assert tiny.encode(sound[:1919]).shape == (0, 8)


def test_generate_takes_sound_or_codes(tiny, recordings) -> None:
    sound = recordings[0].sound()
    ids = tiny.generate(sound)
    assert (ids.shape, ids.dtype) == ((len(sound) // 1920 + 1,), np.int32)
    assert np.array_equal(ids, tiny.generate(codes=tiny.encode(sound)))
    assert tiny.generate(np.zeros(100, np.float32)).shape == (1,)


def test_forward_follows_its_own_greedy_text(tiny, recordings) -> None:
    codes = tiny.encode(recordings[0].sound())
    ids = tiny.generate(codes=codes)
    logits = tiny.forward(codes, ids[:-1])
    assert (logits.shape, logits.dtype) == ((len(codes) + 1, 512), np.float32)
    assert np.array_equal(logits.argmax(axis=-1), ids)
    assert tiny.forward(codes[:0], ids[:0]).shape == (1, 512)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda stt: stt.generate(), "generate takes either sound"),
        (lambda stt: stt.generate(np.zeros(1, "f"), codes=np.zeros((1, 8), int)), "generate takes either sound"),
        (
            lambda stt: stt.generate(codes=np.zeros((3, 7), int)),
            r"codes have shape \(3, 7\); they must be \(frames, 8\)",
        ),
        (lambda stt: stt.generate(codes=np.full((3, 8), 256)), "a code is 256; it must be between 0 and 255"),
        (lambda stt: stt.generate(codes=np.full((3, 8), -1)), "a code is -1; it must be between 0 and 255"),
        (lambda stt: stt.generate(codes=np.zeros((3, 8))), "a code must be an integer; this array is float64"),
        (
            lambda stt: stt.forward(np.zeros((3, 8), int), np.zeros(4, int)),
            r"text_tokens has shape \(4,\); with 3 frames",
        ),
        (
            lambda stt: stt.forward(np.zeros((3, 8), int), np.full(3, 512)),
            "a text id is 512; it must be between 0 and 511",
        ),
    ],
)
def test_impossible_inputs_are_refused(tiny, call, message) -> None:
    with pytest.raises(mlx_kstt.OptionError, match=message):
        call(tiny)


def test_paths_files_and_arrays_say_the_same(tiny, recordings) -> None:
    path = recordings[3].path
    sound = recordings[3].sound()
    expected = tiny.transcribe(path)
    assert expected.text == recordings[3].reference_text
    assert tiny.transcribe(str(path)) == expected
    assert tiny.transcribe(io.BytesIO(path.read_bytes())) == expected
    assert tiny.transcribe(sound, sampling_rate=24_000) == expected
    assert tiny.transcribe(np.stack([sound, 0 * sound], axis=1), channel=0) == expected


def test_a_transcript_adds_up(tiny, recordings) -> None:
    transcript = tiny.transcribe(recordings[0].path)
    assert " ".join(word.text for word in transcript.words) == transcript.text
    assert transcript.duration == len(recordings[0].sound()) / 24_000
    assert transcript.warning is None
    assert {type(event) for event in transcript.events} == {Word, Pause, EndOfTurn}


def test_progress_tells_the_seconds_heard(tiny, recordings) -> None:
    told: list[float] = []
    transcript = tiny.transcribe(recordings[0].path, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(transcript.duration)


def test_one_sample_is_an_empty_transcript(tiny, tmp_path) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 24_000)
    transcript = tiny.transcribe(tmp_path / "one.wav")
    assert (transcript.text, transcript.duration) == ("", 1 / 24_000)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(4_000, 1, "PCM_U8"), (192_000, 1, "PCM_24"), (44_100, 6, "PCM_16"), (8_000, 2, "FLOAT"), (16_000, 1, "PCM_S8")],
)
def test_unusual_recordings_work(tiny, recordings, tmp_path, rate: int, channels: int, subtype: str) -> None:
    import soxr

    sound = soxr.resample(recordings[7].sound(), 24_000, rate)
    path = tmp_path / ("speech.aiff" if subtype == "PCM_S8" else "speech.wav")
    soundfile.write(path, np.repeat(sound[:, None], channels, axis=1), rate, subtype=subtype)
    said, heard = recordings[7].text.split(), tiny.transcribe(path).text.split()
    if rate >= 16_000 and subtype != "PCM_S8":
        assert heard == said
    else:  # what 2 or 4 kHz of bandwidth or 8 bits leave of it is the model's business, not the reader's
        assert len(heard) > 0


def test_clipped_speech_is_still_speech(tiny, recordings) -> None:
    loud = np.clip(30 * recordings[5].sound(), -1, 1)
    assert len(tiny.transcribe(loud).words) > 0


def test_importing_the_package_brings_in_only_what_it_needs() -> None:
    optional = "{'sounddevice', 'soundfile', 'soxr', 'sentencepiece', 'tokenizers', 'huggingface_hub', 'rich', 'torch'}"
    program = f"import sys, mlx_kstt; print(sorted({optional} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "[]\n")


def test_compiled_steps_give_the_same_ids(tiny, recordings) -> None:
    """As they run on a GPU; here on the CPU."""

    @on_mlx_thread
    def compiled() -> mlx_kstt.Transcriber:
        checkpoint = read_checkpoint(BUNDLED["tiny"], delay=None, prefix=None)
        engine = Engine(load_model(checkpoint, mx.float32)[0], checkpoint.config, compiled=True)
        return mlx_kstt.Transcriber(engine, checkpoint.config, tiny.tokenizer)

    stt = compiled()
    for recording in recordings[:2]:
        assert np.array_equal(stt.generate(recording.sound()), tiny.generate(recording.sound()))
        assert stt.transcribe(recording.path).text == recording.reference_text
