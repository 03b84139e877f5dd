"""The rows of a run as they stand on disk, read back."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from cnntrain.errors import UsageError

Row = dict[str, float | str | None]


@dataclass(frozen=True)
class Rows:
    """`metrics` has one row an epoch, `diagnostics` one an epoch and layer; numbers are numbers, blanks None."""

    metrics: list[Row]
    diagnostics: list[Row]

    @classmethod
    def read(cls, run_dir: Path) -> Rows:
        """The rows of a run directory; raises `UsageError` when no epoch was finished."""
        metrics = _read(run_dir / "metrics.csv")
        if not metrics:
            raise UsageError(f"{run_dir}: no epoch was finished, so there is nothing to report")
        return cls(metrics, _read(run_dir / "diagnostics.csv"))

    def column(self, name: str) -> list[float]:
        """A column of `metrics`; a blank is not a number, which plots leave out."""
        return [float("nan") if row[name] is None else float(row[name] or 0) for row in self.metrics]

    @property
    def best_epoch(self) -> int:
        """The last epoch whose validation accuracy was the best so far."""
        return max(int(row["epoch"] or 0) for row in self.metrics if row["best"] == "true")


def _read(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def _value(text: str) -> float | str | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
