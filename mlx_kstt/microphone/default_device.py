"""Which input is the system's default, on macOS, where nothing moves an open stream to a new one.

In: CoreAudio. Out: a number, and whether it has become another. Knows nothing of PortAudio, whose list and default are
those of the moment when it was started. (On Linux the sound service moves streams by itself.)

Constants and calls: Apple, CoreAudio/AudioHardware.h and AudioHardwareBase.h.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .background import Spawn, in_background

_FRAMEWORK = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
_SYSTEM_OBJECT = 1
_GLOBAL_SCOPE = int.from_bytes(b"glob", "big")
_MAIN_ELEMENT = 0
_DEFAULT_INPUT = int.from_bytes(b"dIn ", "big")
_RUN_LOOP = int.from_bytes(b"rnlp", "big")
_PERIOD = 2.0
"""Seconds between two looks."""


class _Address(ctypes.Structure):
    """AudioObjectPropertyAddress."""

    _fields_ = [("selector", ctypes.c_uint32), ("scope", ctypes.c_uint32), ("element", ctypes.c_uint32)]


def core_audio() -> Any:
    """The library, None where there is none. It is told to keep its values up to date by a thread of its own.

    Without that it waits for the main thread's run loop, which a program in a terminal does not have (RtAudio does the
    same).
    """
    if sys.platform != "darwin":
        return None
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_FRAMEWORK)
        to_address, to_size = ctypes.POINTER(_Address), ctypes.POINTER(ctypes.c_uint32)
        head = [ctypes.c_uint32, to_address, ctypes.c_uint32, ctypes.c_void_p]
        library.AudioObjectGetPropertyData.argtypes = [*head, to_size, ctypes.c_void_p]
        library.AudioObjectGetPropertyData.restype = ctypes.c_int32
        library.AudioObjectSetPropertyData.argtypes = [*head, ctypes.c_uint32, ctypes.c_void_p]
        library.AudioObjectSetPropertyData.restype = ctypes.c_int32
        own_thread = ctypes.c_void_p(None)
        library.AudioObjectSetPropertyData(
            _SYSTEM_OBJECT, _address(_RUN_LOOP), 0, None, ctypes.sizeof(own_thread), ctypes.byref(own_thread)
        )
        return library
    return None


def default_input(library: Any) -> int | None:
    """CoreAudio's number of the default input, None where there is none."""
    device, size = ctypes.c_uint32(0), ctypes.c_uint32(ctypes.sizeof(ctypes.c_uint32))
    status = library.AudioObjectGetPropertyData(
        _SYSTEM_OBJECT, _address(_DEFAULT_INPUT), 0, None, ctypes.byref(size), ctypes.byref(device)
    )
    return device.value if status == 0 and device.value else None


class DefaultWatch:
    """Notices that the default is another than when it was made; looks now and then, in the background."""

    def __init__(self, library: Any, clock: Callable[[], float] = time.monotonic, spawn: Spawn = in_background) -> None:
        """Library, clock and background are parameters for tests; without a library nothing is ever noticed."""
        self._library = library
        self._clock = clock
        self._spawn = spawn
        self._known: int | None = None
        self._seen: int | None = None
        self._has_changed = self._is_busy = False
        self._next = clock() + _PERIOD
        if library is not None:
            with suppress(Exception):  # a comfort only
                self._known = self._seen = default_input(library)

    @property
    def has_changed(self) -> bool:
        """Whether it is another one now, and was so the time before: while devices come and go it may jump."""
        if self._library is not None and not self._is_busy and self._clock() >= self._next:
            self._next = self._clock() + _PERIOD
            self._is_busy = True
            try:
                self._spawn(self._look)
            except RuntimeError:  # no thread can be started
                self._is_busy = False
        return self._has_changed

    def _look(self) -> None:
        with suppress(Exception):  # a comfort only
            found = default_input(self._library)
            self._known = found if self._known is None else self._known
            self._has_changed |= found is not None and found == self._seen and found != self._known
            self._seen = found
        self._is_busy = False


def _address(selector: int) -> Any:
    return ctypes.byref(_Address(selector, _GLOBAL_SCOPE, _MAIN_ELEMENT))
