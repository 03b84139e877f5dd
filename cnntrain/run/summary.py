"""What a finished run wrote of itself, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, PositiveInt

from cnntrain.errors import UsageError

Share = Annotated[float, Field(ge=0, le=1)]


class _Best(BaseModel):
    epoch: PositiveInt
    validation_loss: float
    validation_accuracy: Share
    validation_balanced_accuracy: Share | None = None
    test_accuracy: Share


class _Verdict(BaseModel):
    text: str


class _Images(BaseModel):
    train: PositiveInt
    validation: PositiveInt
    test: PositiveInt


class _Summary(BaseModel):
    """What others read of it; there may be more."""

    run_dir: str
    stopped: str
    changes: list[str]
    epochs: PositiveInt
    best: _Best
    last: dict[str, Any]
    verdict: _Verdict
    seconds: float
    seed: int
    device: str
    parameters: int
    images: _Images
    data: dict[str, str]
    init_from: dict[str, Any] | None = None


def read_summary(path: str | Path) -> dict[str, Any] | None:
    """The content of a run directory's `summary.json`, or None when the run isn't finished.

    Raises `UsageError` where it is damaged.
    """
    file = Path(path) / "summary.json"
    try:
        return parsed(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise damaged(file) from error


def parsed(text: str) -> dict[str, Any]:
    """The content of a `summary.json`; raises `ValueError` or `RecursionError` where it is none."""
    summary: dict[str, Any] = json.loads(text)
    _Summary.model_validate(summary, strict=True)
    return summary


def damaged(file: Path) -> UsageError:
    """A run's file that is not what the run wrote."""
    return UsageError(f"{file}: damaged; `cnntrain doctor {file.parent}` says how to fix it")
