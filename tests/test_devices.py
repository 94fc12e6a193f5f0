"""Finding and opening microphones, with a sounddevice that plays PortAudio."""

from __future__ import annotations

import builtins
import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlx_kstt.errors import AudioError, OptionError
from mlx_kstt.microphone import default_device, devices
from mlx_kstt.microphone.default_device import DefaultWatch, core_audio, default_input
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
    monkeypatch.setattr(default_device.sys, "platform", "linux")
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


def fails(opener: Opener, times: int) -> None:
    for _ in range(times):
        with pytest.raises(AudioError):
            opener(ignore)


def test_a_device_that_stays_away_has_the_others_closed_for_it_now_and_then(fake: FakeSoundDevice) -> None:
    fake.plugged = [device("Speakers", 0), device("MacBook Pro Microphone")]
    one, other = Opener(1, None), Opener(2, None)
    kept = one(ignore)
    other(ignore).close()
    fake.listed = fake.plugged  # as if it could be seen, so that each attempt fails at once
    closed_at = []
    for attempt in range(1, 700):
        fails(other, 1)
        if kept.objection:
            assert kept.objection == "was closed to look for a microphone that is missing"
            closed_at.append(attempt)
            kept.close()
            kept = one(ignore)
            assert kept.objection == ""
    assert closed_at == [5, 20, 50, 110, 230, 380, 530, 680]
    fake.plugged.append(device("USB Mic", 2, 44_100.0))
    fails(other, 149 - 19)
    assert other(ignore).name == "USB Mic"
    assert len(devices._open) == 1, "and the healthy one is to be opened anew"
    assert kept.objection
    assert one(ignore).name == "MacBook Pro Microphone"


class CoreAudio:
    """Apple's functions, as far as they are called."""

    def __init__(self, number: int, status: int = 0) -> None:
        self.number, self.status = number, status
        self.calls: list[tuple[Any, ...]] = []

    def AudioObjectGetPropertyData(self, thing, address, qualifier_size, qualifier, size, value) -> int:
        asked = address._obj
        self.calls.append(
            (thing, asked.selector, asked.scope, asked.element, qualifier_size, qualifier, size._obj.value)
        )
        value._obj.value = self.number
        return self.status


class SetterOnly:
    """A function of a C library, which takes attributes."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, thing, address, qualifier_size, qualifier, size, value) -> int:
        asked = address._obj
        self.calls.append((thing, asked.selector, asked.scope, asked.element, size, value._obj.value))
        return 0


def now_and_here(work):
    work()
    return lambda seconds: None


def test_the_default_input_is_asked_for_as_apple_says() -> None:
    library = CoreAudio(77)
    assert default_input(library) == 77
    assert library.calls == [(1, 0x64496E20, 0x676C6F62, 0, 0, None, 4)]
    assert default_input(CoreAudio(77, status=560_947_818)) is None
    assert default_input(CoreAudio(0)) is None, "kAudioObjectUnknown"


def test_coreaudio_is_loaded_on_macos_alone_and_keeps_itself_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    library = SimpleNamespace(AudioObjectGetPropertyData=SetterOnly(), AudioObjectSetPropertyData=SetterOnly())
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded.append(path) or library)
    monkeypatch.setattr(sys, "platform", "linux")
    assert core_audio() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert core_audio() is library
    assert loaded == ["/System/Library/Frameworks/CoreAudio.framework/CoreAudio"]
    assert library.AudioObjectSetPropertyData.calls == [
        (1, 0x726E6C70, 0x676C6F62, 0, ctypes.sizeof(ctypes.c_void_p), None)
    ]
    del library.AudioObjectSetPropertyData
    assert core_audio() is None


def test_another_default_is_noticed_when_it_stays() -> None:
    clock, library = [0.0], CoreAudio(5)
    watch = DefaultWatch(library, lambda: clock[0], now_and_here)
    seen = []
    for number in (5, 6, 5, 0, 0, 5, 7, 7):
        library.number = number
        clock[0] += 2
        seen.append(watch.has_changed)
        assert watch.has_changed == seen[-1], "it is not asked again at once"
    assert seen == [False] * 7 + [True]
    assert len(library.calls) == 9


def test_what_goes_wrong_there_disturbs_nobody() -> None:
    def fails(*arguments: object) -> int:
        raise ValueError("not as documented")

    def no_thread(work):
        raise RuntimeError("can't start new thread")

    clock = [0.0]
    for library, spawn in (
        (None, now_and_here),
        (SimpleNamespace(AudioObjectGetPropertyData=fails), now_and_here),
        (CoreAudio(5), no_thread),
    ):
        watch = DefaultWatch(library, lambda: clock[0], spawn)
        for _ in range(5):
            clock[0] += 3
            assert watch.has_changed is False


def test_a_new_default_is_opened_also_beside_another_device(fake: FakeSoundDevice, monkeypatch) -> None:
    library, clock = CoreAudio(5), [0.0]
    monkeypatch.setattr(devices, "core_audio", lambda: library)
    monkeypatch.setattr(devices, "DefaultWatch", lambda library: DefaultWatch(library, lambda: clock[0], now_and_here))
    fake.plugged = fake.listed
    default, other = Opener(None, None), Opener(2, None)
    first, kept = default(ignore), other(ignore)
    library.number, fake.default = 9, 2
    for _ in range(2):
        clock[0] += 2
        assert first.objection in ("", "was no longer the default input")
    assert first.objection == "was no longer the default input"
    assert kept.objection == "", "it was asked for by its number"
    first.close()
    again = default(ignore)
    assert (again.name, again.objection) == ("USB Mic", "")
    assert kept.objection == "was closed to look for a microphone that is missing"
