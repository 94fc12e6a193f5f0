"""Live capture on a simulated machine: what comes out is the sound, at its true time, whatever the device does."""

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

from mlx_kstt.errors import AudioError, OptionError
from mlx_kstt.microphone import Microphone, microphone
from mlx_kstt.microphone.background import in_background
from mlx_kstt.microphone.capture import Arrival, Bell, Capture, Moment
from mlx_kstt.microphone.pace import Pace
from mlx_kstt.microphone.timeline import OVERRUN, SLEPT, Hole, Timeline

RATE = 24_000
BLOCK = 0.02


def sine(frequency: float, level: float = 0.5):
    return lambda times: level * np.sin(2 * np.pi * frequency * times)


def measured(sound: np.ndarray) -> tuple[float, float]:
    """Frequency and level of a sine."""
    middle = sound[RATE : 2 * RATE]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(spectrum.argmax()), float(np.sqrt(2 * np.mean(middle**2)))


def errors(session: Session, lane: int | None = None) -> np.ndarray:
    """Seconds by which the timeline is off, for each sample that is sound; not at the edges, where a filter rings."""
    sound = session.sound if lane is None else session.sound[:, lane]
    times = np.concatenate([begin + np.arange(len(block)) / RATE for begin, block in session.on_timeline()])
    off = told_time(sound) - (session.start + times) % 200
    counts = np.cumsum(np.pad(sound > 0.049, (201, 200)))
    is_sound = counts[401:] - counts[:-401] == 401
    return ((off + 100) % 200 - 100)[is_sound]


def assert_true_to_the_clock(session: Session, most: float = BLOCK + 1e-3) -> None:
    off = errors(session)
    assert len(off) > RATE
    assert np.quantile(np.abs(off), 0.999) <= most
    assert session.seconds == pytest.approx(session.world.clock - session.start, abs=most)


def assert_losses(session: Session, seconds: list[float], filled: list[float], most: float = BLOCK + 1e-3) -> None:
    assert [lost.seconds for lost in session.losses] == pytest.approx(seconds, abs=most)
    assert [lost.filled for lost in session.losses] == pytest.approx(filled, abs=most)


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


def cuts(session: Session) -> list[float]:
    """Seconds of recorded time that are left out within the sound."""
    times = told_time(session.sound[session.sound > 0.049])
    steps = np.diff(times) % 200
    return [round(float(step), 3) for step in steps if 2e-3 < step < 199.9]


@pytest.mark.parametrize("blocks", [10, 30, 70, 300])
@pytest.mark.parametrize("late", [0.1, 0.25, 0.4, 0.9])
def test_a_beginning_that_comes_late_costs_no_sound(late: float, blocks: int) -> None:
    world = World()
    device = FakeDevice(world, rate=RATE)
    device.late = lambda number: late if number < blocks else 0.0
    session = Session(world, device)
    session.listen(20)
    session.finish()
    assert session.losses == []
    assert cuts(session) == []
    assert len(session.sound) / RATE == pytest.approx(20, abs=BLOCK)


@pytest.mark.parametrize("late", [0.1, 0.25, 0.4, 0.9])
def test_sound_that_comes_late_after_a_loss_is_whole_and_the_next_loss_makes_up_for_it(late: float) -> None:
    world = World()
    device = FakeDevice(world, rate=RATE)
    session = Session(world, device)
    session.listen(10)
    for _ in range(3):
        device.late = lambda number: late if number < 70 else 0.0
        device.go()
        session.listen(4)
        device.come()
        session.listen(20)
    device.late = lambda number: 0.0
    device.go()
    session.listen(4)
    device.come()
    session.listen(5)
    session.finish()
    assert len(session.losses) == len(cuts(session)) == 4, "only where the device was away"
    assert session.seconds == pytest.approx(world.clock - session.start, abs=0.1)


def test_a_pause_that_was_told_too_long_ends_no_speech() -> None:
    timeline, told = Timeline(120), 0
    for i in range(400):
        clock = 1000 + i * 0.02 + (0.9 if 100 <= i < 150 else 0.0)  # a stall that is taken for a gap, then caught up
        loud = np.full((20, 1), 0.3 if i % 7 else 0.01, np.float32)  # with quiet consonants
        told += sum(
            len(item.samples)
            for item in timeline.add(Arrival(Moment(clock, clock), loud, 1000))
            if isinstance(item, Arrival)
        )
    assert told == 400 * 20


@pytest.mark.parametrize(
    ("named", "ppm", "true"), [(48_000, -5e5, 24_000), (16_000, 2e6, 48_000), (44_100, 88_435, 48_000)]
)
def test_a_device_whose_rate_changes_under_the_stream_is_opened_anew(named: int, ppm: float, true: int) -> None:
    world = World()
    device = FakeDevice(world, rate=named)

    def opening(receive):
        device.ppm = 0.0
        return device(receive)

    session = Session(world, opening)  # pyright: ignore[reportArgumentType]
    session.listen(10)
    device.ppm = ppm
    session.listen(5)
    assert device.opened == 2
    assert session.news[1] == f"Mic recorded at about {true} Hz, not at {named}: the input is opened anew"
    session.listen(60)
    session.finish()
    assert device.opened == 2
    assert session.seconds == pytest.approx(75, abs=2.1), "a device that was too fast has told up to 2 s too much"
    if true < named:
        assert session.seconds == pytest.approx(75, abs=0.1)
        assert {lost.reason for lost in session.losses} == {OVERRUN, f"Mic recorded at about {true} Hz, not at {named}"}


@pytest.mark.parametrize("ppm", [-4e5, 2e6])
def test_a_device_that_is_always_off_is_opened_anew_ever_more_rarely(ppm: float) -> None:
    world = World()
    device = FakeDevice(world, rate=RATE)
    device.ppm = ppm
    session = Session(world, device)
    session.listen(200)
    assert 5 <= device.opened <= 8
    assert session.seconds == pytest.approx(200, abs=4.1), "2 s at the beginning and 2 s since"


def test_a_busy_machine_is_not_taken_for_another_rate() -> None:
    world = World()
    device = FakeDevice(world)
    random = np.random.default_rng(3)
    jitter = random.uniform(0, 0.2, 20_000)
    device.late = lambda number: 0.9 - (number % 90) * BLOCK if number % 90 < 45 else jitter[number]
    session = Session(world, device)
    for _ in range(60):
        session.listen(random.uniform(0.2, 3))
        device.loses = random.uniform(0.05, 0.8)
    assert [message for message in session.news if "recorded at" in message] == []


def test_pace_knows_small_errors_from_none() -> None:
    shares = []
    for off in (0.0, 0.02, -0.02, 0.04, -0.04):
        pace, found = Pace(), None
        for i in range(300):
            pace.see(5 + i * 0.02, 0.02 * (1 + off))
            found = found or pace.take()
        shares.append(found)
    assert shares == [None, None, None, pytest.approx(1.04, abs=1e-3), pytest.approx(0.96, abs=1e-3)]


def test_what_should_not_be_raised_while_opening_is_no_end() -> None:
    world = World()
    device = FakeDevice(world)
    failures: list[BaseException] = [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a name"), OSError(), KeyError("index")]

    def opening(receive):
        if device.opened and failures:
            raise failures.pop()
        return device(receive)

    session = Session(world, opening)  # pyright: ignore[reportArgumentType]
    session.listen(5)
    device.go()
    session.listen(1.5)
    device.come()
    session.listen(10)
    session.finish()
    assert (failures, device.opened) == ([], 2)
    (lost,) = session.losses
    assert 1.5 < lost.seconds < 6
    assert_true_to_the_clock(session)


def test_work_in_the_background_can_be_waited_for() -> None:
    done: list[bool] = []
    in_background(lambda: (time.sleep(0), done.append(threading.current_thread() is not threading.main_thread())))(5)
    assert done == [True]


def test_a_device_that_is_objected_to_is_opened_anew() -> None:
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(5)
    device.open_inputs[0].objection = "was no longer the default input"
    session.listen(5)
    session.finish()
    (lost,) = session.losses
    assert (lost.reason, lost.seconds < 0.5) == ("Mic was no longer the default input", True)
    assert session.news[1] == "Mic was no longer the default input: the input is opened anew"
    assert_true_to_the_clock(session)


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.9])
def test_an_overrun_is_one_gap_at_its_place(seconds: float, is_told: bool) -> None:
    world = World()
    device = FakeDevice(world)
    device.tells_loss = is_told
    session = Session(world, device)
    session.listen(5)
    device.loses = seconds
    session.listen(5)
    session.finish()
    assert_losses(session, [seconds], [0.0])
    assert session.losses[0].reason == OVERRUN
    assert session.delivered_before(session.losses[0]) == pytest.approx(5, abs=BLOCK)
    assert_true_to_the_clock(session)
    assert bool(session.mic.overruns) == is_told


def test_small_overruns_that_are_told_are_gaps_too() -> None:
    world = World()
    device = FakeDevice(world, block=0.06)
    session = Session(world, device)
    session.listen(5)
    device.loses = 0.05
    session.listen(5)
    session.finish()
    assert_losses(session, [0.05], [0.0], most=1e-3)
    assert session.news[1:] == ["Mic loses sound, since the machine is too busy: 1 overruns so far"]


def test_what_the_queue_has_no_room_for_is_counted_exactly() -> None:
    world = World()
    session = Session(world, FakeDevice(world, rate=16_000), queue_seconds=10)
    session.listen(2)
    taken = len(session.sound)
    world.wait(30)
    assert session.mic.queued == pytest.approx(10, abs=0.05)
    session.listen(20)
    session.finish()
    (lost,) = session.losses
    assert lost.reason == "decoding was too slow: more than 10 s were waiting"
    assert lost.filled == 0
    assert taken / RATE == pytest.approx(2, abs=0.05)
    assert 20 <= lost.seconds < 21.1
    assert lost.seconds / BLOCK == pytest.approx(round(lost.seconds / BLOCK), abs=1e-6), "whole blocks were dropped"
    assert_true_to_the_clock(session, most=2e-3)
    assert any("decoding is too slow: 10 s of sound wait" in message for message in session.news)
    assert max(len(block) for block in session.blocks) == 2 * RATE, "all that waits, but at most 2 s"


def test_a_queue_that_is_full_at_the_end_says_so() -> None:
    world = World()
    session = Session(world, FakeDevice(world, rate=RATE), queue_seconds=2)
    world.wait(5)
    session.finish()
    (lost,) = session.losses
    assert (lost.seconds, len(session.sound) / RATE) == (pytest.approx(3), pytest.approx(2))


def test_a_device_that_comes_and_goes_100_times() -> None:
    world = World()
    device = FakeDevice(world, rate=44_100, block=0.05)
    session = Session(world, device)
    random = np.random.default_rng(1)
    outages = []
    for _ in range(100):
        session.listen(random.uniform(3, 6))
        gone = random.uniform(1.5, 20)
        world.at(0, device.go)
        world.at(gone, device.come)
        opened, left = device.opened, world.clock
        session.listen(gone)
        while device.opened == opened:
            session.listen(0.05)
        outages.append(world.clock - left)
    session.listen(3)
    session.finish()
    assert len(session.losses) == 100
    assert_losses(session, outages, [min(4.0, lost.seconds - 0.2) for lost in session.losses], most=0.15)
    assert_true_to_the_clock(session, most=0.051)
    assert {lost.reason for lost in session.losses} == {"Mic had stopped"}
    assert session.news[1] == "Mic has stopped: waiting for it to come back"
    assert session.news[2] == f"listening to Mic (44100 Hz) again, {session.losses[0].seconds:.1f} s were lost"
    assert len(session.news) == 201
    assert len(device.open_inputs) == 0, "nothing is left open"


def test_silence_for_four_seconds_in_real_time_then_nothing() -> None:
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(3)
    device.go()
    counts = []
    for _ in range(8):
        session.items.clear()
        session.listen(1)
        counts.append(sum(len(block) for block in session.blocks) / RATE)
        assert all(not block.any() for block in session.blocks[1:])
    assert counts == pytest.approx([0, 1.75, 1, 1, 0.25, 0, 0, 0], abs=0.2)


def test_attempts_to_open_it_again_become_rare() -> None:
    world = World()
    device = FakeDevice(world)
    times = []

    def opening(receive):
        times.append(world.awake)
        return device(receive)

    session = Session(world, opening)  # pyright: ignore[reportArgumentType]
    session.listen(2)
    device.go()
    session.listen(12)
    waits = np.diff(times)[1:]
    assert waits == pytest.approx([0.5, 1, 2, 2, 2, 2][: len(waits)], abs=0.17)
    assert len(waits) >= 5


def test_another_rate_and_name_after_the_loss() -> None:
    world = World()
    device = FakeDevice(world, rate=48_000)
    session = Session(world, device)
    session.listen(5)
    device.go()
    session.listen(3)
    device.rate, device.name, device.channels = 16_000, "Headset", 2
    device.come()
    session.listen(8)
    session.finish()
    assert session.news[2].startswith("listening to Headset (16000 Hz) again, ")
    assert_true_to_the_clock(session)
    assert len(session.losses) == 1


def test_a_device_that_says_that_it_has_ended_is_lost_at_once() -> None:
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(5)
    device.open_inputs[0].is_active = False
    session.listen(5)
    session.finish()
    assert_losses(session, [0.3], [0.05], most=0.2)
    assert_true_to_the_clock(session)


def test_a_device_that_opens_again_and_does_not_call_is_still_lost() -> None:
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(5)
    device.is_dumb = True
    session.listen(20)
    device.is_dumb = False
    session.listen(10)
    session.finish()
    (lost,) = session.losses
    assert lost.filled == pytest.approx(4)
    assert device.opened > 3
    assert session.news[1:] == [
        "Mic has stopped: waiting for it to come back",
        f"listening to Mic (48000 Hz) again, {lost.seconds:.1f} s were lost",
    ]
    assert_true_to_the_clock(session)


def test_an_opening_that_takes_long_is_not_held_against_the_device() -> None:
    world = World()
    device = FakeDevice(world)

    def slowly(receive):
        world.wait(6)
        return device(receive)

    session = Session(world, slowly)  # pyright: ignore[reportArgumentType]
    session.listen(3)
    assert session.news == ["listening to Mic (48000 Hz)"]
    assert device.opened == 1


def test_a_sleep_of_an_hour_is_a_gap() -> None:
    world = World()
    session = Session(world, FakeDevice(world))
    session.listen(5)
    world.sleep(3600)
    session.listen(5)
    session.finish()
    assert_losses(session, [3600], [0])
    assert session.losses[0].reason == SLEPT
    assert_true_to_the_clock(session)
    assert session.news == ["listening to Mic (48000 Hz)"], "the device was never lost"


def test_a_device_that_is_gone_after_the_sleep() -> None:
    world = World()
    device = FakeDevice(world)
    session = Session(world, device)
    session.listen(5)
    world.sleep(3600)
    device.go()
    session.listen(8)
    device.come()
    session.listen(5)
    session.finish()
    (lost,) = session.losses
    assert (lost.reason, lost.filled) == (SLEPT, pytest.approx(4))
    assert 3608 < lost.seconds < 3611
    assert_true_to_the_clock(session)


@pytest.mark.parametrize("ppm", [100, -100, 0])
def test_a_day_with_a_clock_that_is_off(ppm: float) -> None:
    timeline = Timeline(120)
    rate, seconds = 100, 1.0  # a block a second
    speech, pause = np.full((100, 1), 0.3, np.float32), np.full((100, 1), 1e-4, np.float32)
    told, worst = 0.0, 0.0
    for i in range(1, 86_400 + 1):
        clock = 1000 + i * seconds / (1 + ppm * 1e-6)
        sound = pause if i % 20 == 0 else speech
        items = timeline.add(Arrival(Moment(clock, clock), sound, rate))
        assert not any(isinstance(item, Hole) for item in items)
        for item in items:
            assert isinstance(item, Arrival)
            assert sound is pause or item.samples is speech, "speech is never cut"
            told += item.seconds
        worst = max(worst, abs(told - (clock - 1000)))
    assert told == pytest.approx(timeline.seconds)
    assert worst < 0.25
    assert worst == pytest.approx(0.08 if ppm else 0.0, abs=0.02)


def test_many_small_losses_without_a_pause_are_told_as_gaps() -> None:
    timeline, holes, clock = Timeline(120), [], 1000.0
    for i in range(1, 200):
        clock += 0.6 if i % 24 == 0 else 0.5
        block = np.full((50, 1), 0.01 if i % 100 == 1 else 0.3, np.float32)
        items = timeline.add(Arrival(Moment(clock, clock), block, 100))
        holes += [item for item in items if isinstance(item, Hole)]
        assert clock - 1000 - timeline.seconds < 0.45
    assert [hole.seconds for hole in holes] == pytest.approx([0.2, 0.22], abs=0.01)
    assert {hole.reason for hole in holes} == {OVERRUN}


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
