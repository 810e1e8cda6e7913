"""Turns, medians and ratios, on a fake clock."""

import pytest

from igcv3det.measure.latency import Timing, quantile, ratios, time_in_turn


class FakeClock:
    """Calls that take a known time each."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def call(self, name, seconds):
        def work():
            self.log.append(name)
            self.now += seconds

        return work


def test_every_round_calls_each_once_and_starts_with_another():
    clock = FakeClock()
    calls = {name: clock.call(name, 1.0) for name in "abc"}
    time_in_turn(calls, rounds=3, warmup=1, clock=lambda: clock.now)
    assert "".join(clock.log) == "abc" + "abc" + "bca" + "cab"


def test_durations_and_ratios():
    clock = FakeClock()
    calls = {"slow": clock.call("slow", 0.004), "fast": clock.call("fast", 0.001)}
    slow, fast = time_in_turn(calls, rounds=5, warmup=2, clock=lambda: clock.now)
    assert (slow.name, fast.name) == ("slow", "fast")
    assert slow.milliseconds == pytest.approx((4.0,) * 5)
    assert ratios([slow, fast]) == pytest.approx([1.0, 0.25])


def test_the_device_is_waited_for_before_each_reading_of_the_clock():
    clock = FakeClock()
    waits = []
    time_in_turn(
        {"a": clock.call("a", 1.0)},
        rounds=2,
        warmup=0,
        clock=lambda: waits.append("clock") or 0.0,
        synchronize=lambda: waits.append("wait"),
    )
    assert waits == ["wait", "clock"] * 4


def test_figures_of_one_timing():
    timing = Timing("a", tuple(float(i) for i in range(11, 0, -1)))  # 1..11
    assert (timing.median_ms, timing.p90_ms, timing.spread_ms) == (6.0, 10.0, 8.0)
    assert Timing("b", (5.0,)).spread_ms == 0.0
    assert quantile([1.0, 2.0], 0.25) == 1.25


@pytest.mark.parametrize(
    ("calls", "rounds"), [({}, 3), ({"a": int}, 0)], ids=["no calls", "no rounds"]
)
def test_nothing_to_time(calls, rounds):
    with pytest.raises(ValueError, match=r"nothing to time|rounds must be >= 1"):
        time_in_turn(calls, rounds=rounds)
