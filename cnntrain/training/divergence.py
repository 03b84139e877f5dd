"""Where the first value arose that is not finite: found by training again from a good state, and watching."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cnntrain.network.modules import layer_of
from cnntrain.training.hooks import watched
from cnntrain.training.probe import layers_of

if TYPE_CHECKING:
    from cnntrain.training.state import State


def weights_are_finite(state: State) -> bool:
    """Whether all weights and all running statistics are finite."""
    tensors = chain(state.network.parameters(), state.network.buffers())
    finite = [tensor.isfinite().all() for tensor in tensors]
    return not finite or bool(torch.stack(finite).all().item())


def first_not_finite(state: State, train_a_batch: Callable[[], bool]) -> str | None:
    """What was not finite first: a layer's output, the loss, a layer's gradient or weights; in which batch.

    `train_a_batch` trains on the next batch, and is false when there is none.
    """
    found: list[str] = []
    with _watching(state.network) as (outputs, gradients):
        while not found and train_a_batch():
            found += _not_finite_after_a_batch(state, outputs, gradients)
    return f"{found[0]} in epoch {state.epoch + 1}, batch {state.batch}" if found else None


def _not_finite_after_a_batch(state: State, outputs: list[str], gradients: list[str]) -> Iterator[str]:
    """In the order of computation, on any rank: outputs, the loss, gradients, then what the update made of it."""

    def on_any_rank(notes: list[str]) -> Iterator[str]:
        return chain.from_iterable(state.ranks.gather(notes))

    yield from on_any_rank(outputs)
    if not math.isfinite(state.summed("loss")):
        yield "the loss"
    yield from on_any_rank(gradients)
    yield from on_any_rank(list(_spoilt(state.network)))


def _spoilt(network: nn.Module) -> Iterator[str]:
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if not tensor.isfinite().all():
            yield f"a weight or statistic of layer `{layer_of(name)}`"


@contextmanager
def _watching(network: nn.Module) -> Iterator[tuple[list[str], list[str]]]:
    """Note the input of the network and the output of each layer that is not finite; apart from them, gradients."""
    outputs: list[str] = []
    gradients: list[str] = []

    def look(what: str, values: Tensor | None, notes: list[str]) -> None:
        if values is not None and not values.isfinite().all():
            notes.append(what)

    def look_at(name: str, output: Tensor) -> None:
        look(f"the output of layer `{name}`", output, outputs)

    def watch_gradient(name: str, parameter: nn.Parameter) -> RemovableHandle:
        what = f"the gradient of layer `{layer_of(name)}`"
        # As it arises: clipping makes all of them NaN where one is.
        handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            lambda given: look(what, given.grad, gradients)
        )
        return handle

    handles = [network.register_forward_pre_hook(lambda _, given: look("an image", given[0], outputs))]
    handles += [watch_gradient(*named) for named in network.named_parameters() if named[1].requires_grad]
    try:
        with watched(layers_of(network), look_at):
            yield outputs, gradients
    finally:
        for handle in handles:
            handle.remove()
