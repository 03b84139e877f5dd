"""Weights out of a checkpoint: into another network, or into files that other programs read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from torch import nn

from cnntrain import atomic
from cnntrain.errors import UsageError
from cnntrain.reports.text import table
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint

Format = Literal["safetensors", "npz"]


def transfer(source: Path, network: nn.Module) -> str:
    """Copy into `network` every tensor of a checkpoint that matches by name and shape; gives a table of them all.

    Raises `UsageError` when nothing matches.
    """
    weights, own = checkpoint.load(source).weights, network.state_dict()
    rows = [("tensor", "shape", f"taken from {source}?")]
    matching = {}
    for name, tensor in own.items():
        if name not in weights:
            said = "no: it has none of that name"
        elif weights[name].shape != tensor.shape:
            said = f"no: its shape there is {tuple(weights[name].shape)}"
        else:
            matching[name], said = weights[name], "yes"
        rows.append((name, str(tuple(tensor.shape)), said))
    text = table(rows, left=3)
    if not matching:
        raise UsageError(f"`init_from: {source}`: no tensor matches by name and shape\n{text}")
    network.load_state_dict(matching, strict=False)
    return f"{text}\n{len(matching)} of {len(own)} tensors taken"


def export(source: Path, kind: Format, output: Path | None = None) -> Path:
    """Write a checkpoint's weights as a `.safetensors` or `.npz` file; gives its path.

    The config, the classes and the preprocessing go with them as JSON: in the metadata of
    safetensors, in the array `metadata` of npz.
    """
    if output and output.suffix != f".{kind}":
        raise UsageError(f"{output}: a file of this format is called something.{kind}")
    saved = checkpoint.load(source)
    path = output or (source / f"best.{kind}" if source.is_dir() else source.with_suffix(f".{kind}"))
    atomic.write(path, _safetensors(saved) if kind == "safetensors" else _npz(saved))
    return path


def _metadata(saved: Checkpoint) -> dict[str, str]:
    content = {"config": saved.config, "classes": saved.classes, "preprocessing": saved.preprocessing}
    return {name: json.dumps(value) for name, value in content.items()}


def _safetensors(saved: Checkpoint) -> bytes:
    # Two names may share one tensor, which such a file can't say.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in saved.weights.items()}
    # Readers of such files take "pt" for torch's order of dimensions.
    return safetensors.torch.save(weights, {"format": "pt", **_metadata(saved)})


def _npz(saved: Checkpoint) -> bytes:
    file = io.BytesIO()
    arrays = {
        name: tensor.to(torch.float32).numpy() if tensor.is_floating_point() else tensor.numpy()
        for name, tensor in saved.weights.items()
    }
    np.savez(file, metadata=np.array(json.dumps(_metadata(saved))), **arrays)  # type: ignore[arg-type]
    return file.getvalue()
