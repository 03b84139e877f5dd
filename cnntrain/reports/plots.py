"""Curves, the confusion matrix and gradients as PNG files, by matplotlib."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnntrain.reports.confusions import READABLE
from cnntrain.text import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnntrain.reports.rows import Rows

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "font.size": 10,
}
TRAIN, VALIDATION, TEST = "#4c72b0", "#dd8452", "#55a868"
# From this share of the most on, a cell is too dark for black letters.
DARK = 0.6
# So many classes have room for their names at a confusion matrix, of so many characters.
NAMED, NAME = 45, 25
# So many lines matplotlib gives a colour of their own; of more, so many of the highest are named.
COLOURS, HIGHEST = 10, 5
# Accuracies that are nowhere further from each other, in 0..1, are one curve.
APART = 0.01
# What systems bring along for the scripts that matplotlib's own font lacks.
FONTS = [
    "Noto Sans CJK JP",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
]


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
        if min(rows.column("sample_loss")) > 0:
            axes.set_yscale("log")
        _mark_best(axes, rows)

    return _figure("Loss (nats)", draw)


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
            axes.set_yscale("log")
        elif positive:
            # What is 0, as behind dead units or a layer that begins with zeros, stands below all else.
            axes.set_yscale("symlog", linthresh=min(positive), linscale=0.3)
            axes.set_ylim(bottom=0)

    return _figure(title, draw)


def _gradual(share: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.9 * share)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> bytes:
    """Counts of truth (rows) and prediction (columns); the right ones are left uncoloured, to show the others."""
    side = max(4.0, min(9.0, 0.5 * len(classes) + 1))
    wrong = [[0 if i == j else count for j, count in enumerate(row)] for i, row in enumerate(matrix)]

    most = max(1, *(count for row in wrong for count in row))

    def draw(axes: Axes) -> None:
        axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=most)
        axes.grid(visible=False)
        names = [_plain(shortened(name, NAME)) for name in classes]
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
                        colour = "white" if wrong[i][j] > DARK * most else "black"
                        shade = 0.45 if i == j else 1
                        axes.text(j, i, str(count), ha="center", va="center", fontsize=8, color=colour, alpha=shade)

    return _figure("Test images by truth and prediction", draw, size=(side, side))


def overlay(runs: Mapping[str, Rows], column: str, title: str) -> bytes:
    """One column of several runs' metrics in one picture; of many, names and colours of those that came highest."""
    highest = sorted(runs, key=lambda name: max(runs[name].column(column)), reverse=True)
    named = set(runs if len(runs) <= COLOURS else highest[:HIGHEST])

    def draw(axes: Axes) -> None:
        lows = []
        for name, rows in runs.items():
            # matplotlib leaves a label out that begins with `_`.
            label = _plain(f"./{name}" if name.startswith("_") else name)
            look: Any = (
                {"label": label, "linewidth": 1.3} if name in named else {"color": "lightgrey", "linewidth": 0.8}
            )
            axes.plot(rows.column("epoch"), [100 * value for value in rows.column(column)], **look)
            lows.append(_low(rows.column(column)))
        axes.set_ylim(min(lows), None)

    return _figure(title, draw)


def _plain(name: str) -> str:
    """A name for matplotlib, which would set what stands between two dollars as a formula."""
    return printable(name).replace("$", r"\$")


def _fonts() -> list[str]:
    """matplotlib's own font, then those of `FONTS` that are installed."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in FONTS if name in installed)]


def _mark_best(axes: Axes, rows: Rows) -> None:
    axes.axvline(rows.best_epoch, color="grey", linestyle=":", linewidth=1, label=f"best: epoch {rows.best_epoch}")


def _figure(title: str, draw: Any, size: tuple[float, float] = (5.2, 3.5)) -> bytes:
    # A letter of no font at all is drawn as a box, and needs no warning on the terminal.
    with rc_context({**STYLE, "font.family": _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for line in axes.get_lines():
            # A single epoch makes no line.
            if np.isfinite(np.asarray(line.get_ydata(), float)).sum() == 1:
                line.set_marker("o")
        axes.set_title(title, fontsize=11)
        if not axes.get_xlabel():
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9)
        file = io.BytesIO()
        figure.savefig(file, dpi=160)
    return file.getvalue()
