"""What may make a step that is recorded on a GPU faster; `benchmarks.gpu` measures what each of them would give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from cnntrain import layout
from cnntrain.data import preprocess
from cnntrain.network import modules, windows
from cnntrain.training import engine

# Weights in a piece of an update.
PIECE = 4096


def chosen_convolutions() -> AbstractContextManager[None]:
    """cuDNN tries its convolutions and takes the fastest, which may be others from run to run."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True)


def convolutions_as_products() -> AbstractContextManager[Any]:
    """Convolutions are products of matrices over copied windows, as on a CPU."""
    return patch.object(windows, "_are_few", lambda images, weight: weight.requires_grad and torch.is_grad_enabled())


@contextmanager
def updates_in_pieces() -> Iterator[None]:
    """The fused update is given pieces of the weights: torch has one block update 65,536 of them."""
    whole = torch._fused_sgd_

    def cut(tensors: list[Tensor]) -> list[Tensor]:
        flat = (tensor.detach().as_strided((tensor.numel(),), (1,)) for tensor in tensors)
        return [piece for tensor in flat for piece in tensor.split(PIECE)]

    def update(weights: list[Tensor], gradients: list[Tensor], moments: list[Tensor], **settings: Any) -> None:
        whole(cut(weights), cut(gradients), cut(moments), **settings)

    with patch.object(torch, "_fused_sgd_", update):
        yield


def updates_by_the_optimizer() -> AbstractContextManager[Any]:
    """Plain SGD is torch's, after the backward pass, for linear layers too."""
    return patch.object(engine, "subtracting", lambda step: step)


@contextmanager
def contiguous_images() -> Iterator[None]:
    """Images and filters lie as torch has them by default, not with the channels of a pixel side by side."""
    with ExitStack() as patches:
        for module in (layout, modules, preprocess):
            patches.enter_context(patch.object(module, "layout", lambda device: torch.contiguous_format))
        yield


TRIALS = {
    "convolutions chosen by trial": chosen_convolutions,
    "convolutions as products": convolutions_as_products,
    "updates in pieces": updates_in_pieces,
    "updates by the optimizer": updates_by_the_optimizer,
    "contiguous images": contiguous_images,
}
