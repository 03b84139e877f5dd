"""The network that training begins with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from cnntrain.data.batches import Resident
from cnntrain.layout import moved
from cnntrain.network.build import build
from cnntrain.network.whitening import fit, to_fit

if TYPE_CHECKING:
    from torch import nn

    from cnntrain.config.schema import Config
    from cnntrain.data.preprocess import Preprocessing
    from cnntrain.data.splits import Splits

# Values in the images that set a layer, 16 MiB of float32: 1,365 images of CIFAR-10.
VALUES = 1 << 22


def initial(config: Config, splits: Splits, preprocessing: Preprocessing, device: torch.device) -> nn.Sequential:
    """The network of a config, with weights that its seed draws, and those that training images set."""
    network = build(config, preprocessing.shape, len(splits.classes))
    if to_fit(network):
        fit(network, _spread(splits, preprocessing))
    return moved(network, device)


def _spread(splits: Splits, preprocessing: Preprocessing) -> torch.Tensor:
    """Training images from everywhere, for they may be sorted by class; as the network takes them."""
    step = math.ceil(len(splits.train) * math.prod(preprocessing.shape) / VALUES)
    chosen = splits.train.take(slice(None, None, step))
    images, _ = next(Resident.of(chosen, preprocessing, torch.device("cpu")).batches(len(chosen)))
    return images
