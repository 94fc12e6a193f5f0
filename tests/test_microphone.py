"""Live capture on a simulated machine: what comes out is the sound, at its true time, and ends when told to."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time

import numpy as np
import pytest
from fake_input import FakeDevice, Session, World, at_once, told_time
from true_clock import BLOCK, RATE, assert_losses, errors, measured, sine

from mlx_kstt.errors import AudioError, OptionError
from mlx_kstt.microphone import Microphone, microphone
from mlx_kstt.microphone.capture import Bell, Capture, Moment


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000, 96_000])
def test_sound_at_any_rate_comes_out_whole(rate: int) -> None:
    world = World()
    session = Session(world, FakeDevice(world, rate=rate, sound=sine(1000)))
    session.listen(4)
    session.finish()
    assert measured(session.sound) == pytest.approx((1000, 0.5), rel=1e-3)
    assert len(session.sound) == 4 * RATE
    assert session.losses == []
    assert session.news == [f"listening to Mic ({rate} Hz)"]


def test_sound_keeps_its_place() -> None:
    world = World()
    session = Session(world, FakeDevice(world, rate=44_100))
    session.listen(5)
    session.finish()
    assert np.abs(errors(session)[:-500]).max() < 1e-3
    assert max(len(block) for block in session.blocks[:-1]) <= 0.08 * RATE, "nobody waits longer than a frame"


@pytest.mark.parametrize(
    ("channels", "levels"), [(None, (0.3,)), (0, (0.5,)), (1, (0.1,)), ((1, 0), (0.1, 0.5)), ((1,), (0.1,))]
)
def test_channels_are_mixed_or_chosen_or_lanes(channels, levels: tuple[float, ...]) -> None:
    world = World()
    stereo = FakeDevice(world, channels=2, sound=lambda times: np.stack([sine(500)(times), sine(500, 0.1)(times)], 1))
    picked = (channels,) if isinstance(channels, int) else channels
    session = Session(world, stereo, channels=picked)
    session.listen(3)
    session.finish()
    assert session.mic.lanes == len(levels)
    lanes = session.sound if len(levels) > 1 else session.sound[:, None]
    assert [measured(lanes[:, i])[1] for i in range(len(levels))] == pytest.approx(levels, rel=1e-3)


def test_gain_is_a_factor_and_the_result_is_limited() -> None:
    world = World()
    session = Session(world, FakeDevice(world, rate=RATE, sound=sine(500, 0.3)), gain=2.0)
    loud = Session(world, FakeDevice(world, rate=RATE, sound=sine(500, 0.3)), gain=100.0)
    for one in (session, loud):
        one.listen(3)
        one.finish()
    assert measured(session.sound)[1] == pytest.approx(0.6, rel=1e-3)
    assert (loud.sound.min(), loud.sound.max()) == (-1.0, 1.0)


def test_a_drivers_nonsense_is_silence() -> None:
    def nonsense(times: np.ndarray) -> np.ndarray:
        samples = np.full(len(times), 0.25, np.float32)
        samples[:5] = [np.nan, np.inf, -np.inf, 3e38, -3e38]
        return samples

    world = World()
    session = Session(world, FakeDevice(world, rate=RATE, sound=nonsense))
    session.listen(1)
    assert session.sound[:6].tolist() == [0, 0, 0, 1, -1, 0.25]


def test_late_blocks_and_bursts_are_no_gap() -> None:
    world = World()
    device = FakeDevice(world)
    random = np.random.default_rng(0)
    jitter = random.uniform(0, 0.1, 10_000)
    device.late = lambda number: 0.9 - (number % 500) * BLOCK if number % 500 < 45 and number > 99 else jitter[number]
    session = Session(world, device)
    session.listen(60)
    session.finish()
    assert session.losses == []
    assert np.abs(errors(session)).max() < 0.11


def test_zeros_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    world = World()
    begin = world.clock
    device = FakeDevice(world, sound=lambda times: np.where((times - begin) % 60 < 30, 0.0, 0.1))
    session = Session(world, device)
    session.listen(1.9)
    assert session.news == []
    session.listen(25)
    assert session.news == ["no sound arrives from Mic: it is silent or muted"]
    session.listen(10)
    assert session.news[1:] == ["listening to Mic (48000 Hz)"]
    session.listen(60)
    assert session.news[2:] == ["no sound arrives from Mic: it is silent or muted"], "muted again for more than 10 s"
    session.listen(120)
    assert len(session.news) == 3, "a virtual device is so whenever nothing is played"


def test_permission_is_no_matter_once_sound_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    world = World()
    begin = world.clock
    device = FakeDevice(world, sound=lambda times: np.where((times - begin) % 20 < 5, 0.1, 0.0))
    session = Session(world, device)
    session.listen(100)
    device.go()
    session.listen(3)
    device.come()
    session.listen(100)
    assert session.news[:2] == ["listening to Mic (48000 Hz)", "no sound arrives from Mic: it is silent or muted"]
    assert not any("Privacy" in message for message in session.news)
    assert sum("no sound arrives" in message for message in session.news) == 1


@pytest.mark.parametrize(
    ("program", "named"), [("iTerm.app", "allow iTerm in"), ("rio", "allow rio in"), ("", "allow the program that")]
)
def test_macos_permission_is_explained(program: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("TERM_PROGRAM", program)
    world = World()
    session = Session(world, FakeDevice(world, sound=np.zeros_like))
    session.listen(3)
    (message,) = session.news
    assert named in message
    assert "System Settings > Privacy & Security > Microphone" in message


def test_stop_delivers_what_waits_and_close_does_not() -> None:
    for ends, seconds in (("stop", 3.0), ("close", 0.0)):
        world = World()
        device = FakeDevice(world, rate=RATE)
        session = Session(world, device)
        world.wait(3)
        getattr(session.mic, ends)()
        world.wait(3)
        blocks = list(session.mic)
        assert sum(len(block) for block in blocks if isinstance(block, np.ndarray)) / RATE == pytest.approx(seconds)
        assert device.open_inputs == []
        with pytest.raises(StopIteration):
            next(session.mic)


def test_stop_while_the_device_is_gone() -> None:
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(3)
    device.go()
    session.listen(10)
    session.finish()
    assert_losses(session, [10], [4])
    assert session.seconds == pytest.approx(13, abs=BLOCK)


def test_the_first_opening_must_work() -> None:
    world = World()
    there, gone = FakeDevice(world), FakeDevice(world, "Other")
    gone.go()
    with pytest.raises(AudioError, match="there is no sound input Other"):
        Session(world, there, gone)
    assert there.open_inputs == [], "and the other one is let go of"


@pytest.mark.parametrize("ends", ["stop", "close"])
def test_a_waiting_loop_ends_at_once(ends: str) -> None:
    world = World()
    mic = Microphone([FakeDevice(world)], spawn=at_once, bell=Bell())  # real waiting, and a device that never calls
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.extend(mic))
    thread.start()
    began = time.monotonic()
    getattr(mic, ends)()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - began < 1
    assert found == []


def test_a_signal_handler_may_stop_it_and_ctrl_c_interrupts_the_wait() -> None:
    mic = Microphone([FakeDevice(World())], spawn=at_once, bell=Bell())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            next(mic)
        signal.signal(signal.SIGALRM, lambda *_: mic.stop())
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert list(mic) == []
    finally:
        signal.signal(signal.SIGALRM, before)


def test_two_lanes_of_two_devices_and_one_is_lost() -> None:
    world = World()
    good, bad = FakeDevice(world, "Good", rate=44_100), FakeDevice(world, "Bad", rate=16_000)
    session = Session(world, good, bad)
    session.listen(5)
    bad.go()
    session.listen(20)
    bad.come()
    session.listen(10)
    session.finish()
    assert session.sound.shape[1] == session.mic.lanes == 2
    (lost,) = session.losses
    assert lost.lane == 1
    assert lost.seconds == lost.filled
    assert 20 <= lost.seconds < 22.5
    assert lost.reason == "Bad had stopped"
    at = session.delivered_before(lost)
    assert at - lost.seconds == pytest.approx(5, abs=0.05), "it begins where the device went"
    for lane in range(2):
        off = errors(session, lane)
        assert np.quantile(np.abs(off), 0.999) < 0.025
        assert len(off) / RATE == pytest.approx(35 - (lost.seconds if lane else 0), abs=0.1)


def test_a_lane_that_is_closed_for_another_ones_sake_has_a_short_gap_of_its_own() -> None:
    world = World()
    good, bad = FakeDevice(world, "Good", rate=RATE), FakeDevice(world, "Bad", rate=RATE)
    session = Session(world, good, bad)
    session.listen(5)
    good.open_inputs[0].objection = "was closed to look for a microphone that is missing"
    session.listen(5)
    session.finish()
    (lost,) = session.losses
    assert (lost.lane, lost.filled) == (0, lost.seconds)
    assert lost.reason == "Good was closed to look for a microphone that is missing"
    assert lost.seconds < 0.5
    assert len(errors(session, 1)) / RATE == pytest.approx(10, abs=0.05)
    assert np.quantile(np.abs(errors(session, 0)), 0.999) < 0.025


@pytest.mark.parametrize("starts_after", [(0.0, 0.3), (0.3, 0.0), (0.0, 1.5), (1.5, 0.0)])
def test_devices_that_start_at_different_times_are_side_by_side(starts_after: tuple[float, float]) -> None:
    world = World()
    devices = [FakeDevice(world, name, rate=RATE) for name in ("A", "B")]
    for device, seconds in zip(devices, starts_after, strict=True):
        device.starts_after = seconds
    session = Session(world, *devices)
    session.listen(10)
    session.finish()
    assert session.seconds == pytest.approx(10, abs=BLOCK)
    for lane, seconds in enumerate(starts_after):
        off = errors(session, lane)
        assert np.abs(off).max() < 1e-3
        assert len(off) / RATE == pytest.approx(10 - seconds, abs=0.05)
    assert sum(lost.seconds - lost.filled for lost in session.losses) == 0


def test_a_lane_that_stalls_is_filled_and_what_comes_too_late_is_left_out() -> None:
    world = World()
    good, bad = FakeDevice(world, "Good", rate=RATE), FakeDevice(world, "Bad", rate=RATE)
    bad.late = lambda number: 0.95 - (number - 250) * BLOCK if 250 <= number < 297 else 0.0
    session = Session(world, good, bad)
    session.listen(15)
    session.finish()
    assert {lost.lane for lost in session.losses} == {1}
    assert {lost.reason for lost in session.losses} == {"its sound came too late"}
    assert all(lost.seconds == lost.filled for lost in session.losses)
    assert 0.2 < sum(lost.seconds for lost in session.losses) < 1
    off = told_time(session.sound[:, 1]) - (session.start + np.arange(len(session.sound)) / RATE) % 200
    assert np.abs(off[session.sound[:, 1] > 0]).max() < 0.025, "the lanes stay side by side"
    assert len(session.sound) / RATE == pytest.approx(15, abs=BLOCK)


def test_both_lanes_sleep_and_only_the_rest_of_one_is_filled() -> None:
    world = World()
    good, bad = FakeDevice(world, "Good", rate=RATE), FakeDevice(world, "Bad", rate=RATE, block=0.05)
    session = Session(world, good, bad)
    session.listen(5)
    bad.go()
    session.listen(3)
    world.sleep(3600)
    session.listen(5)
    bad.come()
    session.listen(10)
    session.finish()
    together = [lost for lost in session.losses if lost.lane is None]
    assert [lost.seconds for lost in together] == [pytest.approx(3600, abs=1.3)], "less the last of its 4 s of silence"
    alone = [lost for lost in session.losses if lost.lane == 1]
    assert all(lost.seconds == lost.filled for lost in alone)
    assert session.seconds == pytest.approx(3623, abs=0.1)
    assert 8 < sum(lost.seconds for lost in alone) < 11
    assert len(session.sound) / RATE < 30, "nobody is given an hour of silence"


def test_the_asynchronous_way() -> None:
    world = World()
    session = Session(world, FakeDevice(world, rate=RATE))

    async def listen() -> int:
        count = 0
        async for block in session.mic:
            assert isinstance(block, np.ndarray)
            count += len(block)
            if count >= RATE:
                session.mic.stop()
        return count

    assert asyncio.run(listen()) == pytest.approx(RATE, abs=BLOCK * RATE)


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    world = World()
    mic = Microphone([FakeDevice(world)], spawn=at_once, bell=Bell())
    threads = threading.active_count()

    async def listen() -> None:
        waiting = asyncio.ensure_future(mic.__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        waiting = asyncio.ensure_future(mic.__anext__())
        await asyncio.sleep(0)
        stopping = threading.Thread(target=mic.stop)
        stopping.start()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, 5)
        stopping.join()

    asyncio.run(listen())
    assert threading.active_count() <= threads
    mic.close()


def test_the_devices_thread_only_copies() -> None:
    capture = Capture(1.0, lambda: Moment(1, 1), Bell())
    block = np.full((800, 1), 0.5, np.float32)
    for _ in range(25):
        capture(block, 16_000, False)
    block[:] = 0  # PortAudio's memory is used again
    arrivals = capture.take()
    assert len(arrivals) == 20
    assert all((arrival.samples == 0.5).all() for arrival in arrivals)
    assert capture.dropped == 5 * 800
    capture(block, 16_000, True)
    assert [(arrival.dropped, arrival.overflowed) for arrival in capture.take()] == [(4000, True)]
    assert (capture.dropped, capture.overruns) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": 0}, "gain is 0; it must be above 0"),
        ({"gain": float("nan")}, "gain is nan"),
        ({"queue_seconds": 0.5}, "queue_seconds is 0.5; it must be at least 1"),
        ({"queue_seconds": float("inf")}, "queue_seconds is inf"),
        ({"channels": -1}, "channels are -1"),
        ({"channels": ()}, r"channels are \(\)"),
        ({"channels": True}, "channels are True"),
        ({"device": []}, "the list of devices is empty"),
        ({"device": ""}, "the device is ''"),
        ({"device": -3}, "the device is -3"),
        ({"device": ["a", "b"], "channels": [0, 1]}, "several devices are a lane each"),
    ],
)
def test_options_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        microphone(**options)


def test_a_microphone_that_nobody_holds_lets_go_of_its_device() -> None:
    """As in `for event in stt.stream(microphone())`, left early."""
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(0.2)
    assert len(device.open_inputs) == 1
    del session.mic
    gc.collect()
    assert device.open_inputs == []
