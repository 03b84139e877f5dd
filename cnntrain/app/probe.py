"""Looking into a network, as its config begins it or as it was trained: activations, gradients, scaled weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cnntrain.app import device as devices
from cnntrain.app.display import Display, Silent
from cnntrain.app.initial import initial
from cnntrain.app.model import load_model, own_images
from cnntrain.app.transfer import named, transfer
from cnntrain.app.where import Where
from cnntrain.config.schema import Config
from cnntrain.data.batches import Resident, derived_seed
from cnntrain.data.images import Folders, Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.splits import split
from cnntrain.training.evaluate import at_once
from cnntrain.training.probe import LayerProbe, Scaling, depth, probe, scaling_law

IMAGES = 512


@dataclass(frozen=True)
class Probed:
    """What was found in each layer, and with scaled weights; `depth` counts layers of weights."""

    images: int
    depth: int
    layers: list[LayerProbe]
    scaling: list[Scaling]


def probe_config(config: Config, where: Where, display: Display | None = None) -> Probed:
    """Probe the network of a config as its training begins, on training images drawn by its seed."""
    device = devices.choose(where.device)
    folders = Folders.standard(where.data_dir, display)
    splits = split(config.data.source.make(folders), config.data)
    preprocessing = Preprocessing.of(splits.train, config.data.normalize)
    network = initial(config, splits, preprocessing, device)
    if config.init_from is not None:
        transfer(*named(config.init_from), network, splits.classes)
    return _probed(network, _some(splits.train, config.seed), preprocessing, device)


def probe_checkpoint(path: str | Path, where: Where, display: Display | None = None) -> Probed:
    """Probe a trained network, on images that it was trained with: those that `probe_config` draws of its config."""
    display = display or Silent()
    model = load_model(path, where, display)
    images = own_images(model, "train", Folders.standard(where.data_dir, display), display)
    return _probed(model.network, _some(images, model.config.seed), model.preprocessing, model.device)


def _some(images: Images, seed: int) -> Images:
    generator = torch.Generator().manual_seed(derived_seed(seed, "probe"))
    return images.take(torch.randperm(len(images), generator=generator)[:IMAGES].numpy())


def _probed(network: nn.Module, images: Images, preprocessing: Preprocessing, device: torch.device) -> Probed:
    there = Resident.of(images, preprocessing, device)
    batch, labels = next(there.batches(at_once(network, there)))
    return Probed(len(batch), depth(network), probe(network, batch, labels), scaling_law(network, batch, labels))
