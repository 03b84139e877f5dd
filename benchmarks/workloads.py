"""What is trained: four networks on MNIST in the config language, and the data as arrays for its peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import cnntrain.app.configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.config.schema import Config
from cnntrain.data.images import Folders
from cnntrain.data.splits import Splits, split

LEARNING_RATE = 0.03


@dataclass(frozen=True)
class Workload:
    """A network and what people call it; its layers are those of a config."""

    title: str
    layers: list[dict[str, Any]]


def _conv(filters: int, activation: str) -> dict[str, Any]:
    return {"conv_pool": {"filters": filters, "kernel_size": 5, "pool_size": 2, "activation": activation}}


def _full(units: int, activation: str, dropout: float = 0.0) -> dict[str, Any]:
    return {"fully_connected": {"units": units, "activation": activation, "dropout": dropout}}


_LAST: dict[str, Any] = {"softmax": {"dropout": 0.0}}

WORKLOADS = {
    "W1": Workload("FC100-SM sigmoid", [_full(100, "sigmoid"), _LAST]),
    "W2": Workload("CP20-FC100-SM sigmoid", [_conv(20, "sigmoid"), _full(100, "sigmoid"), _LAST]),
    "W3": Workload("CP20-CP40-FC100-SM ReLU", [_conv(20, "relu"), _conv(40, "relu"), _full(100, "relu"), _LAST]),
    "W4": Workload(
        "CP20-CP40-FC1000-FC1000-SM ReLU, dropout 0.5 three times",
        [
            _conv(20, "relu"),
            _conv(40, "relu"),
            _full(1000, "relu", 0.5),
            _full(1000, "relu", 0.5),
            {"softmax": {"dropout": 0.5}},
        ],
    ),
}


def config_of(workload: str, batch_size: int, augment: list[Any], **training: Any) -> Config:
    """The workload as a config for MNIST with 50,000 training images."""
    settings = {"epochs": 1, "batch_size": batch_size, "optimizer": {"sgd": {"learning_rate": LEARNING_RATE}}}
    return from_resolved(
        {
            "data": {"source": "mnist", "validation": 10000, "augment": augment},
            "network": WORKLOADS[workload].layers,
            "training": settings | training,
        }
    )


def splits_of(config: Config) -> Splits:
    """The data of a config, from where cnntrain looks for it."""
    return split(config.data.source.make(Folders.standard(None)), config.data)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """The 50,000 training images as float32 in 0..1 (images, 1, 28, 28), and their labels."""
    train = splits_of(config_of("W1", 10, [])).train
    return train.pixels.astype(np.float32) / 255, train.labels
