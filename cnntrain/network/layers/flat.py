"""Layers of flat features, under torch's meaning."""

from typing import TYPE_CHECKING

from cnntrain.config.spec import InitializerSpec
from cnntrain.network.activations import Activation, make_activation
from cnntrain.network.initializers import Fans
from cnntrain.network.stack import Input
from cnntrain.registry import layers
from cnntrain.strict import PositiveInt

if TYPE_CHECKING:
    from torch import nn


@layers.register("flatten")
def flatten(given: Input, /) -> "nn.Module":
    """All values of an image in one row: (channels, height, width) -> (channels * height * width,)."""
    from cnntrain.network.modules import Flatten

    return Flatten()


@layers.register("dense")
def dense(
    given: Input,
    /,
    units: PositiveInt,
    bias: bool = True,
    activation: Activation = "linear",
    init: InitializerSpec | None = None,
) -> "nn.Module":
    """torch's Linear, followed by an activation: (features,) -> (units,)."""
    from torch import nn

    from cnntrain.network.modules import Linear

    given.budget.spend(numbers=given.features * units)
    layer = Linear(given.features, units, bias=bias)
    given.fill(layer.weight, layer.bias, Fans(given.features, units, activation), init)
    return layer if activation == "linear" else nn.Sequential(layer, make_activation(activation))
