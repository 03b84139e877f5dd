"""What a network consists of, found on the meta device: nothing is computed, nothing takes memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnntrain.network.stack import Shape


@dataclass(frozen=True)
class LayerSummary:
    """One layer of the config; `macs` are multiply-accumulate operations for one image.

    `memory` are the bytes that training keeps of one image in this layer until the gradient has passed:
    what its operations save for the backward pass, each tensor once, weights apart.
    """

    name: str
    output: Shape
    parameters: int
    macs: int
    memory: int


def summarize(network: nn.Sequential, shape: Shape) -> list[LayerSummary]:
    """The top-level layers of a network on the meta device, for one image of `shape`."""
    rows = []
    values = torch.zeros((1, *shape), device="meta")
    for name, layer in network.named_children():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output: Tensor = layer.eval()(values)
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        # The counter counts a multiplication and an addition as two operations.
        macs = counter.get_total_flops() // 2
        rows.append(LayerSummary(name, tuple(output.shape[1:]), parameters, macs, _saved_bytes(layer, values)))
        values = output
    return rows


def _saved_bytes(layer: nn.Module, values: Tensor) -> int:
    """What autograd keeps of three images less what it keeps of two: what belongs to the layer cancels out."""
    layer.train()
    return _kept(layer, torch.cat([values] * 3)) - _kept(layer, torch.cat([values] * 2))


def _kept(layer: nn.Module, values: Tensor) -> int:
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        # A view keeps the tensor that it looks at; held here, none of them gives up its identity.
        whole = tensor if tensor._base is None else tensor._base
        saved[id(whole)] = whole
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = layer(values.clone().requires_grad_())
    del kept
    return sum(tensor.numel() * tensor.element_size() for tensor in saved.values())
