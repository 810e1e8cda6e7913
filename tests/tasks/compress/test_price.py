"""Prices on a machine that other work disturbs."""

from igcv3det.measure.latency import Timing
from igcv3det.tasks.compress import price


def _measured(monkeypatch, *durations):
    """Prices of a call whose attempts take these milliseconds, and how many were made."""
    attempts = iter(durations)
    made = []

    def time_in_turn(calls, rounds, warmup):
        made.append(rounds)
        return [Timing(name, own) for name, own in zip(calls, next(attempts), strict=True)]

    monkeypatch.setattr(price, "time_in_turn", time_in_turn)
    return price._quiet_in_turn(dict.fromkeys(("before", "after"), int)), len(made)


def test_a_quiet_measurement_is_taken_at_once(monkeypatch):
    assert _measured(monkeypatch, [(2.0, 2.0, 9.0), (1.5, 1.5, 1.5)]) == ([2.0, 1.5], 1)


def test_a_disturbed_measurement_is_repeated(monkeypatch):
    disturbed = [(20.0, 19.0, 20.0, 2.0, 21.0, 19.0, 20.0, 20.0), (1.5,) * 8]
    assert _measured(monkeypatch, disturbed, [(2.0,) * 8, (1.5,) * 8]) == ([2.0, 1.5], 2)


def test_of_disturbed_measurements_alone_the_fastest_counts(monkeypatch):
    slow, faster = [(20.0,) * 8 + (1.0,), (3.0,) * 9], [(4.0,) * 8 + (1.0,), (3.0,) * 9]
    attempts = [slow, faster, slow, slow, slow]
    assert len(attempts) == price.ATTEMPTS
    assert _measured(monkeypatch, *attempts) == ([4.0, 3.0], price.ATTEMPTS)
