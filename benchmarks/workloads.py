"""What is trained: five networks in the config language, and the data as arrays for cnntrain's peers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import cnntrain.app.configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved, load, resolved
from cnntrain.config.schema import Config
from cnntrain.data.images import Folders
from cnntrain.data.splits import Splits, split

RESIDUAL = Path(__file__).parent.parent / "configs" / "cifar10" / "residual.yaml"
# A folder of CIFAR-10's images, in the place of the download.
CIFAR10 = "CNNTRAIN_CIFAR10_FOLDER"


@dataclass(frozen=True)
class Workload:
    """What people call it, its network as a config has it, and how it is trained."""

    title: str
    layers: list[Any]
    batch_sizes: Sequence[int] = (10, 128)
    shape: tuple[int, int, int] = (1, 28, 28)
    data: dict[str, Any] = field(default_factory=lambda: {"source": "mnist", "validation": 10000})
    sgd: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 0.03})
    label_smoothing: float = 0.0


def _conv(filters: int, activation: str) -> dict[str, Any]:
    return {"conv_pool": {"filters": filters, "kernel_size": 5, "pool_size": 2, "activation": activation}}


def _full(units: int, activation: str, dropout: float = 0.0) -> dict[str, Any]:
    return {"fully_connected": {"units": units, "activation": activation, "dropout": dropout}}


def _residual() -> Workload:
    config = resolved(load(RESIDUAL))
    folder = os.environ.get(CIFAR10)
    source = {"source": {"image_folder": {"path": folder}}} if folder else {}
    return Workload(
        "a residual network on CIFAR-10 with flips, shifts and erasing, `configs/cifar10/residual.yaml`",
        config["network"],
        (512,),
        (3, 32, 32),
        config["data"] | source,
        config["training"]["optimizer"]["sgd"],
        config["training"]["label_smoothing"],
    )


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
    "W5": _residual(),
}


def config_of(name: str, batch_size: int, augment: list[Any] | None = None, **training: Any) -> Config:
    """The workload as a config; `augment` in the place of its own augmentation."""
    workload = WORKLOADS[name]
    settings = {
        "epochs": 1,
        "batch_size": batch_size,
        "optimizer": {"sgd": workload.sgd},
        "label_smoothing": workload.label_smoothing,
    }
    data = workload.data if augment is None else workload.data | {"augment": augment}
    return from_resolved({"data": data, "network": workload.layers, "training": settings | training})


def splits_of(config: Config) -> Splits:
    """The data of a config, from where cnntrain looks for it."""
    return split(config.data.source.make(Folders.standard(None)), config.data)


def arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The training images as float32 (images, channels, height, width), normalized as the workload asks, and labels."""
    config = config_of(name, 1)
    train = splits_of(config).train
    images = train.pixels[:].astype(np.float32)
    # In place: no peer is to be charged with copies that only we make.
    images /= 255
    if config.data.normalize:
        # Not above: it imports torch, which Keras on JAX has no use for.
        from cnntrain.data.preprocess import Preprocessing

        known = Preprocessing.of(train, normalize=True)
        mean, std = (np.float32(values)[:, None, None] for values in (known.mean, known.std))
        images -= mean
        images /= std
    return images, train.labels
