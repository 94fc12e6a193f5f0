"""Which devices and channels are heard, and what their speakers are called.

In: the options of `mic`, and the devices of this machine. Out: what to open, and a label for each lane. Knows nothing
of sound.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OptionError
from ..microphone.devices import Device, find_device, input_devices


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `microphone` is to open.

    Attributes:
        device: one device (None is the default), or a device for each lane.
        channels: None mixes them all, a number takes one (of each device), several are a lane each.
        lanes: the speakers' labels; none where there is one lane.
    """

    device: int | str | tuple[int | str, ...] | None = None
    channels: int | tuple[int, ...] | None = None
    lanes: tuple[str, ...] = ()


def choose_inputs(args: argparse.Namespace) -> Inputs:
    """What the options name, where it is there.

    Raises:
        AudioError: a device is not there, or has not got the channel.
        OptionError: a name fits several devices, or two of them are the same one.
    """
    devices = input_devices()
    wanted: list[int | str | None] = args.device or [None]
    found = [find_device(name, devices) for name in wanted]
    if len(found) > 1:
        _check_different(found)
        names = tuple(name for _, name in args.speakers) if args.speakers else _names(found)
        return Inputs(tuple(args.device), args.channel, names)
    if args.speakers:
        return Inputs(wanted[0], tuple(place for place, _ in args.speakers), tuple(name for _, name in args.speakers))
    return Inputs(wanted[0], args.channel)


def _check_different(devices: Sequence[Device]) -> None:
    numbers = [device.number for device in devices]
    for device in devices:
        if numbers.count(device.number) > 1:
            raise OptionError(f"two --device name {device.name}: for two speakers on one device use --speakers")


def _names(devices: Sequence[Device]) -> tuple[str, ...]:
    """The devices' names, with their numbers where two are called the same."""
    names = [device.name for device in devices]
    return tuple(
        f"{device.name} {device.number}" if names.count(device.name) > 1 else device.name for device in devices
    )
