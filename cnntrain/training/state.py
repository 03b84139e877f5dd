"""Everything that changes while a network is trained, and its exact saving and restoring."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from cnntrain.data.batches import derived_seed
from cnntrain.training.optimizers import begin_momentum
from cnntrain.training.rows import EpochResult, LayerHealth
from cnntrain.training.schedules import NoImprovement
from cnntrain.training.step import Totals

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from cnntrain.training.average import Average
    from cnntrain.training.distributed import Ranks
    from cnntrain.training.schedules import Schedule


@dataclass
class State:
    """Where training stands: `epoch` epochs are done, and `batch` batches of the next one.

    `totals` and random numbers are this rank's own, all else is the same in all of them.

    Where there is an `average` of the weights, that is what is judged and kept of the network.

    `anchor` is what `save` gave at the epoch's beginning: what a rollback goes back to. It goes into
    checkpoints where `keeps_anchor` says so.
    """

    network: nn.Sequential
    optimizer: Optimizer
    schedule: Schedule
    ranks: Ranks
    totals: Totals
    stopping: NoImprovement
    epoch: int = 0
    batch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    seconds: float = 0.0
    average: Average | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""
    history: list[EpochResult] = field(default_factory=list)
    health: list[LayerHealth] = field(default_factory=list)
    rollbacks: int = 0
    # With what other settings it went on, and from where.
    changes: tuple[str, ...] = ()
    # The checkpoint whose weights it began with, their SHA-256, and what came of it.
    init_from: dict[str, Any] | None = None
    keeps_anchor: bool = False
    anchor: dict[str, Any] | None = None

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self.ranks.device

    @property
    def best(self) -> EpochResult | None:
        """The epoch that is the best so far by what is monitored; of equals, the last."""
        return next((result for result in reversed(self.history) if result.best), None)

    @property
    def is_at_best(self) -> bool:
        """Whether the network is as the best epoch left it."""
        return bool(self.history) and self.history[-1].best and not self.batch

    def averaged(self) -> AbstractContextManager[None]:
        """Have the network be what is judged and kept of it."""
        return self.average.in_place(self.step) if self.average and self.step else nullcontext()

    def kept(self) -> dict[str, Tensor]:
        """The weights that are judged and kept."""
        if self.stopped and self.best_weights:
            return self.best_weights
        averaged = self.average.after(self.step) if self.average and self.step else {}
        return {**self.network.state_dict(), **averaged}

    def keep_best_weights(self) -> None:
        """Remember the weights as the best epoch's, which training ends with."""
        self.best_weights = {name: value.clone() for name, value in self.kept().items()}

    def end(self, why: str) -> None:
        """Stop training, with the best epoch's weights where these were to be kept."""
        self.stopped = why
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
            if self.average:
                self.average.begin_at_weights(self.step)

    def summed(self, name: str) -> float:
        """One of the totals, over all ranks; all must ask."""
        return float(sum(self.ranks.gather(getattr(self.totals, name).item())))

    def save(self) -> dict[str, Any]:
        """All of it as tensors and plain data; all ranks must ask."""
        first, *others = self.ranks.gather({"totals": self._totals(), "random": _random_state(self.device)})
        return {
            **first,
            "others": others,
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "stopping": asdict(self.stopping),
            "average": self.average.sums if self.average else {},
            "best_weights": self.best_weights,
            "history": [dict(vars(result)) for result in self.history],
            "health": [dict(vars(layer)) for layer in self.health],
            **{name: getattr(self, name) for name in _SCALARS},
            "changes": self.changes,
            "init_from": self.init_from,
            "anchor": self.anchor if self.keeps_anchor and self.batch else None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `save`."""
        self.network.load_state_dict(saved["weights"])
        # Settings come from the config, which may have been changed; only moments and counts are restored, and the
        # last learning rate, which stays until the next step.
        settings = self.optimizer.state_dict()["param_groups"]
        for group, before in zip(settings, saved["optimizer"]["param_groups"], strict=False):
            group["lr"] = before["lr"]
        self.optimizer.load_state_dict({"state": self._moments(saved["optimizer"]["state"]), "param_groups": settings})
        begin_momentum(self.optimizer)
        if self.average:
            self.average.restore(saved["average"])
        self.schedule.restore(saved["schedule"])
        self.stopping = replace(self.stopping, **{name: saved["stopping"][name] for name in ("best", "epochs")})
        self.best_weights = saved["best_weights"]
        self.history = [EpochResult(**row) for row in saved["history"]]
        self.health = [LayerHealth(**row) for row in saved["health"]]
        for name in _SCALARS:
            setattr(self, name, saved[name])
        self.changes = tuple(saved.get("changes", ()))
        self.init_from = saved.get("init_from")
        self._restore_own([saved, *saved["others"]])
        self.anchor = saved["anchor"]

    def _moments(self, saved: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """What the optimizer knows of each parameter, laid out as it is: torch's fused steps do not look at shapes."""
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        fused = {id(parameter) for group in groups if group.get("fused") for parameter in group["params"]}

        def laid_out(parameter: Tensor, known: dict[str, Any]) -> dict[str, Any]:
            if id(parameter) not in fused:
                return known
            return {name: _laid_out_as(parameter, name, value) for name, value in known.items()}

        return {index: laid_out(parameters[index], known) for index, known in saved.items()}

    def _totals(self) -> dict[str, Tensor]:
        # On the CPU: a tensor that is sent to another rank arrives on the device that it comes from.
        return {name: value.cpu() for name, value in vars(self.totals).items()}

    def _restore_own(self, saved: Sequence[dict[str, Any]]) -> None:
        """What each rank has of its own: exactly, if there are as many ranks as there were."""
        rank, totals = self.ranks.rank, [one["totals"] for one in saved]
        if len(saved) != self.ranks.size:
            whole = {name: torch.stack([one[name] for one in totals]).sum(0) for name in totals[0]}
            totals = [whole] + [vars(Totals.zero(self.device))] * rank
        zero = vars(Totals.zero(self.device))
        self.totals = Totals(**{name: value.to(zero[name]) for name, value in totals[rank].items()})
        if rank < len(saved):
            _set_random_state(self.device, saved[rank]["random"])
        else:
            torch.manual_seed(derived_seed(torch.initial_seed(), f"step {self.step}"))

    def begin_epoch_again(self) -> None:
        """Forget how far the epoch is, but not what was learned in it."""
        self.batch, self.seconds, self.totals, self.anchor = 0, 0.0, Totals.zero(self.device), None
        self.health = [layer for layer in self.health if layer.epoch <= self.epoch]

    def set_anchor(self) -> None:
        """Let this be the state that a rollback goes back to."""
        # The old one goes first: there may be no memory for both.
        self.anchor = None
        saved = self.save()
        # Nobody changes rows, of which there are many after many epochs.
        rows = {name: saved.pop(name) for name in ("history", "health")}
        self.anchor = {**deepcopy(saved), **rows}

    def go_back(self) -> None:
        """Be again what was at the anchor; that settings were changed since then, and what came of it, stays known."""
        assert self.anchor is not None
        anchor, changes, best_weights = self.anchor, self.changes, self.best_weights
        # A copy, since optimizers work in the tensors that they are given.
        self.restore(deepcopy(anchor))
        self.anchor, self.changes, self.best_weights = anchor, changes, best_weights


_SCALARS = ("epoch", "batch", "step", "learning_rate", "seconds", "stopped", "rollbacks")


def _laid_out_as(parameter: Tensor, name: str, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    shape = torch.Size() if name == "step" else parameter.shape
    if value.shape != shape:
        raise ValueError(f"the optimizer's `{name}` has the shape {tuple(value.shape)}, not {tuple(shape)}")
    return value if name == "step" else torch.empty_like(parameter).copy_(value)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = getattr(torch, device.type).get_rng_state()
    return states


def _set_random_state(device: torch.device, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        getattr(torch, device.type).set_rng_state(states[device.type])
