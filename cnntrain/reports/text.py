"""Figures as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnntrain.training.state import EpochResult


def percent(fraction: float) -> str:
    """A fraction in 0..1 as percent with two decimals."""
    return f"{100 * fraction:.2f} %"


def epoch_line(result: EpochResult, epochs: int) -> str:
    """One line for an epoch; test accuracy stands where validation was at its best so far."""
    width = len(str(epochs))
    parts = [
        f"epoch {result.epoch:>{width}}/{epochs}",
        f"train {result.train_loss:.4f} {percent(result.train_accuracy):>8}",
        f"validation {result.validation_loss:.4f} {percent(result.validation_accuracy):>8}",
        f"test {percent(result.test_accuracy):>8}" if result.test_accuracy is not None else " " * 13,
        f"lr {result.learning_rate:<8.3g}",
        f"{result.images_per_second:>8,.0f} images/s",
    ]
    return "  ".join(parts)
