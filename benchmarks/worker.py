"""One peer in a process of its own: it trains as many steps as a line on stdin says, and answers with the seconds."""

import importlib
import json
import os
import sys
from pathlib import Path
from time import perf_counter, time

STARTED = time()


class Pacer:
    """Called after each step; between two rounds it waits for the next order."""

    def __init__(self) -> None:
        self.left = 1
        self.began = perf_counter()

    def __call__(self) -> None:
        """Count a step; at a round's end say how long it took, and wait."""
        self.left -= 1
        if self.left:
            return
        answer(seconds=perf_counter() - self.began)
        self.left = order()
        self.began = perf_counter()


def answer(**values: float) -> None:
    """One JSON object on a line."""
    common = {"since_start": time() - STARTED, "peak_mib": peak_mib()}
    print(json.dumps(values | common), file=CHANNEL, flush=True)


def peak_mib() -> float:
    """The most memory that this process has held; what it inherited from its parent does not count."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


def order() -> int:
    """The steps of the next round; without one the process ends, whatever trains in it."""
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    return int(line)


if __name__ == "__main__":
    # Whoever prints must not disturb the answers.
    CHANNEL = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer, workload, batch_size, threads = sys.argv[1:]
    # JAX takes all cores that it is allowed, whatever number of threads it is told.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    if peer != "keras_fit" or os.environ["KERAS_BACKEND"] == "torch":
        import torch

        torch.set_num_threads(int(threads))
    importlib.import_module(f"benchmarks.peers.{peer}").train(workload, int(batch_size), Pacer())
