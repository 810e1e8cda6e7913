"""Processes that start at once: forked from a server that has imported torch and Lightning."""

import datetime
import multiprocessing
import os
import traceback
from pathlib import Path

# imported before any process is forked; what a test file imports besides, each process imports
PRELOADED = ["torch", "torch.distributed", "igcv3det.tasks.detect.module", "igcv3det.cli.train"]


def run_processes(function, folder, count=2, seconds=120):
    """Calls ``function(rank, folder)`` in processes that are joined by gloo; all must return.

    Args:
        function: of a module that the processes can import.
        folder: an empty one, for what the processes say and write.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    processes = [
        context.Process(target=_joined, args=(function, rank, count, str(folder)))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    failures = [path.read_text() for path in sorted(Path(folder).glob("*.traceback"))]
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
        process.close()
    assert codes == [0] * count, "\n".join(failures) or f"exit codes {codes}"


def _joined(function, rank, count, folder):
    import torch

    torch.set_num_threads(1)
    # Lightning takes its place from these and starts no processes itself
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=count,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        function(rank, Path(folder))
    except BaseException:
        (Path(folder) / f"{rank}.traceback").write_text(traceback.format_exc())
        raise
    torch.distributed.destroy_process_group()
