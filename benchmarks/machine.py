"""What the machine can do at best: floating-point operations in a matrix product, and bytes copied."""

from time import perf_counter

import torch

SIDE = 2048
MEBIBYTES = 256


def _best(work: object, repeats: int) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        began = perf_counter()
        work()  # type: ignore[operator]
        times.append(perf_counter() - began)
    return min(times)


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of a float32 product of 2048x2048 matrices, and GB/s of a copy of 256 MiB (read and written)."""
    torch.set_num_threads(threads)
    one, other, product = (torch.randn(SIDE, SIDE) for _ in range(3))
    source, target = (torch.ones(MEBIBYTES << 18) for _ in range(2))
    multiply = _best(lambda: torch.mm(one, other, out=product), 10)
    copy = _best(lambda: target.copy_(source), 5)
    return {"gflops": 2 * SIDE**3 / multiply / 1e9, "copy_gbytes": 2 * source.nbytes / copy / 1e9}
