"""Images of several requests in one forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from igcv3det.predictor import Predictor
from igcv3det.structures import Detections


class _Job(NamedTuple):
    """A preprocessed image that waits.

    Attributes:
        size: (height, width) of the image before preprocessing.
        threshold: confidence threshold in [0, 1).
        found: receives the detections; cancelled where the client no longer waits.
    """

    tensor: Tensor
    size: tuple[int, int]
    threshold: float
    found: asyncio.Future[Detections]


class Batcher:
    """Detects objects in what waits, several images at once, in threads of its own.

    Args:
        predictor: whose network runs.
        batch_size: the most images in one forward pass.
        batch_wait: seconds for which an incomplete batch waits for more.
        workers: forward passes that run at once.
        observe: is called with the number of images of every batch.
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
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue()

    async def detect(self, tensor: Tensor, size: tuple[int, int], threshold: float) -> Detections:
        """The detections of one image; returns when its batch has run.

        Args:
            tensor: a result of `Predictor.preprocess`.
            size: (height, width) in pixels of the image before that.
            threshold: confidence threshold in [0, 1).
        """
        found: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Job(tensor, size, threshold, found))
        return await found

    async def run(self) -> None:
        """Runs batches until it is cancelled."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="network") as threads:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._workers):
                    workers.create_task(self._work(threads))

    async def _work(self, threads: ThreadPoolExecutor) -> None:
        """Runs one batch after the other."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [job for job in await self._next_batch() if not job.found.done()]
            if not batch:
                continue
            self._observe(len(batch))
            try:
                results = await loop.run_in_executor(threads, self._compute, batch)
            except Exception as error:  # noqa: BLE001 (it belongs to those who wait)
                for job in batch:
                    if not job.found.done():
                        job.found.set_exception(error)
                continue
            for job, detections in zip(batch, results, strict=True):
                if not job.found.done():
                    job.found.set_result(detections)

    async def _next_batch(self) -> list[_Job]:
        batch = [await self._waiting.get()]
        try:
            async with asyncio.timeout(self._batch_wait if self._batch_wait else None):
                while len(batch) < self._batch_size:
                    if self._waiting.empty() and not self._batch_wait:
                        break
                    batch.append(await self._waiting.get())
        except TimeoutError:
            pass
        return batch

    def _compute(self, batch: list[_Job]) -> list[Detections]:
        """One forward pass for all, at the lowest of their thresholds.

        A detection depends on those of higher score only, so what a higher threshold leaves is what
        it would have found alone.
        """
        found = self._predictor.detect(
            [job.tensor for job in batch],
            [job.size for job in batch],
            threshold=min(job.threshold for job in batch),
        )
        return [own[own.scores > job.threshold] for own, job in zip(found, batch, strict=True)]
