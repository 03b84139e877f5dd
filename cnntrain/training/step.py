"""One step of training: gather, augment, forward, backward, update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import clip_grad_norm_

from cnntrain.network.modules import Linear, Update
from cnntrain.training.loss import gradient_of, losses_of, minus_targets
from cnntrain.training.optimizers import descend, index_of_group, subtract

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from cnntrain.data.augment.geometry import Augmentation
    from cnntrain.data.batches import Resident
    from cnntrain.training.average import Average


@dataclass
class Totals:
    """Sums over the images of an epoch so far; they stay on the device until somebody reads them."""

    loss: Tensor
    correct: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Totals:
        """Nothing summed yet."""
        # A sum of so many that are alike would lose digits in float32; Apple's GPUs have nothing finer.
        fine = torch.float32 if device.type == "mps" else torch.float64
        return cls(torch.zeros((), dtype=fine, device=device), torch.zeros((), dtype=torch.int64, device=device))

    def add(self, loss_sums: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count images by sums of their losses (any number,), logits (images, classes) and labels (images,)."""
        # One by one, for so they are rounded the same however many come at once.
        for loss in loss_sums.to(self.loss.dtype).unbind():
            self.loss += loss
        self.correct += (logits.argmax(1) == labels).sum()


@dataclass(frozen=True)
class Step:
    """All that one step works with; calling it with indices of images trains on them.

    An `average` counts the weights after it.
    `updates` are carried out within the backward pass, in the optimizer's place. Layers compute in `precision`
    where torch.autocast does; weights, their updates and the loss stay float32.
    """

    network: nn.Module
    optimizer: Optimizer
    images: Resident
    classes: int
    augmentations: Sequence[Augmentation]
    label_smoothing: float
    clip_grad_norm: float | None
    updates: Mapping[Linear, Update] = field(default_factory=dict)
    average: Average | None = None
    precision: torch.dtype = torch.float32

    def __call__(self, indices: Tensor, totals: Totals, keeps_gradients: bool = False) -> None:
        """One update from the images at `indices` (batch,), counted into `totals`; see `learn`."""
        images, labels = self.gather(indices)
        logits = self.learn(images, self.minus_targets(labels, len(labels)), keeps_gradients)
        totals.add(self.loss_sums(logits, labels), logits, labels)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images, as the network takes them where nothing augments them, and labels."""
        images, labels = self.images.gather(indices)
        return (images if self.augmentations else self.images.preprocessing.normalize(images)), labels

    def minus_targets(self, labels: Tensor, batch_size: int) -> Tensor:
        """What `learn` is to know of the labels (images,) of one or more batches: (images, classes)."""
        return minus_targets(labels, self.classes, self.label_smoothing, batch_size)

    def loss_sums(self, logits: Tensor, labels: Tensor, batches: int = 1) -> Tensor:
        """The summed loss of each of so many equal batches (batches,), by logits (images, classes)."""
        return losses_of(logits, labels, self.label_smoothing).view(batches, -1).sum(1)

    def learn(
        self, images: Tensor, minus_targets: Tensor, keeps_gradients: bool, scale: Tensor | None = None
    ) -> Tensor:
        """One update from gathered images; gives their logits (batch, classes) before it.

        With `keeps_gradients` every parameter has its `.grad` afterwards; without, some are never written. For `scale`
        see `gradient_of`.
        """
        if self.augmentations:
            for augment in self.augmentations:
                images = augment(images)
            images = self.images.preprocessing.normalize(images)
        self.optimizer.zero_grad()
        with updating_within_backward({} if keeps_gradients else self.updates):
            with self._autocast():
                logits: Tensor = self.network(images).float()
            logits.backward(gradient_of(logits.detach(), minus_targets, scale))  # type: ignore[no-untyped-call]
        if self.clip_grad_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.clip_grad_norm)
        self.optimizer.step()
        if self.average:
            self.average.add()
        return logits.detach()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    @property
    def device(self) -> torch.device:
        """Where images and network are."""
        return self.images.labels.device


def updates_of(step: Step) -> dict[Linear, Update]:
    """How plain SGD changes each linear layer as soon as its gradient is known."""
    optimizer = step.optimizer
    return {layer: partial(descend, optimizer, index_of_group(optimizer, layer)) for layer in _linear_layers(step)}


def subtracting(step: Step) -> Step:
    """A step of plain SGD whose gradients are multiplied by the learning rate as soon as they begin, at the loss.

    So linear layers subtract theirs in the product that makes it, as the host does not know the rate of a step that is
    recorded, and the optimizer is left with small weights: torch has one block of threads update 65,536 of them.
    """
    return replace(step, updates=dict.fromkeys(_linear_layers(step), subtract))


def _linear_layers(step: Step) -> list[Linear]:
    return [module for module in step.network.modules() if isinstance(module, Linear)]


@contextmanager
def updating_within_backward(updates: Mapping[Linear, Update]) -> Iterator[None]:
    """Let each layer be changed as soon as its gradient is known; its `.grad` stays empty."""
    for layer, update in updates.items():
        layer.update = update
    try:
        yield
    finally:
        for layer in updates:
            layer.update = None


@contextmanager
def learning_at(step: Step, rates: Sequence[Tensor | float]) -> Iterator[None]:
    """Let the optimizer have these learning rates, one for each parameter group; tensors are read when it updates."""
    groups = step.optimizer.param_groups
    before = [group["lr"] for group in groups]
    _set_rates(groups, rates)
    try:
        yield
    finally:
        _set_rates(groups, before)


def _set_rates(groups: list[dict[str, Any]], rates: Sequence[Tensor | float]) -> None:
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
