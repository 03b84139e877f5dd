"""Whether a layer learns: how large its weights and their gradient are (the book's sixth problem)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cnntrain.network.modules import weights_of
from cnntrain.training.rows import LayerHealth

if TYPE_CHECKING:
    from torch import nn


def layer_health(network: nn.Module, epoch: int) -> list[LayerHealth]:
    """The norms of every layer with weights, from the input on, in one transfer from the device."""
    norms = {
        name.removesuffix(".weight"): torch.stack([weight.detach().norm(), weight.grad.norm()])
        for name, weight in weights_of(network).items()
        if weight.grad is not None
    }
    values = torch.stack(list(norms.values())).tolist() if norms else []
    return [LayerHealth(epoch, name, *pair) for name, pair in zip(norms, values, strict=True)]
