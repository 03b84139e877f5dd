"""The rows of a run as they stand on disk, read back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnntrain.errors import UsageError
from cnntrain.run.summary import damaged

Row = dict[str, float | str | None]

# The columns that are drawn.
METRICS = (
    "epoch",
    "learning_rate",
    "sample_loss",
    "sample_accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_balanced_accuracy",
    "test_accuracy",
    "best",
)
DIAGNOSTICS = ("epoch", "layer", "weight_norm", "gradient_norm")
# Runs of earlier versions have none of these.
LATER = {"validation_balanced_accuracy"}
# What is not a number in them.
WORDS = {"best", "layer"}
# The most that what every row has can be, whatever became of the losses.
MOST = {"epoch": 2**31, "sample_accuracy": 1, "validation_accuracy": 1}


@dataclass(frozen=True)
class Rows:
    """`metrics` has one row an epoch, `diagnostics` one an epoch and layer; numbers are numbers, blanks None."""

    metrics: list[Row]
    diagnostics: list[Row]

    @classmethod
    def read(cls, run_dir: Path) -> Rows:
        """The rows of a run directory; raises `UsageError` when no epoch was finished, or they are damaged."""
        metrics = _read(run_dir / "metrics.csv", METRICS)
        if not metrics:
            raise UsageError(f"{run_dir / 'metrics.csv'}: holds no finished epoch, so there is nothing to report")
        if not any(row["best"] == "true" for row in metrics):
            raise damaged(run_dir / "metrics.csv")
        return cls(metrics, _read(run_dir / "diagnostics.csv", DIAGNOSTICS))

    def column(self, name: str) -> list[float]:
        """A column of `metrics`; a blank is not a number, which plots leave out."""
        return [float("nan") if row.get(name) is None else float(row[name] or 0) for row in self.metrics]

    @property
    def best_epoch(self) -> int:
        """The last epoch that was the best so far by what is monitored."""
        return max(int(row["epoch"] or 0) for row in self.metrics if row["best"] == "true")


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {name: _value(name, row[name]) for name in columns if name in row or name not in LATER}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged(path) from error


def _value(name: str, text: str) -> float | str | None:
    if name in WORDS:
        return text
    if not text and name not in MOST:
        return None
    number = float(text)
    if name in MOST and not 0 <= number <= MOST[name]:
        raise ValueError(f"`{name}` is {number}")
    return number
