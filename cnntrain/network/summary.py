"""What a network consists of, found on the meta device: nothing is computed, nothing takes memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnntrain.network.stack import Shape


@dataclass(frozen=True)
class LayerSummary:
    """One layer of the config; `macs` are multiply-accumulate operations for one image."""

    name: str
    output: Shape
    parameters: int
    macs: int


def summarize(network: nn.Sequential, shape: Shape) -> list[LayerSummary]:
    """The top-level layers of a network on the meta device, for one image of `shape`."""
    rows = []
    network = network.eval()
    values = torch.zeros((1, *shape), device="meta")
    for name, layer in network.named_children():
        values, macs = _pass(layer, values)
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        rows.append(LayerSummary(name, tuple(values.shape[1:]), parameters, macs))
    return rows


def _pass(layer: nn.Module, values: Tensor) -> tuple[Tensor, int]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output: Tensor = layer(values)
    # The counter counts a multiplication and an addition as two operations.
    return output, counter.get_total_flops() // 2
