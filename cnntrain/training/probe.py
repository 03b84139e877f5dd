"""How signals and gradients fare in a network (the book's seventh and eighth problems).

Shapes: images are (batch, channels, height, width), labels (batch,).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnntrain.network.modules import BookDropout, weights_of
from cnntrain.training.hooks import watched

# Beyond this a sigmoid or tanh is taken for saturated: its slope is below 1/25 of the largest.
SATURATED = 0.99
SCALES = (0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class LayerProbe:
    """A layer's outputs over a batch: mean, deviation, and how much of it can't learn; its weights' gradient norm.

    `dead` is the fraction of units that are zero for every image, `saturated` that of values where a
    sigmoid or tanh is flat; None where the layer has no such activation. `gradient` is None without weights.
    """

    name: str
    mean: float
    std: float
    dead: float | None
    saturated: float | None
    gradient: float | None


@dataclass(frozen=True)
class Scaling:
    """Logits when all weights are multiplied by `factor`, and biases are zero.

    `ratio` is the norm of the logits over that at factor 1 (None where that is 0), `predicted` is factor^L.
    With a softmax behind them: `confidence`, the mean of the largest probability, and `loss` in nats.
    """

    factor: float
    ratio: float | None
    predicted: float
    confidence: float
    loss: float


def probe(network: nn.Module, images: Tensor, labels: Tensor) -> list[LayerProbe]:
    """One forward and backward pass as in training, but without dropout, layer by layer; blocks are opened."""
    # Batch normalization takes note of what it sees; the network itself is to stay as it began.
    network = deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout | BookDropout):
            module.eval()
    outputs: dict[str, Tensor] = {}
    # Copies, for what follows may work in their place.
    with watched(layers_of(network), lambda name, output: outputs.update({name: output.detach().clone()})):
        loss = functional.cross_entropy(network(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    modules = dict(network.named_modules())
    return [_describe(name, modules[name], output) for name, output in outputs.items()]


def layers_of(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules with weights of their own, and activations that stand alone; containers are opened."""
    children = list(module.named_children())
    if name and (isinstance(getattr(module, "weight", None), nn.Parameter) or not children):
        if not isinstance(module, nn.Flatten | nn.Identity | nn.Dropout | BookDropout):
            yield name, module
        return
    for child_name, child in children:
        yield from layers_of(child, f"{name}.{child_name}".lstrip("."))


def _describe(name: str, module: nn.Module, output: Tensor) -> LayerProbe:
    weight = getattr(module, "weight", None)
    gradient = weight.grad.norm().item() if isinstance(weight, Tensor) and weight.grad is not None else None
    activation = getattr(module, "activation", module)
    dead = saturated = None
    if isinstance(activation, nn.ReLU):
        dead = (output == 0).all(0).float().mean().item()
    elif isinstance(activation, nn.Sigmoid):
        saturated = ((output > SATURATED) | (output < 1 - SATURATED)).float().mean().item()
    elif isinstance(activation, nn.Tanh):
        saturated = (output.abs() > SATURATED).float().mean().item()
    return LayerProbe(name, output.mean().item(), output.std().item(), dead, saturated, gradient)


def depth(network: nn.Module) -> int:
    """How many layers of weights there are."""
    return len(weights_of(network))


def scaling_law(network: nn.Module, images: Tensor, labels: Tensor) -> list[Scaling]:
    """What multiplying all weights does to the logits: c^L for L layers of weights under ReLU, without biases."""
    start = _logits(network, images, 1.0).norm().item()
    results = []
    for factor in SCALES:
        logits = _logits(network, images, factor)
        ratio = logits.norm().item() / start if start > 0 else None
        confidence = logits.softmax(1).amax(1).mean().item()
        loss = functional.cross_entropy(logits, labels).item()
        results.append(Scaling(factor, ratio, _power(factor, depth(network)), confidence, loss))
    return results


def _power(factor: float, exponent: int) -> float:
    try:
        return factor**exponent
    except OverflowError:
        return math.inf


def _logits(network: nn.Module, images: Tensor, factor: float) -> Tensor:
    copy = deepcopy(network).eval()
    with torch.no_grad():
        weights = weights_of(copy)
        for name, parameter in copy.named_parameters():
            if name in weights:
                parameter.mul_(factor)
            elif name.rpartition(".")[2] == "bias":
                # It would not grow with what it is added to, and hide the law.
                parameter.zero_()
        output: Tensor = copy(images)
    return output
