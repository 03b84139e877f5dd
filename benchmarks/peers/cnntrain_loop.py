"""cnntrain itself: the loop that `cnntrain train` iterates, here with nothing saved and nothing shown."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.workloads import config_of, splits_of
from cnntrain.data.batches import Resident
from cnntrain.data.preprocess import Preprocessing
from cnntrain.layout import moved
from cnntrain.network.build import build
from cnntrain.training import loop
from cnntrain.training.distributed import Ranks
from cnntrain.training.plan import Feeds, Plan, prepare
from cnntrain.training.state import State

CPU = torch.device("cpu")


def prepared(
    workload: str, batch_size: int, augment: list[Any] | None = None, device: torch.device = CPU, **training: Any
) -> tuple[Plan, State]:
    """All that `loop.train` takes."""
    config = config_of(workload, batch_size, augment, epochs=1000, **training)
    splits = splits_of(config)
    preprocessing = Preprocessing.of(splits.train, config.data.normalize)
    train, test = (Resident.of(images, preprocessing, device) for images in (splits.train, splits.test))
    classes = len(splits.classes)
    network = moved(build(config, preprocessing.shape, classes), device)
    return prepare(config, network, classes, Feeds(train, test, test, test), Ranks(device))


def train(workload: str, batch_size: int, tick: Callable[[], None], augment: list[Any] | None = None) -> None:
    """Train for ever; never called back once `tick` ends the process."""
    plan, state = prepared(workload, batch_size, augment)
    done = 0
    for _ in loop.train(plan, state):
        for _ in range(state.step - done):
            tick()
        done = state.step
