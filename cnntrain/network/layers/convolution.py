"""Convolutions under torch's names."""

import warnings
from typing import TYPE_CHECKING, Literal

from cnntrain.config.spec import InitializerSpec
from cnntrain.network.activations import Activation, make_activation
from cnntrain.network.initializers import Fans
from cnntrain.network.layers.sizes import check_fits, output_size
from cnntrain.network.stack import Input
from cnntrain.registry import layers
from cnntrain.strict import Border, PositiveFloat, PositiveInt, Size, pair

if TYPE_CHECKING:
    from torch import nn


@layers.register("conv")
def conv(
    given: Input,
    /,
    filters: PositiveInt,
    kernel_size: Size = 3,
    stride: Size = 1,
    padding: Border | Literal["same"] = 0,
    dilation: Size = 1,
    groups: PositiveInt = 1,
    bias: bool = True,
    activation: Activation = "linear",
    init: InitializerSpec | None = None,
) -> "nn.Module":
    """torch's Conv2d, followed by an activation.

    (channels, height, width) -> (filters, (height + 2 padding - dilation (kernel - 1) - 1) // stride + 1, ...)
    Sizes are one number or [height, width]; `padding: same` keeps height and width, with a stride of 1.
    """
    from cnntrain.network.modules import safe_conv

    channels = given.channels
    if channels % groups or filters % groups:
        raise ValueError(f"`groups: {groups}` must divide its {channels} input channels and its {filters} filters")
    if padding == "same" and pair(stride) != (1, 1):
        raise ValueError("`padding: same` goes with `stride: 1` only; give the padding as a number")
    kernel = pair(kernel_size)
    height, width = _output(given, kernel, stride, padding, dilation)
    given.budget.spend(numbers=filters * (channels // groups * kernel[0] * kernel[1] + height * width))
    border = padding if padding == "same" else pair(padding)
    if border == "same":
        # Of a copy that an even kernel costs, and that nobody can do anything about.
        warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
    kind = safe_conv(kernel, pair(stride))
    layer = kind(channels, filters, kernel, pair(stride), border, dilation=pair(dilation), groups=groups, bias=bias)
    area = kernel[0] * kernel[1]
    fans = Fans(channels // groups * area, filters // groups * area, activation)
    given.fill(layer.weight, layer.bias, fans, init)
    return _activated(layer, activation)


@layers.register("depthwise_conv")
def depthwise_conv(
    given: Input,
    /,
    kernel_size: Size = 3,
    stride: Size = 1,
    padding: Border | Literal["same"] = 0,
    bias: bool = True,
    activation: Activation = "linear",
    init: InitializerSpec | None = None,
) -> "nn.Module":
    """One filter for each channel: `conv` with as many groups as channels.

    (channels, height, width) -> (channels, height', width')
    """
    channels = given.channels
    layer: nn.Module = conv(given, channels, kernel_size, stride, padding, 1, channels, bias, activation, init)
    return layer


@layers.register("whitened_conv")
def whitened_conv(
    given: Input, /, kernel_size: Size = 2, activation: Activation = "linear", eps: PositiveFloat = 5e-4
) -> "nn.Module":
    """A first layer of fixed filters that remove the correlations between neighbouring pixels (Jordan 2024).

    (channels, height, width) -> (2 * channels * kernel area, height - kernel + 1, width - kernel + 1)
    They are set before training: the principal axes of the training images' windows, each with either sign, divided
    by sqrt(variance + `eps`). Only the bias is learned. For images of one channel `data.normalize` makes no difference
    to it, but for `eps`.
    """
    from cnntrain.network.whitening import WhitenedConv

    kernel, channels = pair(kernel_size), given.channels
    height, width = _output(given, kernel, 1, 0, 1)
    size = channels * kernel[0] * kernel[1]
    given.budget.spend(numbers=2 * size * (size + height * width))
    return _activated(WhitenedConv(channels, kernel, eps), activation)


def _activated(layer: "nn.Module", activation: str) -> "nn.Module":
    from torch import nn

    return layer if activation == "linear" else nn.Sequential(layer, make_activation(activation))


def _output(
    given: Input, kernel: tuple[int, int], stride: Size, padding: Border | Literal["same"], dilation: Size
) -> tuple[int, int]:
    """Height and width of the output; raises `ValueError` where the kernel doesn't fit."""
    height, width = given.shape[1:]
    if padding == "same":
        return height, width
    border, steps = pair(padding), pair(stride)
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, pair(dilation), strict=True)]
    check_fits((extent[0], extent[1]), height + 2 * border[0], width + 2 * border[1], "kernel")
    return output_size(height, border[0], extent[0], steps[0]), output_size(width, border[1], extent[1], steps[1])
