"""The first layers of a network, kept as they are while the others are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def freeze(network: nn.Sequential, count: int) -> list[str]:
    """Have the first so many layers keep their weights; gives the names of all their tensors.

    Raises `ValueError` where no other layer has any that can be trained.
    """
    if count and not any(parameter.requires_grad for parameter in network[count:].parameters()):
        raise ValueError(f"the network has {len(network)} layers, and none with weights after the first {count}")
    network[:count].requires_grad_(False)
    return list(network[:count].state_dict())


def set_training(network: nn.Sequential, frozen: int) -> None:
    """Have layers do what they do in training; those that are frozen neither drop values nor take statistics."""
    network.train()
    network[:frozen].eval()
