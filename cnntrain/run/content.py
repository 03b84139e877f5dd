"""What a checkpoint holds, and whether it is of the kind that it should be: a seal tells of damage, not of malice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, create_model
from torch import Tensor

from cnntrain.config.document import plain
from cnntrain.errors import ConfigError
from cnntrain.text import is_printable
from cnntrain.training.rows import EpochResult, LayerHealth

# What weights and statistics are made of.
_KINDS = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


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

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what another network can begin with: the weights, and which classes they are for."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name, tensor in sorted(self.weights.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            # Filters may lie channel by channel.
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _row(kind: type) -> Any:
    """A row of that kind as plain data."""
    types = get_type_hints(kind)
    named: dict[str, Any] = {
        field.name: (types[field.name], ... if field.default is MISSING else field.default) for field in fields(kind)
    }
    return create_model(kind.__name__, __base__=_Plain, **named)


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _Stopping(_Plain):
    best: float
    epochs: NonNegativeInt


class _Origin(_Plain):
    path: str
    sha256: str
    taken: NonNegativeInt = 0
    of: NonNegativeInt = 0
    validation_accuracy: float = 0.0
    remarks: list[str] = []


class _State(_Plain):
    """What of a state is plain data; restoring it finds the rest out."""

    epoch: NonNegativeInt
    batch: NonNegativeInt
    step: NonNegativeInt
    rollbacks: NonNegativeInt
    seconds: float
    learning_rate: float
    stopped: str
    stopping: _Stopping
    history: list[_row(EpochResult)]  # type: ignore[valid-type]
    health: list[_row(LayerHealth)]  # type: ignore[valid-type]
    best_weights: dict[str, Tensor]
    average: dict[str, Tensor] = {}
    changes: tuple[str, ...] = ()
    init_from: _Origin | None = None


def is_sound(saved: Checkpoint) -> bool:
    """Whether everything is of the kind that it should be."""
    mappings = (saved.config, saved.preprocessing, saved.weights, saved.data, saved.plugins)
    return (
        all(isinstance(each, dict) and all(isinstance(name, str) for name in each) for each in mappings)
        and isinstance(saved.classes, list)
        and all(isinstance(name, str) and _is_line(name) for name in saved.classes)
        and all(_is_plain(tensor) for tensor in saved.weights.values())
        and (saved.result is None or (isinstance(saved.result, dict) and isinstance(saved.result.get("epoch"), int)))
        and (saved.training is None or _is_state(saved.training))
        and all(isinstance(each, list) and _are_scalars(each) for each in saved.preprocessing.values())
        and _is_config(saved.config)
    )


def _is_state(values: dict[str, Any]) -> bool:
    try:
        state = _State.model_validate(values)
    except ValidationError:
        return False
    # pydantic takes a tensor for a number.
    rows = [*values["history"], *values["health"], values["stopping"]]
    tensors = (*state.best_weights.values(), *state.average.values())
    origin = values.get("init_from") or {}
    remarks = origin.get("remarks", [])
    rows.append({**origin, "remarks": ""})
    if not all(map(_is_line, remarks)):
        return False
    are_plain = all(_are_scalars(row.values()) for row in rows) and all(map(_is_plain, tensors))
    return are_plain and bool(state.history) == bool(state.epoch)


def _is_line(text: str) -> bool:
    return is_printable(text) and "\n" not in text


def _are_scalars(values: Iterable[object]) -> bool:
    return all(value is None or isinstance(value, int | float | str) for value in values)


def _is_config(values: dict[str, Any]) -> bool:
    """Whether it is one as far as its kinds go; its parts may be shared, and so be far more than what is stored."""
    try:
        plain(values)
    except ConfigError:
        return False
    return True


def _is_plain(tensor: object) -> bool:
    """Whether it has values of its own, each of which is there: one could be shown as a million."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.dtype in _KINDS
        and not (tensor.is_meta or tensor.requires_grad)
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )
