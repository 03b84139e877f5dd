"""Everything that changes while a network is trained, and its exact saving and restoring."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from cnntrain.training.diagnostics import LayerHealth
from cnntrain.training.schedules import NoImprovement
from cnntrain.training.step import Totals

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from cnntrain.training.schedules import Schedule


@dataclass(frozen=True)
class EpochResult:
    """One row of `metrics.csv`. Losses in nats, accuracies in 0..1, `test_accuracy` at a best epoch only.

    `train` figures are means over the epoch while the network changes, under dropout and augmentation;
    `sample` figures are of training images, as many as validate, at the epoch's end and without either.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    sample_loss: float
    sample_accuracy: float
    validation_loss: float
    validation_accuracy: float
    test_accuracy: float | None
    best: bool
    seconds: float
    images_per_second: float


@dataclass
class State:
    """Where training stands: `epoch` epochs are done, and `batch` batches of the next one.

    `anchor` is what `save` gave at the epoch's beginning: what a rollback goes back to. It goes into
    checkpoints where `keeps_anchor` says so.
    """

    network: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    device: torch.device
    totals: Totals
    stopping: NoImprovement
    epoch: int = 0
    batch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    seconds: float = 0.0
    best_accuracy: float = -math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""
    history: list[EpochResult] = field(default_factory=list)
    health: list[LayerHealth] = field(default_factory=list)
    rollbacks: int = 0
    keeps_anchor: bool = False
    anchor: dict[str, Any] | None = None

    @property
    def best(self) -> EpochResult | None:
        """The epoch of the best validation accuracy so far; of equals, the last."""
        return next((result for result in reversed(self.history) if result.best), None)

    def save(self) -> dict[str, Any]:
        """All of it as tensors and plain data."""
        return {
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "stopping": asdict(self.stopping),
            "totals": {"loss": self.totals.loss, "correct": self.totals.correct},
            "best_weights": self.best_weights,
            "history": [asdict(result) for result in self.history],
            "health": [asdict(layer) for layer in self.health],
            "random": _random_state(self.device),
            **{name: getattr(self, name) for name in _NUMBERS},
            "anchor": self.anchor if self.keeps_anchor and self.batch else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `save`."""
        self.network.load_state_dict(saved["weights"])
        # Settings come from the config, which may have been changed; only moments and counts are restored.
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": settings})
        self.schedule.restore(saved["schedule"])
        self.stopping = NoImprovement(**saved["stopping"])
        self.totals = Totals(*(saved["totals"][name].to(self.device) for name in ("loss", "correct")))
        self.best_weights = saved["best_weights"]
        self.history = [EpochResult(**row) for row in saved["history"]]
        self.health = [LayerHealth(**row) for row in saved["health"]]
        _set_random_state(self.device, saved["random"])
        for name in _NUMBERS:
            setattr(self, name, saved[name])
        self.anchor = saved["anchor"]

    def begin_epoch_again(self) -> None:
        """Forget how far the epoch is, but not what was learned in it."""
        self.batch, self.seconds, self.totals, self.anchor = 0, 0.0, Totals.zero(self.device), None
        self.health = [layer for layer in self.health if layer.epoch <= self.epoch]

    def drop_anchor(self) -> None:
        """Let this be the state that a rollback goes back to."""
        self.anchor = None
        self.anchor = deepcopy(self.save())

    def go_back(self) -> None:
        """Be again what was at the anchor."""
        assert self.anchor is not None
        anchor = self.anchor
        # A copy, since optimizers work in the tensors that they are given.
        self.restore(deepcopy(anchor))
        self.anchor = anchor


_NUMBERS = ("epoch", "batch", "step", "learning_rate", "seconds", "best_accuracy", "stopped", "rollbacks")


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = getattr(torch, device.type).get_rng_state()
    return states


def _set_random_state(device: torch.device, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        getattr(torch, device.type).set_rng_state(states[device.type])
