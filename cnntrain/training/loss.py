"""The loss of a batch: the mean negative log-likelihood of a softmax over the network's outputs.

Its gradient is written out, so that a step need not know the loss: whoever wants it has it for many steps at once.
Shapes: logits are (images, classes), labels (images,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def losses_of(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The loss of each image (images,), in nats; `smoothing` as in `offsets_of`."""
    return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def offsets_of(labels: Tensor, classes: int, smoothing: float, batch_size: int) -> Tensor:
    """Minus what the softmax is to give, over the images of a batch: (images, classes); see `gradient_of`.

    It is to give 1 to the truth and 0 to all others, of which `smoothing` in 0..1 is spread over all classes
    (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7).
    """
    is_truth = labels[:, None] == torch.arange(classes, device=labels.device)
    return is_truth * (-(1 - smoothing) / batch_size) - smoothing / classes / batch_size


def gradient_of(logits: Tensor, offsets: Tensor) -> Tensor:
    """Of the mean loss by a batch's logits (images, classes): what the softmax gives, less what it is to give.

    Nielsen, chapter 3, on softmax and the log-likelihood cost: the error of the last layer is a - y.
    """
    return offsets.add(logits.softmax(1), alpha=1 / len(logits))
