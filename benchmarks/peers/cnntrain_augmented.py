"""cnntrain with a rotation, a shear and a shift of its own for each image."""

from collections.abc import Callable

from benchmarks.peers import cnntrain_loop


def train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    """Train for ever."""
    cnntrain_loop.train(workload, batch_size, tick, [{"affine": {"degrees": 15, "shear": 10, "translate": 2}}])
