"""What a network consists of, found on the meta device: nothing is computed, nothing takes memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils.flop_counter import FlopCounterMode

from cnntrain.network.stack import Shape


@dataclass(frozen=True)
class LayerSummary:
    """One layer of the config; `macs` are multiply-accumulate operations for one image.

    `memory` are the bytes that training keeps of one image until the gradient has passed: what the layer's operations
    save for the backward pass and no layer before it has saved, weights apart. Copies of a few MiB that convolutions
    of few images make on a CPU are not in it.
    """

    name: str
    output: Shape
    parameters: int
    macs: int
    memory: int


def summarize(network: nn.Sequential, shape: Shape) -> list[LayerSummary]:
    """The top-level layers of a network on the meta device, for one image of `shape`."""
    rows = []
    # What belongs to the layers themselves cancels out.
    memory = [more - less for more, less in zip(_kept(network, 3, shape), _kept(network, 2, shape), strict=True)]
    values = torch.zeros((1, *shape), device="meta")
    for (name, layer), kept in zip(network.named_children(), memory, strict=True):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            values = layer.eval()(values)
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        # The counter counts a multiplication and an addition as two operations.
        macs = counter.get_total_flops() // 2
        rows.append(LayerSummary(name, tuple(values.shape[1:]), parameters, macs, kept))
    return rows


def _kept(network: nn.Sequential, images: int, shape: Shape) -> list[int]:
    """The bytes that autograd keeps in each layer of so many images, and of the layer itself."""
    saved: dict[int, UntypedStorage] = {}
    sums = [0]

    def pack(tensor: Tensor) -> Tensor:
        # A view keeps all that it looks at; held here, no storage gives up its identity.
        storage = tensor.untyped_storage()
        saved[id(storage)] = storage
        return tensor

    flattened = [one.register_forward_hook(_copied) for one in network.modules() if isinstance(one, nn.Flatten)]
    values = torch.zeros((images, *shape), device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for layer in network.train():
            values = layer(values)
            sums.append(sum(storage.nbytes() for storage in saved.values()))
    for hook in flattened:
        hook.remove()
    return [after - before for before, after in pairwise(sums)]


def _copied(flatten: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
    # Here it is a view. In training the channels of a pixel lie side by side, and have to be taken apart.
    _, channels, *pixels = given[0].shape
    return output.clone() if channels > 1 and math.prod(pixels) > 1 else output
