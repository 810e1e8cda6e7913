"""Images of several requests in one forward pass."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from igcv3det.predictor import Predictor
from igcv3det.structures import Detections


class _Job(NamedTuple):
    """A preprocessed image that waits.

    Attributes:
        size: (height, width) of the image before preprocessing.
        threshold: confidence threshold in [0, 1).
        labels: of the classes that are wanted; None takes all.
        found: receives the detections; cancelled where the client no longer waits.
    """

    tensor: Tensor
    size: tuple[int, int]
    threshold: float
    labels: Tensor | None
    found: asyncio.Future[Detections]


class Batcher:
    """Detects objects in what waits, several images at once, in threads of its own.

    The threads take the images themselves: one that had to be given its next batch by the event
    loop would stand still until the loop has time for it.

    Args:
        predictor: whose network runs.
        batch_size: the most images in one forward pass.
        batch_wait: seconds for which an incomplete batch waits for more.
        workers: forward passes that run at once.
        observe: is called with the number of images of every batch, in any thread.
    """

    def __init__(
        self,
        predictor: Predictor,
        batch_size: int,
        batch_wait: float,
        workers: int,
        observe: Callable[[int], None],
    ) -> None:
        self._predictor = predictor
        self._batch_size = batch_size
        self._batch_wait = batch_wait
        self._workers = workers
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._idle = 0  # threads without a batch
        self._ends = False

    async def detect(
        self,
        tensor: Tensor,
        size: tuple[int, int],
        threshold: float,
        labels: Tensor | None = None,
    ) -> Detections:
        """The detections of one image; returns when its batch has run.

        Args:
            tensor: a result of `Predictor.preprocess`.
            size: (height, width) in pixels of the image before that.
            threshold: confidence threshold in [0, 1).
            labels: of the classes that are wanted; None takes all.
        """
        found: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.append(_Job(tensor, size, threshold, labels, found))
            self._changed.notify()
        return await found

    async def run(self) -> None:
        """Runs batches until it is cancelled; then waits for those that run."""
        loop = asyncio.get_running_loop()
        threads = [
            threading.Thread(target=self._work, args=(loop,), name=f"network-{number}")
            for number in range(self._workers)
        ]
        for thread in threads:
            thread.start()
        try:
            await loop.create_future()  # never done
        finally:
            with self._changed:
                self._ends = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs one batch after the other."""
        while (batch := self._next_batch()) is not None:
            if not batch:
                continue
            self._observe(len(batch))
            try:
                results = self._compute(batch)
            except Exception as error:  # noqa: BLE001 (it belongs to those who wait)
                loop.call_soon_threadsafe(_fail, batch, error)
            else:
                loop.call_soon_threadsafe(_answer, batch, results)

    def _next_batch(self) -> list[_Job] | None:
        """What waits, shared among the threads that are idle; None at the end."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._ends)
            deadline = time.monotonic() + self._batch_wait
            while len(self._waiting) < self._batch_size and not self._ends:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._ends:
                return None
            number = min(len(self._waiting), self._batch_size)
            if not self._batch_wait:  # those that wait for whole batches do not share
                number = min(number, math.ceil(len(self._waiting) / self._idle))
            batch = [self._waiting.popleft() for _ in range(number)]
            self._idle -= 1
        return [job for job in batch if not job.found.done()]

    def _compute(self, batch: list[_Job]) -> list[Detections]:
        """One forward pass for all, at the lowest of their thresholds.

        A detection depends on those of higher score only, so what a higher threshold leaves is what
        it would have found alone.
        """
        found = self._predictor.detect(
            [job.tensor for job in batch],
            [job.size for job in batch],
            threshold=min(job.threshold for job in batch),
            labels=[job.labels for job in batch],
        )
        return [own[own.scores > job.threshold] for own, job in zip(found, batch, strict=True)]


def _answer(batch: list[_Job], results: list[Detections]) -> None:
    """In the event loop."""
    for job, detections in zip(batch, results, strict=True):
        if not job.found.done():
            job.found.set_result(detections)


def _fail(batch: list[_Job], error: Exception) -> None:
    """In the event loop."""
    for job in batch:
        if not job.found.done():
            job.found.set_exception(error)
