"""How steps are carried out: one at a time, or many as one CUDA graph.

Small networks with small batches keep a GPU waiting for Python; a graph is launched once for many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import distributed, optim

from cnntrain.training.optimizers import is_plain_sgd
from cnntrain.training.recording import Recording, without_trace
from cnntrain.training.step import Totals

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnntrain.training.step import Step

# Optimizers that take their learning rate from the device, and keep nothing of their state on the host.
CAPTURABLE = (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)
STEPS = 50


class Engine:
    """One step after the other; `remark` is what the user is to be told of it, once."""

    def __init__(self, step: Step, remark: str = "") -> None:
        self.step = step
        self.remark = remark

    def at_once(self, number: int, left: int) -> int:
        """How many steps to carry out next, when `number` are done and `left` are left in the epoch."""
        return 1

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """A step for each of `batches` (indices of images), with the initial learning rates times its factor."""
        for indices, factor in zip(batches, factors, strict=True):
            for group in self.step.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self.step(indices, totals, keeps_gradients)


class Graph(Engine):
    """Steps recorded as CUDA graphs, of many steps and of one; plain steps where recording fails."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self._recordings: dict[tuple[int, ...], Recording] = {}
        self._has_failed = False
        for group in step.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True

    def at_once(self, number: int, left: int) -> int:
        """The very first step stands alone, since it makes the optimizer's state, and so does the last of an epoch."""
        return STEPS if number and left > STEPS and not self._has_failed else 1

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """The same as `Engine.run`; gradients are kept by a plain step only."""
        recording = None if keeps_gradients or self._has_failed else self._recorded(batches)
        if recording is None:
            super().run(batches, factors, totals, keeps_gradients)
            return
        groups = self.step.optimizer.param_groups
        rates = [[group["initial_lr"] * factor for group in groups] for factor in factors]
        recording.replay(torch.stack(list(batches)), rates, totals)

    def _recorded(self, batches: Sequence[Tensor]) -> Recording | None:
        shape = (len(batches), len(batches[0]))
        known = self._recordings.get(shape)
        if known is not None and known.is_valid():
            return known
        try:
            self._recordings[shape] = Recording(self.step, *shape)
        except RuntimeError as error:
            self._has_failed = True
            self.remark = f"training goes on in plain steps, without a CUDA graph: {_first_line(error)}"
            self._recordings.clear()
            torch.cuda.empty_cache()
            return None
        return self._recordings[shape]


class Compiled(Engine):
    """Plain steps of a network that torch compiles; of the network as it is, where that fails."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self._inner: Engine | None = None

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """The same as `Engine.run`; the first time takes as long as compilation does."""
        if self._inner is None:
            self._inner = self._rehearsed(batches, factors)
        self._inner.run(batches, factors, totals, keeps_gradients)

    def _rehearsed(self, batches: Sequence[Tensor], factors: Sequence[float]) -> Engine:
        compiled = Engine(replace(self.step, network=cast("nn.Module", torch.compile(self.step.network))))
        try:
            with without_trace(self.step):
                compiled.run(batches, factors, Totals.zero(self.step.device), keeps_gradients=True)
        except RuntimeError as error:
            self.remark = f"training goes on without compilation: {_first_line(error)}"
            return Engine(self.step)
        return compiled


def choose(name: str, step: Step, device: torch.device) -> Engine:
    """The engine of that name, or with `auto` the one that is fastest; raises `ValueError` where it can't be had."""
    obstacle = _obstacle_to_a_graph(step, device)
    if name == "graph" and obstacle:
        raise ValueError(f"`graph` can't be had: {obstacle}; use `auto` or `eager`")
    if name == "compiled":
        return Compiled(step)
    if name == "graph" or (name == "auto" and not obstacle):
        return Graph(step)
    is_told = name == "auto" and device.type == "cuda"
    fastest = replace(step, updates_within_backward=_can_update_within_backward(step, device))
    return Engine(fastest, f"plain steps, no CUDA graph: {obstacle}" if is_told else "")


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def _obstacle_to_a_graph(step: Step, device: torch.device) -> str:
    if device.type != "cuda":
        return f"a CUDA graph needs a GPU with CUDA, and this run is on {device}"
    if type(step.optimizer) not in CAPTURABLE:
        return f"{type(step.optimizer).__name__} is not known to work in one"
    if step.images.is_streamed:
        return "the images are streamed from a disk, which the host reads"
    return "" if _is_alone() else "several processes train together"


def _can_update_within_backward(step: Step, device: torch.device) -> bool:
    """Whether nobody needs the gradients of all layers before the first is updated; it pays on a CPU."""
    return device.type == "cpu" and step.clip_grad_norm is None and _is_alone() and is_plain_sgd(step.optimizer)
