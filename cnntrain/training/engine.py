"""How steps are carried out: one at a time, a few as lists of operations on a CPU, or many as one CUDA graph.

Plain steps and those of a graph can be of a network that torch has compiled.

Small networks with small batches keep a processor waiting for Python; a graph is launched once for many steps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
from torch import distributed, optim

from cnntrain import registry
from cnntrain.data.batches import Resident
from cnntrain.data.images import Folders
from cnntrain.errors import first_line
from cnntrain.training.optimizers import is_plain_sgd, kind_of
from cnntrain.training.recording import Recording, forget_failure, undone
from cnntrain.training.step import Totals, learning_at, subtracting, updates_of
from cnntrain.training.tracing import Trace, Tracer, program

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnntrain.training.step import Step

# Optimizers that take their learning rate from the device, and keep nothing of their state on the host.
CAPTURABLE = (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)
# What a CUDA graph takes at once, at most, and what of an epoch is worth no graph of single steps besides.
GPU_STEPS, GPU_REST = 50, 4
# What a CPU takes at once: so many steps, and so many values in their images, 1 MiB, as the cache of a core holds.
CPU_STEPS, CPU_VALUES = 10, 1 << 18
# In how many parts an epoch can be left there at least: whoever asks to save or to end waits for one of them.
CPU_PARTS = 100
# Values in a line of the cache: images that begin elsewhere may be multiplied in another order.
CACHE_LINE = 16


class Engine:
    """One step after the other; `remark` is what the user is to be told of it, once."""

    def __init__(self, step: Step, remark: str = "") -> None:
        self.step = step
        self.remark = remark

    def at_once(self, number: int, left: int, whole: int) -> int:
        """How many steps to carry out next, when `number` are done, and `left` are left of the epoch's `whole`."""
        return 1

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """A step for each of `batches` (indices of images), with the initial learning rates times its factor."""
        for indices, factor in zip(batches, factors, strict=True):
            for group in self.step.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self.step(indices, totals, keeps_gradients)


class Traced(Engine):
    """Steps as their bare operations, after two in a row were the same; plain steps where they differ."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self._rates = [torch.zeros((), dtype=torch.float64) for _ in step.optimizer.param_groups]
        self._has_failed = False
        self._begin()

    def _begin(self) -> None:
        self._groups = self.step.optimizer.param_groups
        self._size: int | None = None
        self._trace: Trace | None = None
        self._program: Callable[..., Tensor] | None = None

    def at_once(self, number: int, left: int, whole: int) -> int:
        """A few once the operations are known; the very first step stands alone, and so does the last of an epoch."""
        values = (self._size or 0) * math.prod(self.step.images.preprocessing.shape)
        if not (number and self._program) or values % CACHE_LINE:
            return 1
        return max(1, min(CPU_STEPS, CPU_VALUES // values, whole // CPU_PARTS, left - 1))

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """The same as `Engine.run`; gradients are kept by a plain step only, and a smaller last batch is one."""
        if self._groups is not self.step.optimizer.param_groups:
            # A state was restored: the optimizer works on other tensors now.
            self._begin()
        if len(batches[0]) != self._size or keeps_gradients or self._has_failed:
            # The first step makes what later ones find: constants on the device, the optimizer's state. A run that
            # is resumed may begin with the smaller last batch.
            self._size = max(self._size or 0, len(batches[0]))
            super().run(batches, factors, totals, keeps_gradients)
            return
        # Whatever is no part of a step is done for all of them at once.
        images, labels = self.step.gather(torch.cat(list(batches)))
        minus_targets = self.step.minus_targets(labels, self._size)
        each = zip(torch.split(images, self._size), torch.split(minus_targets, self._size), factors, strict=True)
        logits = torch.cat([self._run_one(some, minus_target, factor) for some, minus_target, factor in each])
        totals.add(self.step.loss_sums(logits, labels, len(batches)), logits, labels)

    def _run_one(self, images: Tensor, minus_targets: Tensor, factor: float) -> Tensor:
        """A step on gathered images; gives the logits."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            group["lr"] = group["initial_lr"] * factor
            rate.fill_(group["lr"])
        if self._program is None:
            return self._write_down(images, minus_targets)
        with torch.no_grad():
            return self._program(images, minus_targets)

    def _write_down(self, images: Tensor, minus_targets: Tensor) -> Tensor:
        """Carry the step out, and see whether it was the same as the one before."""
        tracer = Tracer([images, minus_targets])
        updates = {layer: tracer.as_one(update) for layer, update in self.step.updates.items()}
        with learning_at(self.step, self._rates), tracer:
            logits = replace(self.step, updates=updates).learn(images, minus_targets, keeps_gradients=False)
            tracer.give(logits)
        before, self._trace = self._trace, tracer.trace
        if not tracer.trace.is_foreseeable or (before and not before.is_same(tracer.trace)):
            self._has_failed = True
        elif before:
            self._program = program(tracer.trace)
        return logits


class Graph(Engine):
    """Steps recorded as CUDA graphs, of many steps and of one; plain steps where recording fails.

    Where it `descends`, the optimizer is plain SGD without decay, and steps are recorded as `subtracting` has them.
    """

    def __init__(self, step: Step, descends: bool = False) -> None:
        super().__init__(step)
        self._descends = descends
        self._recordings: dict[tuple[int, ...], Recording] = {}
        self._has_failed = False
        self._are_singles_plain = False
        for group in step.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True

    def at_once(self, number: int, left: int, whole: int) -> int:
        """The very first step stands alone, since it makes the optimizer's state, and so does the last of an epoch."""
        size = steps_in_a_graph(whole)
        self._are_singles_plain = size > 1 and (whole - 1) % size <= GPU_REST
        return size if number and left > size and not self._has_failed else 1

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """The same as `Engine.run`; gradients are kept by a plain step only."""
        is_plain = keeps_gradients or self._has_failed or (len(batches) == 1 and self._are_singles_plain)
        recording = None if is_plain else self._recorded(batches)
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
            step = subtracting(self.step) if self._descends else self.step
            self._recordings[shape] = Recording(step, *shape)
            return self._recordings[shape]
        except RuntimeError as error:
            # Ending a recording that has failed raises too, and says only that something failed before.
            cause = first_line(error.__context__ or error)
        # Out here, for the error holds on to what the recording took.
        self._has_failed = True
        self.remark = f"training goes on in plain steps, without a CUDA graph: {cause}"
        self._recordings.clear()
        forget_failure()
        return None


class Compiled(Engine):
    """Another engine's steps, of a network that torch compiles; of the network as it is, where that fails."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner.step, "torch compiles the network before the first step, which takes a while")
        self._inner = inner
        self._is_compiled = False

    def at_once(self, number: int, left: int, whole: int) -> int:
        """As many as the other takes."""
        return self._inner.at_once(number, left, whole)

    def run(self, batches: Sequence[Tensor], factors: Sequence[float], totals: Totals, keeps_gradients: bool) -> None:
        """The same as `Engine.run`; the first time takes as long as compilation does."""
        if not self._is_compiled:
            self._inner.step = self._compiled(len(batches[0]))
            self._is_compiled = True
        self._inner.run(batches, factors, totals, keeps_gradients)
        self.remark = "; ".join(filter(None, (self.remark, self._inner.remark)))
        self._inner.remark = ""

    def _compiled(self, batch_size: int) -> Step:
        # torch's own place for what it compiles is one in /tmp that anybody can make beforehand, and it unpickles.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Folders.standard(None).cache / "compiled"))
        # Images that are streamed can be asked for only once.
        images = Resident.black(batch_size, self.step.images.preprocessing, self.step.device)
        every = torch.arange(batch_size, device=self.step.device)
        try:
            # A smaller last batch would have all later ones compiled for any size, and slower for it.
            network = cast("nn.Module", torch.compile(self.step.network, dynamic=False))
            compiled = replace(self.step, network=network)
            black = replace(compiled, images=images)
            with undone(self.step):
                Engine(black).run([every], [1.0], Totals.zero(self.step.device), keeps_gradients=True)
        except RuntimeError as error:
            self.remark = f"training goes on without compilation: {first_line(error)}"
            return self.step
        return compiled


@cache
def steps_in_a_graph(whole: int) -> int:
    """How many steps of an epoch's `whole` to record as one: the first epoch and another have the fewest launches."""

    def launches(size: int) -> int:
        # All but the last step, and in a run's first epoch the first.
        return sum(divmod(whole - 1, size)) + sum(divmod(whole - 2, size))

    return min(range(1, min(GPU_STEPS, whole - 2) + 1), key=launches, default=1)


def choose(name: str, step: Step, device: torch.device) -> Engine:
    """The engine of that name, or with `auto` the one that is fastest; raises `ValueError` where it can't be had."""
    obstacle = _obstacle_to_a_graph(step, device)
    if name == "graph" and obstacle:
        raise ValueError(f"`graph` can't be used: {obstacle}; use `auto` or `eager`")
    has_plugins = bool(registry.of_plugins())
    if name in ("auto", "compiled") and has_plugins and not obstacle:
        obstacle = "a plugin may not do the same in every step; if it does, set `training.engine: graph`"
    is_asked = name != "eager" and device.type == "cuda"
    plain = f"plain steps, no CUDA graph: {obstacle}" if is_asked else ""
    if name == "compiled":
        return Compiled(Engine(step, plain) if obstacle else Graph(step))
    # A plugin may use a layer twice, freeze it, or have an optimizer of its own.
    is_plain = not has_plugins and _needs_no_gradients(step)
    if name == "graph" or (name == "auto" and not obstacle):
        decays = any(group["weight_decay"] for group in step.optimizer.param_groups)
        return Graph(step, descends=is_plain and not decays)
    if device.type == "cpu" and _is_alone():
        fastest = replace(step, updates=updates_of(step)) if is_plain else step
        is_traceable = name == "auto" and not has_plugins and _can_be_traced(step)
        return Traced(fastest) if is_traceable else Engine(fastest)
    return Engine(step, plain)


def _is_alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def _obstacle_to_a_graph(step: Step, device: torch.device) -> str:
    if device.type != "cuda":
        return f"a CUDA graph needs a GPU with CUDA, and this run is on {device}"
    if kind_of(step.optimizer) not in CAPTURABLE:
        return f"{type(step.optimizer).__name__} is not known to work in one"
    if step.images.is_streamed:
        return "the images are streamed from a disk, which the host reads"
    return "" if _is_alone() else "several processes train together"


def _can_be_traced(step: Step) -> bool:
    """Whether images and learning rates come from tensors that are there in every step."""
    reads_rates = all(group.get("fused") for group in step.optimizer.param_groups)
    return reads_rates and not step.images.is_streamed


def _needs_no_gradients(step: Step) -> bool:
    """Whether layers may be updated before the gradients of all of them are known."""
    return step.clip_grad_norm is None and step.precision == torch.float32 and is_plain_sgd(step.optimizer)
