"""One file that holds a network and all that is needed to use it: weights, config, classes, preprocessing.

It is torch's zip format, loadable with `torch.load(path, weights_only=True)`, with a SHA-256 of
its bytes in the zip's comment.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from cnntrain import atomic
from cnntrain.errors import CheckpointError, is_out_of_memory
from cnntrain.run.content import Checkpoint, is_sound
from cnntrain.unheard import REMARKS, filtering

FORMAT = "cnntrain checkpoint 1"
_COMMENT = b"sha256:"
_COMMENT_LENGTH = len(_COMMENT) + 64


def save(path: Path, checkpoint: Checkpoint, is_doubtful: bool = False) -> None:
    """Write a checkpoint, whole or not at all.

    Where it `is_doubtful` what a plugin has put into it, raises `CheckpointError` for what could not be read again.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **vars(checkpoint)}, buffer)
    data = buffer.getvalue()
    if is_doubtful:
        try:
            _understood(data, path)
        except CheckpointError as error:
            allowed = "tensors, Python's own numbers, text, lists and dicts"
            raise CheckpointError(f"{error}; what a plugin's parts keep must be {allowed}") from error
    atomic.write(path, _sealed(data))


def file_of(path: str | Path) -> Path:
    """A checkpoint file, or the best one of a run directory."""
    path = Path(path)
    return path / "checkpoints" / "best.pt" if path.is_dir() else path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the best one of a run directory, to the CPU.

    Raises `CheckpointError` where it is missing, damaged, or not a checkpoint of this program;
    nothing in it is ever executed.
    """
    file = file_of(path)
    runs = () if file.parent.is_dir() else sorted(path.glob("*/checkpoints"))
    if runs:
        raise CheckpointError(
            f"{path}: not a run, but a folder that contains {', '.join(str(run.parent) for run in runs[:3])}"
        )
    last = file.with_name("last.pt")
    if path.is_dir() and not file.exists() and last.is_file():
        raise CheckpointError(f"{file}: no checkpoint here (no such file), but there is {last}")
    return _understood(_unsealed(file), file)


def _understood(data: bytes, file: Path) -> Checkpoint:
    content = _unpacked(data, file)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise CheckpointError(f"{file}: not a checkpoint of this program")
    try:
        saved = Checkpoint(**content)
    except TypeError as error:
        raise CheckpointError(f"{file}: not a whole checkpoint of this program") from error
    if not is_sound(saved):
        raise CheckpointError(f"{file}: not a whole checkpoint of this program")
    return saved


def _unpacked(data: bytes, file: Path) -> Any:
    try:
        # torch warns of pickles that it would rather not read; those are refused below in any case.
        with filtering(*REMARKS):
            # torch reads its older formats too, in which a few bytes can claim any size.
            if not data.startswith(b"PK\x03\x04"):
                raise ValueError("it is not a zip file")
            # Packed members could unpack to anything; torch's own are stored as they are.
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                members = packed.infolist()
            if any(one.compress_type for one in members) or sum(one.file_size for one in members) > len(data):
                raise ValueError("it would unpack to more than itself")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: refused: it holds more than tensors and plain values, and could run code when loaded"
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # What was made to fail can fail in any way that Python knows.
        raise CheckpointError(f"{file}: damaged, or not a checkpoint of this program") from error


def _sealed(data: bytes) -> bytes:
    """The zip file with a comment that holds the SHA-256 of everything before the comment."""
    body = data[:-2] + struct.pack("<H", _COMMENT_LENGTH)
    return body + _COMMENT + hashlib.sha256(body).hexdigest().encode()


def _unsealed(file: Path) -> bytes:
    """The bytes of a file that ends with our seal, and is what the seal says; no other is read."""
    try:
        if not file.is_file():
            raise CheckpointError(f"{file}: no checkpoint here ({'not a file' if file.exists() else 'no such file'})")
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _COMMENT_LENGTH))
            if not opened.read(_COMMENT_LENGTH).startswith(_COMMENT):
                run = f"; name the run, {file.parent}" if (file.parent / "checkpoints").is_dir() else ""
                raise CheckpointError(
                    f"{file}: damaged, or not a checkpoint of this program: it does not end with a checksum{run}"
                )
            opened.seek(0)
            data = opened.read()
    except OSError as error:
        raise CheckpointError(f"{file}: no checkpoint here ({error.strerror})") from error
    if data[-64:].decode("ascii", "replace") != hashlib.sha256(memoryview(data)[:-_COMMENT_LENGTH]).hexdigest():
        raise CheckpointError(f"{file}: damaged: its content does not match its checksum")
    return data
