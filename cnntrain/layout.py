"""How images and filters lie in memory."""

import torch
from torch import nn


def layout(device: torch.device) -> torch.memory_format:
    """The channels of a pixel side by side, as convolutions and pooling are fastest, where their gradients are right.

    On MPS, torch's backward passes of batch_norm and of pooling are not, for images that lie so:
    https://github.com/pytorch/pytorch/issues/175189, https://github.com/pytorch/pytorch/issues/175190.
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def moved(network: nn.Sequential, device: torch.device) -> nn.Sequential:
    """The network on a device, its filters as images lie there."""
    network.to(device, memory_format=layout(device))  # type: ignore[call-overload]
    return network
