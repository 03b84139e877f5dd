"""Curves, the confusion matrix and gradients as PNG files, by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cnntrain.reports.confusions import READABLE
from cnntrain.reports.fonts import families
from cnntrain.text import printable, shortened
from cnntrain.training.calibration import wilson
from cnntrain.unheard import filtering

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnntrain.reports.rows import Rows

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    # What lies below it stays in sight, and its words can be read.
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "font.size": 10,
}
TRAIN, VALIDATION, TEST = "#4c72b0", "#c8642b", "#2e8b57"
# From this part of the full colour on, a cell is too dark for black letters.
DARK = 0.6
# So many classes have room for their names at a confusion matrix, of so many characters.
NAMED, NAME = 45, 25
# So many lines have a look of their own; of more, so many of the highest are named.
COLOURS, HIGHEST = 10, 5
# Seven colours that everybody can tell apart (Okabe and Ito, "Color Universal Design", 2008), then dashed.
LOOKS: Any = cycler(linestyle=["-", "--"]) * cycler(
    color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9"]
)
# A logarithmic scale names steps within its powers of ten where values are no further apart than that.
CLOSE = 1e3
# A share of a class's images that is worth the full colour, if none is larger.
STRIKING = 0.2
# Left of this probability, in percent, a count has no room at the left of its point.
MARGIN = 15
# What a letter of a class name takes beside a confusion matrix, in inches.
LETTER = 0.08
# Accuracies that are nowhere further from each other, in 0..1, are one curve.
APART = 0.01


def curves(rows: Rows) -> dict[str, bytes]:
    """The plots that a run's metrics give, by name."""
    return {
        "accuracy": _accuracy(rows),
        "loss": _loss(rows),
        "gap": _gap(rows),
        "learning_rate": _learning_rate(rows),
    }


def _accuracy(rows: Rows) -> bytes:
    def draw(axes: Axes) -> None:
        epochs = rows.column("epoch")
        for name, colour in (("sample", TRAIN), ("validation", VALIDATION)):
            values = [100 * value for value in rows.column(f"{name}_accuracy")]
            axes.plot(epochs, values, color=colour, label="training" if name == "sample" else name)
        plain, balanced = rows.column("validation_accuracy"), rows.column("validation_balanced_accuracy")
        low = _low([*plain, *rows.column("sample_accuracy")])
        if any(abs(one - other) > APART for one, other in zip(plain, balanced, strict=True)):
            values = [100 * value for value in balanced]
            axes.plot(epochs, values, color=VALIDATION, linestyle="--", label="validation, balanced")
            low = min(low, _low([value for value in balanced if not math.isnan(value)]))
        test = [100 * value for value in rows.column("test_accuracy")]
        axes.plot(epochs, test, "o", color=TEST, markersize=4, label="test, where an epoch is the best so far")
        axes.set_ylim(low, 100.2)
        _mark_best(axes, rows)

    return _figure("Accuracy (%)", draw)


def _low(accuracies: Sequence[float]) -> float:
    """A lower end that shows the later epochs, where differences are small."""
    ascending = sorted(accuracies)
    return max(0.0, 100 * ascending[len(ascending) // 5] - 2)


def _loss(rows: Rows) -> bytes:
    def draw(axes: Axes) -> None:
        epochs = rows.column("epoch")
        axes.plot(epochs, rows.column("sample_loss"), color=TRAIN, label="training")
        axes.plot(epochs, rows.column("validation_loss"), color=VALIDATION, label="validation")
        losses = [*rows.column("sample_loss"), *rows.column("validation_loss")]
        if min(losses) > 0:
            _scale_by_powers(axes, losses)
        _mark_best(axes, rows)

    return _figure("Loss (nats)", draw)


def _scale_by_powers(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic scale with plain numbers: 1, 2 and 5 of each power of ten, or the powers where these are many."""
    axes.set_yscale("log")
    steps = (1.0, 2.0, 5.0) if max(values) < CLOSE * min(values) else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _gap(rows: Rows) -> bytes:
    def draw(axes: Axes) -> None:
        pairs = zip(rows.column("sample_accuracy"), rows.column("validation_accuracy"), strict=True)
        axes.plot(rows.column("epoch"), [100 * (one - other) for one, other in pairs], color="#8172b3")
        axes.axhline(0, color="grey", linewidth=0.8)

    return _figure("Training minus validation accuracy (points)", draw)


def _learning_rate(rows: Rows) -> bytes:
    def draw(axes: Axes) -> None:
        epochs, rates = rows.column("epoch"), rows.column("learning_rate")
        # Each epoch's rate from the end of the one before.
        axes.step([epochs[0] - 1, *epochs], [rates[0], *rates], where="pre", color="#937860")
        axes.set_ylim(bottom=0)

    return _figure("Learning rate at the end of the epoch", draw)


def gradients(rows: Rows) -> dict[str, bytes]:
    """Gradient and weight norms of each layer over the epochs; nothing where they were not recorded."""
    if not rows.diagnostics:
        return {}
    return {
        "gradients": _norms(rows, "gradient_norm", "Gradient norm by layer, last batch (0: the first)"),
        "weights": _norms(rows, "weight_norm", "Norm of each layer's weights"),
    }


def _norms(rows: Rows, column: str, title: str) -> bytes:
    def draw(axes: Axes) -> None:
        layers = list(dict.fromkeys(str(row["layer"]) for row in rows.diagnostics))
        for index, layer in enumerate(layers):
            own = [row for row in rows.diagnostics if row["layer"] == layer]
            values = [math.nan if row[column] is None else float(row[column] or 0) for row in own]
            # From the input (dark) to the output (bright).
            colour = _gradual(index / max(1, len(layers) - 1))
            label = layer if len(layers) <= 8 or index in (0, len(layers) - 1) else None
            axes.plot([float(row["epoch"] or 0) for row in own], values, color=colour, label=label, linewidth=1.2)
        norms = [float(row[column] or 0) for row in rows.diagnostics if row[column] is not None]
        positive = [norm for norm in norms if 0 < norm < math.inf]
        if positive and 0 not in norms:
            _scale_by_powers(axes, positive)
        elif positive:
            # What is 0, as behind dead units or a layer that begins with zeros, stands below all else.
            axes.set_yscale("symlog", linthresh=min(positive), linscale=0.3)
            axes.set_ylim(bottom=0)

    return _figure(title, draw)


def _gradual(share: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.75 * share)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """Counts of truth (rows) and prediction (columns); mistakes are coloured by their share of the row."""
    names = [_plain(shortened(name, NAME)) for name in classes]
    beside = LETTER * max(map(len, names)) if len(classes) <= NAMED else 0
    side = max(4.0, min(9.0, 0.5 * len(classes) + 1)) + beside
    wrong = np.array(matrix) / np.maximum(np.sum(matrix, 1, keepdims=True), 1)
    np.fill_diagonal(wrong, 0)
    most = max(STRIKING, float(wrong.max()))

    def draw(axes: Axes) -> None:
        # Rare mistakes are to be seen too.
        axes.imshow(wrong, cmap="Oranges", norm=PowerNorm(0.5, vmin=0, vmax=most))
        axes.grid(visible=False)
        if len(classes) > NAMED:
            axes.set_xticks([])
            axes.set_yticks([])
        else:
            axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, classes)) > 2 else 0)
            axes.set_yticks(range(len(classes)), names)
        axes.set_xlabel("prediction")
        axes.set_ylabel("truth")
        if len(classes) <= READABLE:
            for i, row in enumerate(matrix):
                for j, count in enumerate(row):
                    if count:
                        colour = "white" if wrong[i][j] > DARK**2 * most else "black"
                        shade = 0.45 if i == j else 1
                        axes.text(j, i, str(count), ha="center", va="center", fontsize=8, color=colour, alpha=shade)

    return _figure("Test images by truth and prediction", draw, size=(side, side))


def calibration(among: Sequence[Mapping[str, Any]]) -> bytes:
    """Accuracy by probability: of images of equal probability as many should be right."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color="grey", linestyle=":", linewidth=1)
        for one in among:
            at, bounds = (100 * one["probability"], 100 * one["accuracy"]), wilson(one["accuracy"], one["images"])
            axes.vlines(at[0], 100 * bounds[0], 100 * bounds[1], color=TEST, linewidth=1)
            axes.plot(*at, "o", color=TEST, markersize=4)
            side = ("right", -5) if at[0] > MARGIN else ("left", 5)
            axes.annotate(f"{one['images']:,}", at, (side[1], 4), textcoords="offset points", ha=side[0], fontsize=8)
        axes.set_xlim(-2, 102)
        axes.set_ylim(-2, 105)
        axes.set_xlabel("probability of the prediction (%)")

    return _figure("Test images rightly classified (%)", draw)


def overlay(runs: Mapping[str, Rows], column: str, title: str) -> bytes:
    """One column of several runs' metrics in one picture; of many, names and colours of those that came highest."""
    highest = sorted(runs, key=lambda name: max(runs[name].column(column)), reverse=True)
    named = set(runs if len(runs) <= COLOURS else highest[:HIGHEST])

    def draw(axes: Axes) -> None:
        axes.set_prop_cycle(LOOKS)
        lows = []
        for name, rows in runs.items():
            # matplotlib leaves a label out that begins with `_`.
            label = _plain(f"./{name}" if name.startswith("_") else name)
            look: Any = {"label": label, "linewidth": 1.3} if name in named else {"color": "#999999", "linewidth": 0.8}
            axes.plot(rows.column("epoch"), [100 * value for value in rows.column(column)], **look)
            lows.append(_low(rows.column(column)))
        axes.set_ylim(min(lows), None)

    return _figure(title, draw)


def _plain(name: str) -> str:
    """A name for matplotlib, which would set what stands between two dollars as a formula."""
    return printable(name).replace("$", r"\$")


def _mark_best(axes: Axes, rows: Rows) -> None:
    axes.axvline(rows.best_epoch, color="grey", linestyle=":", linewidth=1, label=f"best: epoch {rows.best_epoch}")


def _figure(title: str, draw: Any, size: tuple[float, float] = (5.2, 3.5)) -> bytes:
    # A letter of no font at all is drawn as a box, and needs no warning on the terminal.
    with rc_context({**STYLE, "font.family": families()}), filtering(("ignore", UserWarning)):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for line in axes.get_lines():
            # A single epoch makes no line.
            if np.isfinite(np.asarray(line.get_ydata(), float)).sum() == 1:
                line.set_marker("o")
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11)
        if not axes.get_xlabel():
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9)
        file = io.BytesIO()
        figure.savefig(file, dpi=160)
    return file.getvalue()
