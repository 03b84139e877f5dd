"""Looking into a network as its config begins it: activations, gradients, and the law of scaled weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cnntrain.app import device as devices
from cnntrain.app.initial import initial
from cnntrain.app.where import Where
from cnntrain.config.schema import Config
from cnntrain.data.batches import Resident, derived_seed
from cnntrain.data.images import Folders
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.splits import split
from cnntrain.training.probe import LayerProbe, Scaling, depth, probe, scaling_law

IMAGES = 512


@dataclass(frozen=True)
class Probed:
    """What was found in each layer, and with scaled weights; `depth` counts layers of weights."""

    images: int
    depth: int
    layers: list[LayerProbe]
    scaling: list[Scaling]


def probe_config(config: Config, where: Where) -> Probed:
    """Probe the network of a config at its initialization, on training images drawn by its seed."""
    device = devices.choose(where.device)
    splits = split(config.data.source.make(Folders.standard(where.data_dir)), config.data)
    preprocessing = Preprocessing.of(splits.train, config.data.normalize)
    network = initial(config, splits, preprocessing, device)
    chosen = torch.randperm(
        len(splits.train), generator=torch.Generator().manual_seed(derived_seed(config.seed, "probe"))
    )
    sample = splits.train.take(chosen[:IMAGES].numpy())
    images, labels = next(Resident.of(sample, preprocessing, device).batches(len(sample)))
    return Probed(len(sample), depth(network), probe(network, images, labels), scaling_law(network, images, labels))
