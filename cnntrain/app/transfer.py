"""Weights out of a checkpoint: into another network, or into files that other programs read."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import nn

from cnntrain import atomic
from cnntrain.errors import CheckpointError, UsageError
from cnntrain.reports.text import table
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint

Format = Literal["safetensors", "npz"]


def transfer(source: Path, network: nn.Module, classes: Sequence[str]) -> str:
    """Copy into `network` every tensor of a checkpoint that matches by name and shape; gives a table of them all.

    What the last layer has for each class is taken by the classes' names, and only where all of them are the same.
    Raises `CheckpointError` where there is none, and `UsageError` when nothing matches.
    """
    try:
        saved = checkpoint.load(source)
    except CheckpointError as error:
        said = f"`init_from: {source}`: {error}"
        if not source.is_absolute() and not source.exists():
            said += "; a relative path begins at the folder that the command is run in"
        raise CheckpointError(said) from error
    weights, own, by_class = saved.weights, network.state_dict(), _of_classes(network, len(classes))
    rows = [("tensor", "shape", f"taken from {source}?")]
    matching = {}

    def take(name: str, tensor: torch.Tensor) -> str:
        """Whether it is taken, in words."""
        if name not in weights:
            return "no: it has none of that name"
        if weights[name].shape != tensor.shape:
            return f"no: its shape there is {tuple(weights[name].shape)}"
        if name not in by_class or saved.classes == list(classes):
            matching[name] = weights[name]
            return "yes"
        if sorted(saved.classes) != sorted(classes):
            return "no: it is for other classes there"
        matching[name] = weights[name][[saved.classes.index(one) for one in classes]]
        return "yes, by the names of classes"

    rows += [(name, str(tuple(tensor.shape)), take(name, tensor)) for name, tensor in own.items()]
    text = table(rows, left=3)
    if not matching:
        raise UsageError(f"`init_from: {source}`: no tensor matches by name and shape\n{text}")
    network.load_state_dict(matching, strict=False)
    return f"{text}\n{len(matching)} of {len(own)} tensors taken"


def _of_classes(network: nn.Module, count: int) -> set[str]:
    """The parameters of the last layer that has any, where it has one row for each of so many classes."""
    holders = [(name, list(module.named_parameters(recurse=False))) for name, module in network.named_modules()]
    name, last = [(name, parameters) for name, parameters in holders if parameters][-1]
    return {f"{name}.{own}".lstrip(".") for own, _ in last} if all(len(one) == count for _, one in last) else set()


def export(source: Path, kind: Format, output: Path | None = None) -> Path:
    """Write a checkpoint's weights as a `.safetensors` or `.npz` file; gives its path.

    The config, the classes and the preprocessing go with them as JSON: a text each in the metadata of
    safetensors, one text in the array `metadata` of npz.
    """
    if output and output.suffix != f".{kind}":
        raise UsageError(f"{output}: a file of this format is called something.{kind}")
    saved = checkpoint.load(source)
    path = output or (source / f"best.{kind}" if source.is_dir() else source.with_suffix(f".{kind}"))
    atomic.write(path, _safetensors(saved) if kind == "safetensors" else _npz(saved))
    return path


def _metadata(saved: Checkpoint) -> dict[str, Any]:
    return {"config": saved.config, "classes": saved.classes, "preprocessing": saved.preprocessing}


def _safetensors(saved: Checkpoint) -> bytes:
    # Two names may share one tensor, which such a file can't say.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in saved.weights.items()}
    # Readers of such files take "pt" for torch's order of dimensions; values can only be text there.
    metadata = {name: json.dumps(value) for name, value in _metadata(saved).items()}
    return safetensors.torch.save(weights, {"format": "pt", **metadata})


def _npz(saved: Checkpoint) -> bytes:
    file = io.BytesIO()
    arrays = {
        name: tensor.to(torch.float32).numpy() if tensor.is_floating_point() else tensor.numpy()
        for name, tensor in saved.weights.items()
    }
    np.savez(file, metadata=np.array(json.dumps(_metadata(saved))), **arrays)  # type: ignore[arg-type]
    return file.getvalue()
