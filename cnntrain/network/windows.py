"""Convolution of few images on a CPU, as products of matrices over copies of what the filters see (im2col).

oneDNN, which torch convolves with, takes up to twice as long while the copies fit into the caches, and less when they
don't.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Values in the copies, 4 MiB of float32: up to here they are faster.
MOST = 1 << 20


def convolve(images: Tensor, weight: Tensor) -> Tensor:
    """torch's conv2d with a stride of 1 and no padding; where images are few, the same sums in another order.

    (batch, channels, height, width), (filters, channels, kernel height, kernel width)
    -> (batch, filters, height - kernel height + 1, width - kernel width + 1).
    """
    if _are_few(images, weight):
        output: Tensor = _Convolved.apply(images, weight)  # type: ignore[no-untyped-call]
        return output
    return functional.conv2d(images, weight)


def _are_few(images: Tensor, weight: Tensor) -> bool:
    is_trained = weight.requires_grad and torch.is_grad_enabled()
    if not (images.is_cpu and is_trained) or torch.is_autocast_enabled("cpu"):
        return False
    height, width = _places(images, weight)
    return len(images) * height * width * weight[0].numel() <= MOST


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        windows = _windows(images, weight)
        ctx.save_for_backward(images, weight, windows)
        batch, filters = len(images), len(weight)
        if images.shape[1] == 1:
            values = windows.transpose(1, 2).bmm(weight.reshape(filters, -1).t().expand(batch, -1, -1))
        else:
            values = windows.mm(weight.permute(0, 2, 3, 1).reshape(filters, -1).t())
        return values.view(batch, *_places(images, weight), filters).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        images, weight, windows = ctx.saved_tensors
        passed = None
        if ctx.needs_input_grad[0]:
            passed, _, _ = torch.ops.aten.convolution_backward(
                gradients[0], images, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, False, False]
            )
        gradient = gradients[0].permute(0, 2, 3, 1)
        filters, channels, height, width = weight.shape
        if channels == 1:
            product = windows.bmm(gradient.reshape(len(images), -1, filters)).sum(0)
            return passed, product.t().reshape(weight.shape)
        product = gradient.reshape(-1, filters).t().mm(windows)
        return passed, product.view(filters, height, width, channels).permute(0, 3, 1, 2)


def _places(images: Tensor, weight: Tensor) -> tuple[int, int]:
    return images.shape[2] - weight.shape[2] + 1, images.shape[3] - weight.shape[3] + 1


def _windows(images: Tensor, weight: Tensor) -> Tensor:
    """What each place of a filter sees; along the places where there is one channel, along the channels otherwise.

    So memory is copied in long pieces: (batch, kernel area, places), or (batch * places, kernel area * channels).
    """
    (batch, channels, _, _), (height, width) = images.shape, weight.shape[2:]
    of_image, of_channel, down, across = images.stride()
    places = _places(images, weight)
    if channels == 1:
        seen = images.as_strided((batch, height, width, *places), (of_image, down, across, down, across))
        return seen.reshape(batch, height * width, -1)
    strides = (of_image, down, across, down, across, of_channel)
    return images.as_strided((batch, *places, height, width, channels), strides).reshape(-1, weight[0].numel())
