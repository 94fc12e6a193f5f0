"""Devices that are late, lose sound, change, sleep or go away: every loss is told, and the time stays true."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from fake_input import FakeDevice, Session, World
from true_clock import BLOCK, RATE, assert_losses, assert_true_to_the_clock, cuts

from mlx_kstt.microphone.background import in_background
from mlx_kstt.microphone.capture import Arrival, Moment
from mlx_kstt.microphone.pace import Pace
from mlx_kstt.microphone.timeline import OVERRUN, SLEPT, Hole, Timeline


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
