"""Steps as a CUDA graph: recorded once, then launched as a whole, with other images and learning rates each time.

Shapes: indices are (steps, batch), learning rates (steps, parameter groups).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cnntrain.training.step import Totals, learning_at
from cnntrain.unheard import filtering

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from cnntrain.training.step import Step

# Libraries set themselves up in the first steps, which is not to be recorded.
REHEARSALS = 2
# Values in images that are gathered at once, 64 MiB of float32.
GATHERED = 1 << 24


class Recording:
    """A CUDA graph of some steps on batches of one size.

    Recording changes nothing: what it takes to prepare it is undone. The optimizer must have made a step
    before, so that its state exists. Raises `RuntimeError` where something can't be recorded.
    """

    def __init__(self, step: Step, steps: int, batch_size: int) -> None:
        self._step = step
        device = step.device
        self._indices = torch.zeros((steps, batch_size), dtype=torch.int64, device=device)
        self._rates = torch.zeros((steps, len(step.optimizer.param_groups)), device=device)
        self._totals = Totals.zero(device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        before = torch.cuda.current_stream()
        self._graph = torch.cuda.CUDAGraph()
        try:
            self._rehearse(stream)
            self._places = self._addresses()
            self._record(stream)
        finally:
            # Where it fails, torch stays on the stream, on which something may still be under way.
            torch.cuda.set_stream(before)
            before.wait_stream(stream)

    def is_valid(self) -> bool:
        """Whether weights and optimizer state lie where they did; restoring a state moves them."""
        return self._places == self._addresses()

    def replay(self, indices: Tensor, rates: Sequence[Sequence[float]], totals: Totals) -> None:
        """Train on these images with these learning rates; nothing waits for the device."""
        self._indices.copy_(indices)
        self._rates.copy_(torch.tensor(rates).pin_memory(), non_blocking=True)
        self._graph.replay()
        totals.loss += self._totals.loss
        totals.correct += self._totals.correct

    def _rehearse(self, stream: torch.cuda.Stream) -> None:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), undone(self._step):
            for rehearsal in range(REHEARSALS):
                # The last one has to be as the recording: torch before 2.12 does not get over one that waited.
                with never_waiting() if rehearsal == REHEARSALS - 1 else nullcontext():
                    # Several steps are gathered and counted by other kernels than one.
                    rows = slice(0, 1 + rehearsal)
                    run_block(self._step, self._indices[rows], self._rates[rows], self._totals)

    def _record(self, stream: torch.cuda.Stream) -> None:
        self._step.optimizer.zero_grad()
        # Other threads may be reading images meanwhile.
        recorder = torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local")
        with workspaces_apart(), recorder:
            self._totals.loss.zero_()
            self._totals.correct.zero_()
            run_block(self._step, self._indices, self._rates, self._totals)

    def _addresses(self) -> list[int]:
        network, optimizer = self._step.network, self._step.optimizer
        moments = (value for state in optimizer.state.values() for value in state.values())
        tensors = chain(network.parameters(), network.buffers(), moments)
        return [tensor.data_ptr() for tensor in tensors if isinstance(tensor, Tensor)]


@contextmanager
def never_waiting() -> Iterator[None]:
    """Have whatever waits for the device within raise `RuntimeError`."""
    before = torch.cuda.get_sync_debug_mode()
    # It remarks that it does not detect all of it.
    with filtering(("ignore", UserWarning)):
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def forget_failure() -> None:
    """Go on after a recording that failed: random numbers get a state that it has no hold on, memory is given back.

    torch before 2.12 leaves the generator of a recording that was cut off as if it still went on.
    """
    # None where CUDA could not even be set up.
    if torch.cuda.default_generators:
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())
    # There, too, some versions refuse to look into memory that a recording has left.
    with suppress(RuntimeError):
        torch.cuda.empty_cache()


@contextmanager
def workspaces_apart() -> Iterator[None]:
    """Let what is recorded within have memory of its own for cuBLAS, for a graph keeps its address.

    torch keeps one for each stream, and takes it away from all graphs of the stream when one of them
    ends: https://github.com/pytorch/pytorch/issues/193402.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def run_block(step: Step, indices: Tensor, rates: Tensor, totals: Totals) -> None:
    """A step for each row, with learning rates that are read from the device when the step is carried out.

    Images of many steps are gathered and counted at once: with small batches each operation of a graph takes its
    time whatever it works on. A step with `updates` is one of `subtracting`.
    """
    size = indices.shape[1]
    count = max(1, GATHERED // (size * math.prod(step.images.preprocessing.shape)))
    for some, rates_of_some in zip(torch.split(indices, count), torch.split(rates, count), strict=True):
        images, labels = step.gather(some.flatten())
        learned = _subtracted if step.updates else _updated
        logits = torch.cat([*learned(step, torch.split(images, size), labels, rates_of_some)])
        # One addition for all: on a GPU each takes as long as a larger operation.
        losses = step.loss_sums(logits, labels, len(some))
        totals.add(losses.sum(0, keepdim=True, dtype=totals.loss.dtype), logits, labels)


def _updated(step: Step, batches: Sequence[Tensor], labels: Tensor, rates: Tensor) -> Iterator[Tensor]:
    """The logits of steps whose rates the optimizer reads."""
    size = len(batches[0])
    minus_targets = torch.split(step.minus_targets(labels, size), size)
    for images, minus_target, of_groups in zip(batches, minus_targets, rates, strict=True):
        with learning_at(step, of_groups.unbind()):
            logits = step.learn(images, minus_target, keeps_gradients=False)
        yield logits


def _subtracted(step: Step, batches: Sequence[Tensor], labels: Tensor, rates: Tensor) -> Iterator[Tensor]:
    """The logits of steps whose rates are in the gradients; one number scales both of their parts, which cancel."""
    size = len(batches[0])
    scales = rates / size
    minus_targets = step.minus_targets(labels, batch_size=1).view(len(batches), size, -1) * scales[:, :, None]
    for images, minus_target, scale in zip(batches, minus_targets, scales, strict=True):
        with learning_at(step, [1.0]):
            logits = step.learn(images, minus_target, keeps_gradients=False, scale=scale)
        yield logits


@contextmanager
def undone(step: Step) -> Iterator[None]:
    """Undo what is trained within: weights, statistics, their average, the optimizer's state, random numbers."""
    network, optimizer, device = step.network, step.optimizer, step.device
    average = step.average.sums if step.average else {}
    weights, moments, sums = deepcopy((network.state_dict(), optimizer.state_dict()["state"], average))
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        network.load_state_dict(weights)
        _restore(optimizer, moments)
        if step.average:
            step.average.restore(sums)


def _restore(optimizer: Optimizer, moments: dict[Any, dict[str, Any]]) -> None:
    """Put an optimizer's state back into the tensors that it has, for recordings keep their addresses."""
    saved = optimizer.state_dict()
    now = {key: set(values) for key, values in saved["state"].items()}
    if now != {key: set(values) for key, values in moments.items()}:
        # It had none before.
        optimizer.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
        return
    for key, values in saved["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                value.copy_(moments[key][name])
            else:
                values[name] = moments[key][name]
