"""The layers of `network3.py` with its semantics (Nielsen, Neural Networks and Deep Learning, chapter 6)."""

from typing import TYPE_CHECKING

from cnntrain.config.spec import InitializerSpec
from cnntrain.network.activations import Activation
from cnntrain.network.initializers import Fans
from cnntrain.network.layers.sizes import check_fits
from cnntrain.network.stack import Input
from cnntrain.registry import layers
from cnntrain.strict import PositiveInt, Probability, Size, pair

if TYPE_CHECKING:
    from torch import nn


@layers.register("conv_pool")
def conv_pool(
    given: Input,
    /,
    filters: PositiveInt,
    kernel_size: Size = 5,
    pool_size: Size = 2,
    activation: Activation = "sigmoid",
    init: InitializerSpec | None = None,
) -> "nn.Module":
    """Convolution without padding, max-pooling, then bias and activation: the book's ConvPoolLayer.

    (channels, height, width) -> (filters, (height - kernel + 1) // pool, (width - kernel + 1) // pool)
    """
    from cnntrain.network.modules import ConvPool

    kernel, pool = pair(kernel_size), pair(pool_size)
    channels, height, width = given.channels, *given.shape[1:]
    check_fits(kernel, height, width, "kernel")
    check_fits(pool, height - kernel[0] + 1, width - kernel[1] + 1, "pooling window")
    area = kernel[0] * kernel[1]
    places = (height - kernel[0] + 1) * (width - kernel[1] + 1)
    given.budget.spend(numbers=filters * (channels * area + places))
    layer = ConvPool(channels, filters, kernel, pool, activation)
    # The book counts the outputs after pooling.
    fans = Fans(channels * area, filters * area / (pool[0] * pool[1]), activation)
    given.fill(layer.weight, layer.bias, fans, init)
    return layer


@layers.register("fully_connected")
def fully_connected(
    given: Input,
    /,
    units: PositiveInt,
    activation: Activation = "sigmoid",
    dropout: Probability = 0.0,
    init: InitializerSpec | None = None,
) -> "nn.Module":
    """Every input to every unit, with dropout on the *input*: the book's FullyConnectedLayer.

    Any shape -> (units,); an image is flattened.
    """
    return _full(given, units, activation, dropout, init)


@layers.register("softmax")
def softmax(given: Input, /, dropout: Probability = 0.0, init: InitializerSpec | None = None) -> "nn.Module":
    """The last layer, but for a `scale`: one unit for each class, with dropout on its input; the book's SoftmaxLayer.

    Any shape -> (classes,). It gives logits: the softmax itself is part of the loss in training,
    and of `predict`.
    """
    if not given.is_last:
        raise ValueError("`softmax` is the last layer of a network; use `dense` or `fully_connected` in between")
    return _full(given, given.classes, "softmax", dropout, init)


def _full(given: Input, units: int, activation: str, dropout: float, init: InitializerSpec | None) -> "nn.Module":
    import math

    from torch import nn

    from cnntrain.network.activations import make_activation
    from cnntrain.network.modules import Flatten, Linear, make_dropout

    inputs = math.prod(given.shape)
    given.budget.spend(numbers=inputs * units)
    layer = nn.Sequential()
    if len(given.shape) > 1:
        layer.add_module("flatten", Flatten())
    if dropout:
        layer.add_module("dropout", make_dropout(dropout, given.dropout_scaling))
    linear = Linear(inputs, units)
    given.fill(linear.weight, linear.bias, Fans(inputs, units, activation), init)
    layer.add_module("linear", linear)
    if activation not in ("linear", "softmax"):
        layer.add_module("activation", make_activation(activation))
    return layer
