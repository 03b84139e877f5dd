"""One file that holds a network and all that is needed to use it: weights, config, classes, preprocessing.

It is torch's zip format, loadable with `torch.load(path, weights_only=True)`, with a SHA-256 of
its bytes in the zip's comment.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnntrain.errors import CheckpointError, is_out_of_memory
from cnntrain.run import atomic

FORMAT = "cnntrain checkpoint 1"
_COMMENT = b"sha256:"
_COMMENT_LENGTH = len(_COMMENT) + 64


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; `training` is all state to resume from, and is absent from `best.pt`."""

    config: dict[str, Any]
    classes: list[str]
    preprocessing: dict[str, Any]
    weights: dict[str, Tensor]
    result: dict[str, Any] | None
    data: dict[str, str]
    plugins: dict[str, str]
    training: dict[str, Any] | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    torch.save({"format": FORMAT, **content}, buffer)
    atomic.write(path, _sealed(buffer.getvalue()))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the best one of a run directory, to the CPU.

    Raises `CheckpointError` where it is missing, damaged, or not a checkpoint of this program;
    nothing in it is ever executed.
    """
    file = path / "checkpoints" / "best.pt" if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: no checkpoint here ({error.strerror})") from error
    content = _unpacked(_unsealed(data, file), file)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(f"{file}: not a checkpoint of this program")
    try:
        return Checkpoint(**content)
    except TypeError as error:
        raise CheckpointError(f"{file}: not a whole checkpoint of this program") from error


def _unpacked(data: bytes, file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that it would rather not read; those are refused below in any case.
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: refused: it holds more than tensors and plain values, which could run code when loaded"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{file}: damaged, or not a checkpoint of this program") from error


def _sealed(data: bytes) -> bytes:
    """The zip file with a comment that holds the SHA-256 of everything before the comment."""
    body = data[:-2] + struct.pack("<H", _COMMENT_LENGTH)
    return body + _COMMENT + hashlib.sha256(body).hexdigest().encode()


def _unsealed(data: bytes, file: Path) -> bytes:
    body, comment = data[:-_COMMENT_LENGTH], data[-_COMMENT_LENGTH:]
    if not comment.startswith(_COMMENT):
        # Without our seal it is another program's, or cut off; either way torch's own reading tells which.
        _unpacked(data, file)
        raise CheckpointError(f"{file}: not a checkpoint of this program")
    if comment[len(_COMMENT) :].decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
        raise CheckpointError(f"{file}: damaged: its content does not match its checksum")
    return data
