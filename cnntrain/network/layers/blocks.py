"""Layers made of layers: all the graph that there is."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cnntrain.config.spec import LayerSpec
from cnntrain.network.activations import Activation, make_activation
from cnntrain.network.initializers import Fans
from cnntrain.network.stack import Input, Shape
from cnntrain.registry import layers as registry

if TYPE_CHECKING:
    from torch import nn

Layers = Annotated[list[LayerSpec], Field(min_length=1)]


@registry.register("repeat")
def repeat(given: Input, /, times: Annotated[int, Field(gt=0, le=1000)], layers: Layers) -> "nn.Module":
    """The same layers several times over, each time with new weights."""
    from dataclasses import replace

    from torch import nn

    built = nn.Sequential()
    for index in range(times):
        block, shape = given.build(layers, "repeat", "layers")
        built.add_module(str(index), block)
        given = replace(given, shape=shape)
    return built


@registry.register("residual")
def residual(
    given: Input,
    /,
    layers: Layers,
    shortcut: Literal["auto", "identity", "projection"] = "auto",
    activation: Activation = "linear",
) -> "nn.Module":
    """Adds the layers' input to their output (He et al. 2016, Deep Residual Learning).

    (channels, height, width) -> the shape that its layers give; features likewise. `activation` follows the sum.
    `identity` needs equal shapes; `projection` is a 1x1 convolution; `auto` projects where shapes differ.
    """
    from torch import nn

    from cnntrain.network.modules import Residual

    inner, shape = given.build(layers, "residual", "layers")
    is_identity = shortcut == "identity" or (shortcut == "auto" and shape == given.shape)
    if is_identity and shape != given.shape:
        raise ValueError(f"its layers turn {given.shape} into {shape}, but an identity shortcut needs equal shapes")
    bridge = nn.Identity() if is_identity else _projection(given, shape)
    return Residual(inner, bridge, make_activation(activation))


@registry.register("branches")
def branches(given: Input, /, branches: Annotated[list[Layers], Field(min_length=2)]) -> "nn.Module":
    """Several stacks of layers over the same input, concatenated along the channels.

    `branches: [[{conv: 4}, batch_norm], [{conv: 8}]]` (Szegedy et al. 2015, Going Deeper with Convolutions).
    (channels, height, width) -> (the sum of the branches' channels, height', width'), which must be the same for all.
    """
    from cnntrain.network.modules import Branches

    built = [given.build(layers, "branches", "branches", index) for index, layers in enumerate(branches)]
    shapes = [shape for _, shape in built]
    if len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(f"its branches end in {' and '.join(map(str, shapes))}: only the channels may differ")
    given.budget.spend(numbers=sum(math.prod(shape) for shape in shapes))
    return Branches([module for module, _ in built])


def _projection(given: Input, shape: Shape) -> "nn.Module":
    """A 1x1 convolution (or a linear map of features) from the input's shape to `shape`."""
    from torch import nn

    from cnntrain.network.modules import safe_conv

    given.budget.spend(numbers=given.shape[0] * shape[0])
    layer: nn.Conv2d | nn.Linear
    if len(shape) == 1 and len(given.shape) == 1:
        layer = nn.Linear(given.shape[0], shape[0], bias=False)
    elif len(shape) == 3 and len(given.shape) == 3:
        stride = (-(-given.shape[1] // shape[1]), -(-given.shape[2] // shape[2]))
        projected = tuple((side - 1) // step + 1 for side, step in zip(given.shape[1:], stride, strict=True))
        if projected != shape[1:]:
            raise ValueError(f"its layers turn {given.shape} into {shape}, which no strided 1x1 convolution can match")
        layer = safe_conv((1, 1), stride)(given.shape[0], shape[0], 1, stride, bias=False)
    else:
        raise ValueError(f"its layers turn {given.shape} into {shape}, which no shortcut can match")
    given.fill(layer.weight, None, Fans(given.shape[0], shape[0], "linear"), None)
    return layer
