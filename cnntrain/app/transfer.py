"""Weights out of a checkpoint into another network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from cnntrain.errors import CheckpointError, UsageError
from cnntrain.network.modules import last_with_weights
from cnntrain.reports.text import table
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint
from cnntrain.training.state import State


def begin_with(init_from: str, state: State, classes: Sequence[str]) -> str:
    """Begin with the weights of a checkpoint, and remember which these were; gives what is to be said of it."""
    source, saved = named(init_from)
    said = transfer(source, saved, state.network, classes)
    state.init_from = {"path": os.path.abspath(checkpoint.file_of(source)), "sha256": saved.fingerprint}
    return said


def named(init_from: str) -> tuple[Path, Checkpoint]:
    """The checkpoint that a config names; raises `CheckpointError` where there is none."""
    # `Path` has a method for this, which raises where there is no such user.
    source = Path(os.path.expanduser(init_from))
    try:
        return source, checkpoint.load(source)
    except CheckpointError as error:
        said = f"`init_from: {source}`: {error}"
        if not source.is_absolute() and not source.exists():
            said += "; a relative path starts at the current directory"
        raise CheckpointError(said) from error


def transfer(source: Path, saved: Checkpoint, network: nn.Module, classes: Sequence[str]) -> str:
    """Copy into `network` every tensor of a checkpoint that matches by name and shape; gives a table of them all.

    What the last layer has for each class is taken by the classes' names, and only where all of them are the same.
    Raises `UsageError` when nothing matches.
    """
    weights, own, by_class = saved.weights, network.state_dict(), _of_classes(network, len(classes))
    rows = [("tensor", "shape", f"taken from {source}?")]
    matching = {}

    def taken(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor | None, str]:
        if name not in weights:
            return None, "no: it has none of that name"
        if weights[name].shape != tensor.shape:
            return None, f"no: its shape there is {tuple(weights[name].shape)}"
        if name not in by_class or saved.classes == list(classes):
            return weights[name], "yes"
        if sorted(saved.classes) != sorted(classes):
            return None, "no: it is for other classes there"
        return weights[name][[saved.classes.index(one) for one in classes]], "yes, by the names of classes"

    for name, tensor in own.items():
        found, said = taken(name, tensor)
        rows.append((name, str(tuple(tensor.shape)), said))
        if found is not None:
            matching[name] = found
    text = table(rows, left=3)
    if not matching:
        raise UsageError(f"`init_from: {source}`: no tensor matches by name and shape\n{text}")
    network.load_state_dict(matching, strict=False)
    return f"{text}\n{len(matching)} of {len(own)} tensors taken"


def _of_classes(network: nn.Module, count: int) -> set[str]:
    """The parameters of the last layer that has any, where it has one row for each of so many classes."""
    name = last_with_weights(network)
    last = [] if name is None else list(network.get_submodule(name).named_parameters(recurse=False))
    return {f"{name}.{own}".lstrip(".") for own, _ in last} if all(len(one) == count for _, one in last) else set()
