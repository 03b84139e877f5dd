"""`cnntrain compare`: runs side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntrain import atomic
from cnntrain.cli.options import AsJson, Picture, expanded
from cnntrain.cli.output import print_json
from cnntrain.reports.text import percent, table
from cnntrain.text import loss, printable
from cnntrain.training.rows import LOSS

if TYPE_CHECKING:
    from cnntrain.app.compare import Comparison, OverSeeds

# Of a SHA-256, as many digits as tell two of them apart.
SHOWN = 12


def run(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished run directories.", callback=expanded)],
    picture: Annotated[Path, Picture(help="Where to draw their curves.")] = Path("compare.png"),
    as_json: AsJson = False,
) -> None:
    """Print what differs in the configs of runs and what they reached; draw their curves in one picture."""
    from cnntrain.app.compare import compare_runs, curves

    found = compare_runs(runs)
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)
    if found.unlike:
        which = " and ".join(found.unlike)
        said = f"the runs do not have the same {which} images: their {which} accuracies can't be compared"
        typer.echo(f"warning: {said}", err=True)
    if found.trained_unlike:
        said = "some runs were trained on other images, though their configs ask for the same"
        typer.echo(f"warning: {said}; see `data` in each summary.json", err=True)
    for run in found.unfinished:
        typer.echo(f"warning: {printable(run)} is left out because it is not finished; see its log.txt", err=True)
    # Last, for the figures are there though they can't be drawn.
    atomic.write(picture, curves(found))
    if not as_json:
        typer.echo(f"curves: {picture}")


def _print(found: Comparison) -> None:
    """A table with a column for each run; where there are many, with a line for each, the best first."""
    values = {name: found.differences[name] | found.figures[name] for name in found.figures}
    keys = list(next(iter(values.values())))
    if len(values) <= len(keys) + 1:
        rows = [["", *values], *([key, *(_cell(key, own[key]) for own in values.values())] for key in keys)]
    else:
        rows = [["", *keys], *([name, *(_cell(key, values[name][key]) for key in keys)] for name in found.best_first)]
    typer.echo(table(rows))
    if found.over_seeds:
        _print_means(found.over_seeds)


def _print_means(groups: list[OverSeeds]) -> None:
    names = list(dict.fromkeys(name for one in groups for name in one.mean))
    rows = [
        [
            f"{one.runs[0]} and {len(one.runs) - 1} more",
            *(f"{100 * one.mean[n]:.2f} +- {percent(one.standard_error[n])}" if n in one.mean else "-" for n in names),
        ]
        for one in groups
    ]
    typer.echo("\nmeans of runs that differ only in their seeds, and the standard errors of these")
    typer.echo(f"{table([['', *names], *rows])}\n")


def _cell(key: str, value: Any) -> str:
    if key.endswith("_accuracy") and value is not None:
        return percent(value)
    if key == "seconds":
        return f"{value:,.1f}"
    if key.endswith(".sha256") and value is not None:
        return printable(str(value)[:SHOWN])
    if key == LOSS:
        return loss(value)
    if type(value) is int and key.rpartition(".")[2] != "seed":
        return f"{value:,}"
    return "-" if value is None else printable(str(value))
