"""The first layers of a network, kept as they are while the others are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def freeze(network: nn.Sequential, count: int) -> None:
    """Have the first so many layers keep their weights; raises `ValueError` where no other layer has any."""
    if count and not any(True for _ in network[count:].parameters()):
        raise ValueError(f"the network has {len(network)} layers, and none with weights after the first {count}")
    network[:count].requires_grad_(False)


def set_training(network: nn.Sequential, frozen: int) -> None:
    """Have layers do what they do in training; those that are frozen neither drop values nor take statistics."""
    network.train()
    network[:frozen].eval()
