"""Figures as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from cnntrain.text import in_a_line, loss
from cnntrain.training.rows import BALANCED

if TYPE_CHECKING:
    from cnntrain.training.rows import EpochResult


def percent(fraction: float) -> str:
    """A fraction in 0..1 as percent with two decimals."""
    return f"{100 * fraction:.2f} %"


def epoch_line(result: EpochResult, epochs: int, monitor: str) -> str:
    """One line for an epoch; test accuracy stands where the epoch is the best so far by what is monitored."""
    width, balanced = len(str(epochs)), result.validation_balanced_accuracy
    parts = [
        f"epoch {result.epoch:>{width}}/{epochs}",
        f"train {loss(result.train_loss)} {percent(result.train_accuracy):>8}",
        f"validation {loss(result.validation_loss)} {percent(result.validation_accuracy):>8}",
        *([f"balanced {percent(balanced):>8}"] if balanced is not None and monitor == BALANCED else []),
        f"test {percent(result.test_accuracy):>8}" if result.test_accuracy is not None else " " * 13,
        f"lr {result.learning_rate:<8.3g}",
        f"{result.images_per_second:>8,.0f} images/s",
    ]
    return "  ".join(parts)


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of cells in columns, as wide as terminals show them: the first `left` flush left, the others flush right."""
    rows = [[in_a_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        margins = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [c + margin if i < left else margin + c for i, (c, margin) in enumerate(zip(row, margins, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


EIGHTHS = " ▁▂▃▄▅▆▇█"
# Of a plot, in characters.
WIDTH, HEIGHT = 64, 12


def area_plot(values: Sequence[float], first: float, last: float) -> str:
    """Values from `first` to `last` as columns of blocks over a line, the largest at full height."""
    top = max(values) or 1.0
    columns = [values[min(i * len(values) // WIDTH, len(values) - 1)] / top * HEIGHT * 8 for i in range(WIDTH)]
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        label = f"{top * (row + 1) / HEIGHT:>10.3g} |" if row % 3 == 2 else " " * 11 + "|"
        lines.append(label + "".join(EIGHTHS[int(min(8, max(0, column - 8 * row)))] for column in columns))
    end = f"{last:g}"
    return "\n".join([*lines, " " * 11 + "+" + "-" * WIDTH, " " * 12 + f"{first:g}".ljust(WIDTH - len(end)) + end])
