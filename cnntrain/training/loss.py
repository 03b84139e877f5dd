"""The loss of a batch: the mean negative log-likelihood of a softmax over the network's outputs.

Its gradient is written out, so that a step need not know the loss, which whoever reports it has of many steps at once.
Shapes: logits are (images, classes), labels (images,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def losses_of(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The loss of each image (images,), in nats; `smoothing` as in `minus_targets`."""
    return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def minus_targets(labels: Tensor, classes: int, smoothing: float, batch_size: int) -> Tensor:
    """Minus the targets of the softmax, over the images of a batch: (images, classes), of one batch or several.

    A target is 1 for the truth and 0 for all others, of which `smoothing` in 0..1 is spread over all classes
    (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7).
    """
    is_truth = labels[:, None] == torch.arange(classes, device=labels.device)
    return is_truth * (-(1 - smoothing) / batch_size) - smoothing / classes / batch_size


def gradient_of(logits: Tensor, minus_targets: Tensor, scale: Tensor | None = None) -> Tensor:
    """The gradient of a batch's mean loss by its logits (images, classes): (softmax(logits) - targets) / images.

    Nielsen, chapter 3, on softmax and the log-likelihood cost: the error of the last layer is a - y. A `scale`, a
    single number, takes the place of 1 / images, in `minus_targets` too.
    """
    # In one operation, for which the targets are what `minus_targets` makes of them.
    if scale is None:
        return minus_targets.add(logits.softmax(1), alpha=1 / len(logits))
    return minus_targets.addcmul(logits.softmax(1), scale)
