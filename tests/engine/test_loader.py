import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import Dataset

from igcv3det.engine.loader import BatchLoader, _start_worker
from igcv3det.engine.sampler import EpochBatches
from igcv3det.structures import Target
from igcv3det.tasks.detect.batches import pack, unpack


class Keys(Dataset):
    """Samples that say by which key they were asked for."""

    def __getitem__(self, key):
        epoch, index = key
        none = torch.zeros(0, 4)
        labels = torch.zeros(0, dtype=torch.int64)
        return torch.zeros(3, 2, 2), Target(none, labels, none, 100 * epoch + index, (2, 2))


def loader(num_workers=0, **options):
    return BatchLoader(
        Keys(), EpochBatches(22, 4, shuffle=True), pack, unpack, num_workers, **options
    )


def ids(batch):
    return [target.image_id for target in batch[1]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_follow_one_another(num_workers):
    batches = loader(num_workers)
    epochs = [[ids(batch) for batch in batches] for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [len(batches)] * 3
    expected = EpochBatches(22, 4, shuffle=True)
    for number, epoch in enumerate(epochs):
        expected.epoch = number
        assert epoch == [[100 * e + i for e, i in batch] for batch in expected]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 3, 5, 7])
def test_saved_position_counts_what_was_handed_out(num_workers, stop):
    def run(batches, limit):
        seen = []
        while len(seen) < limit:
            for batch in batches:
                seen.append(ids(batch))
                if len(seen) == limit:
                    break
        return seen

    unbroken = run(loader(), 12)
    first = loader(num_workers)
    before = run(first, stop)
    resumed = loader(num_workers)
    resumed.load_state_dict(first.state_dict())
    assert before + run(resumed, 12 - stop) == unbroken


def test_position_is_asked_when_the_first_batch_is_wanted():
    position = [(0, 0)]
    batches = loader(position=lambda: position[0])
    iterator = iter(batches)
    position[0] = (4, 2)
    assert ids(next(iterator))[0] // 100 == 4
    assert batches.state_dict() == {"epoch": 4, "done": 3}
    assert len(list(iterator)) == len(batches) - 3


def test_an_abandoned_epoch_leaves_workers_usable():
    batches = loader(2, position=lambda: (1, 0))
    first = ids(next(iter(batches)))
    again = [ids(batch) for batch in batches]
    assert again[0] == first
    assert len(again) == len(batches)


def test_workers_outlive_one_sigterm():
    batches = loader(num_workers=2)
    iterator = iter(batches)
    seen = [ids(next(iterator)) for _ in range(2)]
    for worker in batches._iterator._workers:
        os.kill(worker.pid, signal.SIGTERM)  # as to a process group
    seen += [ids(batch) for batch in iterator]
    assert seen == [ids(batch) for batch in loader()]


def _wait_as_a_worker(started):
    _start_worker(0)
    started.set()
    time.sleep(60)


def test_a_worker_ends_with_the_second_sigterm():
    started = multiprocessing.Event()
    worker = multiprocessing.Process(target=_wait_as_a_worker, args=(started,), daemon=True)
    worker.start()
    assert started.wait(30)
    worker.terminate()
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == -signal.SIGTERM
