"""The torch modules that are ours: what torch does not have in one piece.

Shapes: images are (batch, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnntrain.layout import layout
from cnntrain.network.activations import make_activation
from cnntrain.network.windows import convolve

# Rates of dropout on a CPU are so many parts of 1, and have so many of them on either side at least.
STEPS, FEWEST = 2**16, 2**8


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
        pooled = functional.max_pool2d(convolve(images, self.weight), self.pool)
        # As a convolution's own bias under autocast: what is added to stays what it is.
        output: Tensor = self.activation(pooled + self.bias.to(pooled.dtype).view(-1, 1, 1))
        return output

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"{tuple(self.weight.shape)}, pool={self.pool}"


class Pointwise(nn.Conv2d):
    """torch's Conv2d with a kernel of 1x1 and a stride; on a CPU it takes only the pixels that it meets.

    For few channels in channels_last, torch's own backward pass there writes where it should not.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, filters, height', width')."""
        if not images.is_cpu:
            return super().forward(images)
        # "same" goes without a stride.
        height, width = cast("tuple[int, int]", self.padding)
        if height or width:
            images = functional.pad(images, [width, width, height, height])
        met = images[:, :, :: self.stride[0], :: self.stride[1]]
        return functional.conv2d(met, self.weight, self.bias, groups=self.groups)


def safe_conv(kernel: tuple[int, int], stride: tuple[int, int]) -> type[nn.Conv2d]:
    """torch's Conv2d, or ours where torch's is not safe."""
    return Pointwise if kernel == (1, 1) and stride != (1, 1) else nn.Conv2d


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm; in channels_last its backward pass ends the process where its input needs no gradient."""

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        is_safe = values.requires_grad or not (values.is_cpu and torch.is_grad_enabled())
        # A single channel is contiguous in either layout, and would be left in its own.
        return super().forward(values if is_safe else values.clone(memory_format=torch.contiguous_format))


class Flatten(nn.Flatten):
    """torch's Flatten; its gradient is laid out as the images are, or max-pooling's would take ten times as long."""

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) or (batch, features) -> (batch, features)."""
        if images.dim() == 2:
            return images
        flat: Tensor = _Flattened.apply(images)  # type: ignore[no-untyped-call]
        return flat


class _Flattened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        return images.flatten(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].view(ctx.shape).contiguous(memory_format=layout(gradients[0].device))


# Takes a linear layer's weight, bias, inputs, and the gradient of its outputs; gives the bias's where it leaves it.
Update = Callable[[Tensor, Tensor | None, Tensor, Tensor], Tensor | None]


class Linear(nn.Linear):
    """torch's Linear; while `update` is set, the backward pass calls it instead of filling the weight's `.grad`.

    A gradient as large as the weights is then neither written nor read again.
    """

    update: Update | None = None

    def forward(self, values: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs)."""
        if self.update is None or not torch.is_grad_enabled():
            return super().forward(values)
        output: Tensor = _Updated.apply(values, self.weight, self.bias, self.update)  # type: ignore[no-untyped-call]
        return output


class _Updated(torch.autograd.Function):
    """A linear map whose parameters are changed as soon as the gradient of its inputs is known."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, update: Update) -> Tensor:
        ctx.save_for_backward(values)
        ctx.parameters, ctx.update = (weight, bias), update
        return functional.linear(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        (values,), (gradient,), (weight, bias) = ctx.saved_tensors, gradients, ctx.parameters
        passed = gradient.mm(weight) if ctx.needs_input_grad[0] else None
        return passed, None, ctx.update(weight, bias, values, gradient), None


def keep_mask(values: Tensor, p: float) -> Tensor:
    """1 where a value is kept, and 0 with probability `p` where it is dropped; shape and type are those of `values`.

    On a CPU a draw of 64 bits serves four values, with `p` in steps of 2^-16: torch would draw 64 for each.
    """
    if not (values.is_cpu and has_fine_steps(p)):
        return torch.empty_like(values).bernoulli_(1 - p)
    count = values.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    threshold = round(p * STEPS) - STEPS // 2
    return (draws.view(torch.int16)[:count].view(values.shape) >= threshold).to(values.dtype)


def has_fine_steps(p: float) -> bool:
    """Whether 2^-16 is little beside `p` and 1 - `p`."""
    return min(p, 1 - p) >= FEWEST / STEPS


class Dropout(nn.Dropout):
    """torch's Dropout, drawn by `keep_mask` on a CPU."""

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if not (self.training and values.is_cpu and has_fine_steps(self.p)):
            return super().forward(values)
        return values * keep_mask(values, self.p).mul_(1 / (1 - self.p))


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
        return values * keep_mask(values, self.p)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"p={self.p}"


def make_dropout(p: float, scaling: str) -> nn.Module:
    """Dropout with torch's scaling in training (`inverted`), or the book's in testing (`book`)."""
    return BookDropout(p) if scaling == "book" else Dropout(p)


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


def layer_of(name: str) -> str:
    """The module that a tensor of a state belongs to: `4_softmax.linear.weight` to `4_softmax.linear`."""
    return name.rpartition(".")[0]


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """What multiplies inputs, by name: no biases, and no scales of a normalization, whatever their shape."""
    normalizations = (module for module in network.modules() if isinstance(module, nn.LayerNorm))
    scales = {id(parameter) for module in normalizations for parameter in module.parameters()}
    named = network.named_parameters()
    return {name: parameter for name, parameter in named if parameter.dim() > 1 and id(parameter) not in scales}
