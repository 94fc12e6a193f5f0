"""Microphones as PortAudio knows them: the list, finding one, opening one.

In: a number, a name or a part of one. Out: `Device`; an open `Input`, which hands every block of samples to a function.
Knows nothing of queues, times and 24 kHz.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..errors import AudioError, KsttError, OptionError
from .default_device import DefaultWatch, core_audio

Wanted = int | str | None
"""A device's number, its name or a part of it; None is the default."""
Receive = Callable[[np.ndarray, int, bool], None]
"""Takes samples (n, channels), their rate, and whether the device lost some before; must copy and return at once."""

MOST_MIXED = 8
"""Channels of a real interface. ALSA's virtual devices announce 32 or 128 and fill up whatever is opened."""
_BLOCK = 0.02
"""Seconds of a call from the device: left to itself, ALSA calls with single samples as well."""
_BUFFER = 0.1
"""Seconds that PortAudio keeps while Python is busy; its own choice, 35 ms on ALSA, loses sound on a loaded machine."""
_LIST = "`python -m mlx_kstt devices` lists them"
_PLACE = re.compile(r" \(hw:\d+,\d+\)$")
"""Where ALSA has put a device: another place after it was plugged in again."""
_PATIENCE = 5
"""Attempts to open a lost device again before all others are closed for it."""
_PAUSES = (15, 150)
"""Attempts until that is done again, at first and at most: at one in 2 s these are half a minute and 5 minutes."""

_lock = Lock()
"""PortAudio is not safe to be called from several threads."""
_open: set[Input] = set()


@dataclass(frozen=True, slots=True)
class Device:
    """A sound input.

    Attributes:
        number: PortAudio's, as long as nothing is plugged in or out.
        name: as the system calls it.
        channels: how many it has.
        rate: its own samples per second.
        is_default: used where none is named.
    """

    number: int
    name: str
    channels: int
    rate: int
    is_default: bool


def input_devices() -> list[Device]:
    """The inputs, by number; those of the moment when PortAudio was started.

    Raises:
        AudioError: PortAudio is missing or does not start.
    """
    with _lock:
        return _input_devices()


def find_device(wanted: Wanted, devices: Sequence[Device]) -> Device:
    """The device of this number, of this name, or the only one whose name has this part (upper or lower case).

    Raises:
        AudioError: it is not there.
        OptionError: several have it.
    """
    if not devices:
        raise AudioError(f"there is no sound input: plug a microphone in and try again{_permission()}")
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    for matches in _matches(wanted, devices):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise OptionError(f"{wanted!r} fits several sound inputs, {_named(matches)}: give a number or a full name")
    raise AudioError(f"there is no sound input {wanted!r}, only {_named(devices)}: choose one of these ({_LIST})")


class Opener:
    """Opens one wanted device, again and again: after the first time the same one, wherever it is plugged in.

    PortAudio sees what was plugged in only when it is started anew, which would end every open stream. So it is, at
    each later opening, while no other input of this package is open. Where one is, it is closed for this after some
    attempts in vain, and whoever has it must open it again; after that ever more rarely, since a device that stays away
    must not cost the others much. (A stream that the same process opened by itself through sounddevice ends, too.)
    """

    def __init__(self, wanted: Wanted, channels: Sequence[int] | None) -> None:
        """Choose the device; `channels`, from 0, are those that are needed, None where all are to be mixed."""
        self._wanted = wanted
        self._channels = channels
        self._name: str | None = None
        self._watch: DefaultWatch | None = None
        self._restart()

    def __call__(self, receive: Receive) -> Input:
        """Open it at its own rate: CoreAudio may end the whole process when it is asked for a rate that it lacks.

        Raises:
            AudioError: the device is not there, lacks a channel, or cannot be opened.
            OptionError: several devices have the name.
        """
        with _lock:
            is_listed_anew = self._name is not None and self._list_anew()
            device = self._find(_input_devices())
            opened = self._opened(device, receive)
            _open.add(opened)
            self._name = device.name
            if is_listed_anew:
                self._restart()
            return opened

    def _restart(self) -> None:
        self._attempts, (self._pause, self._most_pause) = _PATIENCE, _PAUSES

    def _list_anew(self) -> bool:
        """List the devices anew, if that costs nobody anything or is worth it."""
        self._attempts -= 1
        if _open:
            if self._attempts > 0 and not (self._watch and self._watch.has_changed):
                return False
            self._attempts, self._pause = self._pause, min(2 * self._pause, self._most_pause)
            for other in list(_open):
                other.give_up()
        _start_anew()
        return True

    def _opened(self, device: Device, receive: Receive) -> Input:
        channels = _channels_to_open(device, self._channels)
        self._watch = DefaultWatch(core_audio()) if self._wanted is None else None
        return _opened(Input(device, channels, self._watch), device, receive)

    def _find(self, devices: Sequence[Device]) -> Device:
        if self._name is not None and self._wanted is not None:
            for tidy in (str, _without_place):
                for device in devices:
                    if tidy(device.name) == tidy(self._name):
                        return device
        if self._name is not None and isinstance(self._wanted, int):
            raise AudioError(f"{self._name} is not there")  # its number may be another device's now
        return find_device(self._wanted, devices)


class Input:
    """An open device.

    Attributes:
        name: as the system calls it.
        rate: samples per second.
        channels: how many were opened, from the first on.
    """

    def __init__(self, device: Device, channels: int, watch: DefaultWatch | None = None) -> None:
        """`watch` of the default, where it is opened because it is that."""
        self.name = device.name
        self.rate = device.rate
        self.channels = channels
        self._watch = watch
        self._is_given_up = False
        self._stream: Any = None
        self._has_ended = False

    @property
    def is_active(self) -> bool:
        """Whether the device still records."""
        return not self._has_ended

    @property
    def objection(self) -> str:
        """Why it should be opened anew although it has not ended by itself; empty if it should not."""
        if self._is_given_up:
            return "was closed to look for a microphone that is missing"
        if self._watch is not None and self._watch.has_changed:
            return "was no longer the default input"
        return ""

    def start(self, stream: Any) -> None:
        """Begin to record."""
        self._stream = stream
        stream.start()

    def end(self) -> None:
        """PortAudio calls this when the stream has ended by itself, or was closed."""
        self._has_ended = True

    def close(self) -> None:
        """Stop recording. A device that has gone cannot be closed properly, which is no reason to fail."""
        with _lock:
            self._close()

    def give_up(self) -> None:
        """Close it for another one's sake; for who holds the lock."""
        self._is_given_up = True
        self._close()

    def _close(self) -> None:
        _open.discard(self)
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(Exception):
                stream.abort()
            with suppress(Exception):
                stream.close()


def portaudio() -> Any:
    """The module sounddevice.

    Raises:
        AudioError: it or the library PortAudio is missing.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise AudioError("a microphone needs the package sounddevice: pip install sounddevice") from error
    except OSError as error:
        way_out = (
            "apt install libportaudio2" if sys.platform == "linux" else "pip install --force-reinstall sounddevice"
        )
        raise AudioError(f"a microphone needs the library PortAudio, which is missing: {way_out}") from error
    except Exception as error:  # its own PortAudioError, which cannot be imported
        raise AudioError(f"PortAudio does not start ({_reason(error)}): check the system's sound service") from error
    return sounddevice


def _input_devices() -> list[Device]:
    sounddevice = portaudio()
    try:
        found = list(sounddevice.query_devices())
    except sounddevice.PortAudioError as error:
        raise AudioError(f"PortAudio cannot list the sound inputs ({_reason(error)}): try again") from error
    default = _default_number(sounddevice)
    return [
        Device(number, raw["name"], raw["max_input_channels"], round(raw["default_samplerate"]), number == default)
        for number, raw in enumerate(found)
        if raw["max_input_channels"] > 0
    ]


def _default_number(sounddevice: Any) -> int | None:
    try:
        return sounddevice.query_devices(kind="input")["index"]
    except (sounddevice.PortAudioError, ValueError):  # there is none
        return None


def _start_anew() -> None:
    """List the devices anew (spatialaudio/python-sounddevice#125)."""
    sounddevice = portaudio()
    try:
        with suppress(sounddevice.PortAudioError):
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise AudioError(f"PortAudio does not start ({_reason(error)}): check the system's sound service") from error


def _opened(opened: Input, device: Device, receive: Receive) -> Input:
    sounddevice = portaudio()

    def call_back(samples: np.ndarray, frames: int, time: Any, status: Any) -> None:
        receive(samples, device.rate, bool(status.input_overflow))

    stream = None
    try:
        stream = sounddevice.InputStream(
            device=device.number,
            samplerate=device.rate,
            channels=opened.channels,
            dtype="float32",
            blocksize=round(device.rate * _BLOCK),
            latency=_BUFFER,
            callback=call_back,
            finished_callback=opened.end,
        )
        opened.start(stream)
    except (sounddevice.PortAudioError, ValueError) as error:
        if stream is not None:
            with suppress(Exception):
                stream.close()
        raise AudioError(
            f"{device.name} cannot be opened at {device.rate} Hz ({_reason(error)}): end other programs that use it, "
            f"or choose another input ({_LIST}){_permission()}"
        ) from error
    return opened


def _channels_to_open(device: Device, channels: Sequence[int] | None) -> int:
    if channels is None:
        return device.channels if device.channels <= MOST_MIXED else 2
    if max(channels) >= device.channels:
        numbers = "only channel 0" if device.channels == 1 else f"channels 0 to {device.channels - 1}"
        raise AudioError(f"{device.name} has no channel {max(channels)}: it has {numbers}")
    return max(channels) + 1


def _matches(wanted: int | str, devices: Sequence[Device]) -> list[list[Device]]:
    """The devices that fit, best way first."""
    if isinstance(wanted, int):
        return [[device for device in devices if device.number == wanted]]
    part = wanted.casefold()
    return [
        [device for device in devices if device.name == wanted],
        [device for device in devices if device.name.casefold() == part],
        [device for device in devices if part in device.name.casefold()],
    ]


def _named(devices: Sequence[Device]) -> str:
    return ", ".join(f"{device.number} ({device.name})" for device in devices)


def _without_place(name: str) -> str:
    return _PLACE.sub("", name)


def _reason(error: Exception) -> str:
    """What PortAudio says: its own sentence without the numbers."""
    if isinstance(error, KsttError) or not error.args:
        return str(error) or type(error).__name__
    return str(error.args[0]).rstrip(".")


def _permission() -> str:
    return "; macOS must allow it, too: System Settings > Privacy & Security > Microphone" * (sys.platform == "darwin")
