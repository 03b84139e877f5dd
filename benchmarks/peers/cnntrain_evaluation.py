"""cnntrain evaluating instead of training: each step is a pass over 500 images of the test set."""

from collections.abc import Callable

from benchmarks.peers.cnntrain_loop import prepared
from cnntrain.training.evaluate import BATCH, logits_of


def train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    """Evaluate for ever."""
    plan, state = prepared(workload, batch_size)
    test = plan.feeds.test
    few = type(test)(test.pixels[:BATCH], test.labels[:BATCH], test.preprocessing)
    while True:
        logits_of(state.network, few)
        tick()
