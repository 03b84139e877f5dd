"""Normalization under torch's names; shapes stay as they are."""

from typing import TYPE_CHECKING

from cnntrain.network.stack import Input
from cnntrain.registry import layers
from cnntrain.strict import PositiveFloat, PositiveInt, Probability

if TYPE_CHECKING:
    from torch import nn


@layers.register("batch_norm")
def batch_norm(given: Input, /, momentum: Probability = 0.1, eps: PositiveFloat = 1e-5) -> "nn.Module":
    """Normalize each channel to mean 0 and variance 1 over the batch (Ioffe and Szegedy 2015)."""
    from torch import nn

    kind = nn.BatchNorm2d if len(given.shape) == 3 else nn.BatchNorm1d
    return kind(given.shape[0], eps=eps, momentum=momentum)


@layers.register("group_norm")
def group_norm(given: Input, /, groups: PositiveInt, eps: PositiveFloat = 1e-5) -> "nn.Module":
    """Normalize each group of channels to mean 0 and variance 1 within its image (Wu and He 2018)."""
    from cnntrain.network.modules import GroupNorm

    if given.shape[0] % groups:
        raise ValueError(f"`groups: {groups}` must divide its {given.shape[0]} channels")
    return GroupNorm(groups, given.shape[0], eps=eps)


@layers.register("layer_norm")
def layer_norm(given: Input, /, eps: PositiveFloat = 1e-5) -> "nn.Module":
    """Normalize all values of an image to mean 0 and variance 1 (Ba et al. 2016)."""
    from torch import nn

    return nn.LayerNorm(given.shape, eps=eps)
