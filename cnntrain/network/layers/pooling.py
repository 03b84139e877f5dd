"""Pooling under torch's names."""

from typing import TYPE_CHECKING

from cnntrain.network.layers.sizes import check_fits, output_size
from cnntrain.network.stack import Input
from cnntrain.registry import layers
from cnntrain.strict import Border, Size, pair

if TYPE_CHECKING:
    from torch import nn


@layers.register("max_pool")
def max_pool(given: Input, /, kernel_size: Size = 2, stride: Size | None = None, padding: Border = 0) -> "nn.Module":
    """The largest value of each window; torch's MaxPool2d.

    (channels, height, width) -> (channels, (height + 2 padding - kernel) // stride + 1, ...)
    """
    from torch import nn

    return nn.MaxPool2d(*_window(given, kernel_size, stride, padding))


@layers.register("avg_pool")
def avg_pool(given: Input, /, kernel_size: Size = 2, stride: Size | None = None, padding: Border = 0) -> "nn.Module":
    """The mean of each window; torch's AvgPool2d.

    (channels, height, width) -> (channels, (height + 2 padding - kernel) // stride + 1, ...)
    """
    from torch import nn

    return nn.AvgPool2d(*_window(given, kernel_size, stride, padding))


@layers.register("global_avg_pool")
def global_avg_pool(given: Input, /) -> "nn.Module":
    """The mean over the whole image: (channels, height, width) -> (channels,)."""
    from cnntrain.network.modules import GlobalAvgPool

    _ = given.channels
    return GlobalAvgPool()


def _window(
    given: Input, kernel_size: Size, stride: Size | None, padding: Border
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel, border = pair(kernel_size), pair(padding)
    steps = kernel if stride is None else pair(stride)
    channels, height, width = given.channels, *given.shape[1:]
    check_fits(kernel, height + 2 * border[0], width + 2 * border[1], "pooling window")
    rows, columns = (
        output_size(height, border[0], kernel[0], steps[0]),
        output_size(width, border[1], kernel[1], steps[1]),
    )
    given.budget.spend(numbers=channels * rows * columns)
    return kernel, steps, border
