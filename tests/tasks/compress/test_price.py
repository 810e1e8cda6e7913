"""Prices on a machine that other work disturbs, and of blocks that differ themselves."""

import dataclasses

from tasks.compress.networks import MOBILENETV2, explicit_of, teacher_of

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


def test_blocks_that_differ_between_alike_neighbours_have_prices_of_their_own(monkeypatch):
    monkeypatch.setattr(price, "_quiet_in_turn", lambda calls: [1.0] * len(calls))
    config = explicit_of(MOBILENETV2).config
    blocks = config.backbone.blocks
    middle = next(b for b in blocks if b.stage == 4 and b.shortcut)
    widths = (96, 128, 96, 64, 96)
    own = tuple(dataclasses.replace(middle, hidden=hidden) for hidden in widths)
    start = blocks.index(middle)
    listed = (*blocks[:start], *own, *(b for b in blocks if b.stage > 4))
    backbone = dataclasses.replace(config.backbone, blocks=listed)
    teacher = teacher_of(dataclasses.replace(config, backbone=backbone))
    pricer, candidates = price.Pricer(teacher, "torch", 1), teacher.candidates()
    for number, hidden in ((start + 1, 128), (start + 3, 64)):
        (gone,) = [c for c in candidates[f"block{number}"] if c.name == "nothing"]
        # two 1x1 between 16 channels, 9 weights of the depthwise, norms of two values a channel
        weights = 2 * 16 * hidden + 9 * hidden + 2 * (hidden + hidden + 16)
        assert pricer.price(gone).parameters == -weights
