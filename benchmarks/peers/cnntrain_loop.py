"""cnntrain itself: the loop that `cnntrain train` iterates, here with nothing saved and nothing shown."""

from collections.abc import Callable

import torch

from benchmarks.workloads import config_of, splits_of
from cnntrain.data.batches import Resident
from cnntrain.data.preprocess import Preprocessing
from cnntrain.network.build import build
from cnntrain.training import loop


def train(workload: str, batch_size: int, tick: Callable[[], None]) -> None:
    """Train for ever; never called back once `tick` ends the process."""
    config = config_of(workload, batch_size, epochs=1000)
    splits, device = splits_of(config), torch.device("cpu")
    preprocessing = Preprocessing.of(splits.train, normalize=False)
    train, few = Resident.of(splits.train, preprocessing, device), Resident.of(splits.test, preprocessing, device)
    network = build(config, preprocessing.shape, len(splits.classes))
    plan, state = loop.prepare(config, network, loop.Feeds(train, few, few, few), device)
    for item in loop.train(plan, state):
        if isinstance(item, loop.Progress):
            tick()
