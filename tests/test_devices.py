"""Finding and opening microphones, with a sounddevice that plays PortAudio."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlx_kstt.errors import AudioError, OptionError
from mlx_kstt.microphone import devices
from mlx_kstt.microphone.devices import Device, Opener, find_device, input_devices


class PortAudioError(Exception):
    pass


def device(name: str, inputs: int = 1, rate: float = 48_000.0) -> dict[str, Any]:
    return {"name": name, "max_input_channels": inputs, "default_samplerate": rate}


class FakeStream:
    def __init__(self, owner: FakeSoundDevice, options: dict[str, Any]) -> None:
        self.owner, self.options = owner, options
        self.is_started = self.is_closed = False

    def start(self) -> None:
        if self.owner.refusal == "start":
            raise PortAudioError("Device unavailable", -9985)
        self.is_started = True

    def abort(self) -> None:
        self.is_started = False

    def close(self) -> None:
        self.is_closed = True


class FakeSoundDevice:
    """As much of sounddevice as is used. The list changes when PortAudio is started anew, as the real one's does."""

    PortAudioError = PortAudioError

    def __init__(self, *found: dict[str, Any], default: int | None = 0) -> None:
        self.plugged: list[dict[str, Any]] = list(found)
        self.listed = list(found)
        self.default = default
        self.refusal = ""
        self.starts = 0
        self.streams: list[FakeStream] = []

    def query_devices(self, kind: str | None = None) -> Any:
        if kind is None:
            return tuple(self.listed)
        if self.default is None or self.default >= len(self.listed):
            raise PortAudioError("Error querying device -1")
        return {**self.listed[self.default], "index": self.default}

    def _terminate(self) -> None:
        assert all(stream.is_closed for stream in self.streams), "PortAudio was stopped under an open stream"

    def _initialize(self) -> None:
        if self.refusal == "initialize":
            raise PortAudioError("Error initializing PortAudio")
        self.starts += 1
        self.listed = list(self.plugged)

    def InputStream(self, **options: Any) -> FakeStream:
        if self.refusal == "open":
            raise PortAudioError("Error opening InputStream: Invalid number of channels", -9998)
        self.streams.append(FakeStream(self, options))
        return self.streams[-1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSoundDevice:
    found = FakeSoundDevice(device("Speakers", 0), device("MacBook Pro Microphone"), device("USB Mic", 2, 44_100.0))
    found.default = 1
    monkeypatch.setitem(sys.modules, "sounddevice", found)
    monkeypatch.setattr(devices, "_open", set())
    return found


LIST = [
    Device(0, "MacBook Pro Microphone", 1, 48_000, False),
    Device(2, "USB Mic", 2, 44_100, True),
    Device(3, "usb mic 2", 2, 44_100, False),
    Device(5, "pulse", 32, 44_100, False),
]


def ignore(samples: np.ndarray, rate: int, overflowed: bool) -> None:
    """Takes nothing."""


def test_inputs_are_listed_with_the_default_marked(fake: FakeSoundDevice) -> None:
    assert input_devices() == [
        Device(1, "MacBook Pro Microphone", 1, 48_000, True),
        Device(2, "USB Mic", 2, 44_100, False),
    ]
    fake.default = None
    assert [device.is_default for device in input_devices()] == [False, False]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [(None, 2), (0, 0), (5, 5), ("USB Mic", 2), ("usb MIC", 2), ("macbook", 0), ("mic 2", 3), ("pulse", 5), ("PUL", 5)],
)
def test_a_device_is_found_by_number_name_or_part(wanted: int | str | None, number: int) -> None:
    assert find_device(wanted, LIST).number == number


def test_without_a_default_it_is_the_first() -> None:
    assert find_device(None, LIST[2:]).number == 3


def test_a_part_that_several_have_names_them() -> None:
    message = r"'usb' fits several sound inputs, 2 \(USB Mic\), 3 \(usb mic 2\): give a number or a full name"
    with pytest.raises(OptionError, match=message):
        find_device("usb", LIST)


@pytest.mark.parametrize("wanted", ["headset", 1])
def test_what_is_not_there_lists_what_is(wanted: int | str) -> None:
    with pytest.raises(
        AudioError, match=rf"no sound input {wanted!r}, only 0 \(MacBook .*5 \(pulse\).*mlx_kstt devices"
    ):
        find_device(wanted, LIST)


def test_no_input_at_all(fake: FakeSoundDevice) -> None:
    fake.listed = [device("Speakers", 0)]
    with pytest.raises(AudioError, match="there is no sound input: plug a microphone in"):
        Opener(None, None)(ignore)


@pytest.mark.parametrize(
    ("error", "platform", "message"),
    [
        (OSError("PortAudio library not found"), "linux", "PortAudio, which is missing: apt install libportaudio2"),
        (OSError("PortAudio library not found"), "darwin", "which is missing: pip install --force-reinstall"),
        (ImportError("no module"), "linux", "needs the package sounddevice: pip install sounddevice"),
        (
            PortAudioError("Error initializing PortAudio", -1),
            "linux",
            r"does not start \(Error initializing PortAudio\)",
        ),
    ],
)
def test_what_is_missing_is_said(
    error: Exception, platform: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fails(name: str, *args: Any, **options: Any) -> Any:
        if name == "sounddevice":
            raise error
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", fails)
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(AudioError, match=message):
        input_devices()


def test_it_is_opened_at_its_own_rate_and_calls_back(fake: FakeSoundDevice) -> None:
    calls: list[tuple[float, int, bool]] = []
    opened = Opener("usb", None)(lambda samples, rate, overflowed: calls.append((samples[0, 0], rate, overflowed)))
    (stream,) = fake.streams
    asked = {name: stream.options[name] for name in ("device", "samplerate", "channels", "dtype")}
    assert asked == {"device": 2, "samplerate": 44_100, "channels": 2, "dtype": "float32"}
    assert stream.is_started
    stream.options["callback"](np.full((4, 2), 0.5), 4, None, SimpleNamespace(input_overflow=True))
    assert calls == [(0.5, 44_100, True)]
    assert (opened.name, opened.rate, opened.is_active) == ("USB Mic", 44_100, True)
    stream.options["finished_callback"]()
    assert not opened.is_active
    opened.close()
    opened.close()
    assert stream.is_closed


@pytest.mark.parametrize(
    ("inputs", "channels", "opened"),
    [
        (1, None, 1),
        (2, None, 2),
        (8, None, 8),
        (32, None, 2),
        (128, None, 2),
        (32, (0,), 1),
        (32, (9, 2), 10),
        (4, (3,), 4),
    ],
)
def test_as_many_channels_are_opened_as_are_needed(fake, inputs: int, channels, opened: int) -> None:
    fake.listed = [device("Any", inputs)]
    assert Opener(0, channels)(ignore).channels == opened == fake.streams[0].options["channels"]


@pytest.mark.parametrize(("channel", "numbers"), [(1, "only channel 0"), (7, "only channel 0")])
def test_a_missing_channel_is_said(fake: FakeSoundDevice, channel: int, numbers: str) -> None:
    with pytest.raises(AudioError, match=f"MacBook Pro Microphone has no channel {channel}: it has {numbers}"):
        Opener(None, [channel])(ignore)


@pytest.mark.parametrize("refusal", ["open", "start"])
def test_a_refusal_is_one_sentence_and_leaves_nothing_open(fake: FakeSoundDevice, refusal: str) -> None:
    fake.refusal = refusal
    with pytest.raises(AudioError, match=r"USB Mic cannot be opened at 44100 Hz \((Error opening|Device unavailable)"):
        Opener(2, None)(ignore)
    assert all(stream.is_closed for stream in fake.streams)
    assert not devices._open


def test_it_is_opened_again_by_its_name_wherever_it_is(fake: FakeSoundDevice) -> None:
    fake.plugged = fake.listed = [device("A"), device("Mic: USB (hw:1,0)")]
    opener = Opener(1, None)
    opener(ignore).close()
    assert fake.starts == 0, "the first time nothing is started anew: it could be somebody else's"
    fake.plugged = [device("A"), device("B")]
    with pytest.raises(AudioError, match=r"Mic: USB \(hw:1,0\) is not there"):
        opener(ignore)
    fake.plugged = [device("A"), device("B"), device("Mic: USB (hw:2,0)", rate=16_000.0)]
    opened = opener(ignore)
    assert (opened.name, opened.rate, fake.streams[-1].options["device"]) == ("Mic: USB (hw:2,0)", 16_000, 2)
    assert fake.starts == 2


def test_a_part_of_a_name_may_then_mean_another_device(fake: FakeSoundDevice) -> None:
    opener = Opener("usb", None)
    opener(ignore).close()
    fake.plugged = [device("Speakers", 0), device("USB Headset")]
    assert opener(ignore).name == "USB Headset"


def test_without_a_name_it_is_the_new_default(fake: FakeSoundDevice) -> None:
    opener = Opener(None, None)
    assert opener(ignore).name == "MacBook Pro Microphone"
    devices._open.copy().pop().close()
    fake.default = 2
    fake.plugged = fake.listed
    assert opener(ignore).name == "USB Mic"


def test_portaudio_is_not_started_anew_under_another_open_input(fake: FakeSoundDevice) -> None:
    one, other = Opener(1, None), Opener(2, None)
    kept = one(ignore)
    other(ignore).close()
    other(ignore).close()  # _terminate would fail here
    assert fake.starts == 0
    kept.close()
    other(ignore)
    assert fake.starts == 1


def test_a_sound_service_that_is_down_can_be_tried_again(fake: FakeSoundDevice) -> None:
    fake.plugged = fake.listed
    opener = Opener(None, None)
    opener(ignore).close()
    fake.refusal = "initialize"
    with pytest.raises(AudioError, match="PortAudio does not start"):
        opener(ignore)
    fake.refusal = ""
    assert opener(ignore).name == "MacBook Pro Microphone"
