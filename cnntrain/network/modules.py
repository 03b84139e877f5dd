"""The torch modules that are ours: what torch does not have in one piece.

Shapes: images are (batch, channels, height, width).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnntrain.network.activations import make_activation


class ConvPool(nn.Module):
    """Convolution, max-pooling, bias, activation, in the book's order.

    A bias and a rising activation commute with the maximum; after it they meet fewer values.
    """

    def __init__(
        self, channels: int, filters: int, kernel: tuple[int, int], pool: tuple[int, int], activation: str
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(filters, channels, *kernel))
        self.bias = nn.Parameter(torch.empty(filters))
        self.pool = pool
        self.activation = make_activation(activation)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, filters, pooled height, pooled width)."""
        pooled = functional.max_pool2d(functional.conv2d(images, self.weight), self.pool)
        output: Tensor = self.activation(pooled + self.bias.view(-1, 1, 1))
        return output

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"{tuple(self.weight.shape)}, pool={self.pool}"


class BookDropout(nn.Module):
    """Dropout as the book has it: values are zeroed in training, and scaled by 1 - p in testing.

    Scaling the values by 1 - p is the book's scaling of the weights behind them.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if not self.training:
            return values * (1 - self.p)
        return values * torch.empty_like(values).bernoulli_(1 - self.p)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"p={self.p}"


def make_dropout(p: float, scaling: str) -> nn.Module:
    """Dropout with torch's scaling in training (`inverted`), or the book's in testing (`book`)."""
    return BookDropout(p) if scaling == "book" else nn.Dropout(p)


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return values * self.factor


class Residual(nn.Module):
    """f(x) + shortcut(x), then an activation (He et al. 2016, Deep Residual Learning)."""

    def __init__(self, layers: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the shape that `layers` makes of it."""
        output: Tensor = self.activation(self.layers(values) + self.shortcut(values))
        return output


class Branches(nn.Module):
    """Several stacks over one input, concatenated along the channels (Szegedy et al. 2015)."""

    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, values: Tensor) -> Tensor:
        """(batch, channels, ...) -> (batch, sum of the branches' channels, ...)."""
        return torch.cat([branch(values) for branch in self.branches], dim=1)


class GlobalAvgPool(nn.Module):
    """The mean over height and width."""

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels)."""
        return images.mean(dim=(2, 3))
