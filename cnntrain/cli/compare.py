"""`cnntrain compare`: runs side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnntrain.cli.options import AsJson, Picture, expanded
from cnntrain.cli.output import print_json
from cnntrain.reports.text import percent, table
from cnntrain.text import printable

if TYPE_CHECKING:
    from cnntrain.app.compare import Comparison

NAME = "compare"


def run(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished run directories.", callback=expanded)],
    picture: Annotated[Path, Picture(help="Where to draw their curves.")] = Path("compare.png"),
    as_json: AsJson = False,
) -> None:
    """Print what differs in the configs of runs and what they reached; draw their curves in one picture."""
    from cnntrain.app.compare import compare_runs

    found = compare_runs(runs, picture)
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)
        typer.echo(f"curves: {picture}")


def _print(found: Comparison) -> None:
    """A table with a column for each run, or a line where there are many."""
    names = list(found.figures)
    rows: list[list[str]] = [["", *names]]
    for section in (found.differences, found.figures):
        keys = next(iter(section.values()))
        rows += [[key, *(_cell(key, section[name][key]) for name in names)] for key in keys]
    is_wide = len(names) > len(rows)
    typer.echo(table(list(zip(*rows, strict=True)) if is_wide else rows))


def _cell(key: str, value: Any) -> str:
    if key.endswith("_accuracy"):
        return percent(value)
    if key == "seconds":
        return f"{value:,.1f}"
    if type(value) is int and key.rpartition(".")[2] != "seed":
        return f"{value:,}"
    return "-" if value is None else printable(str(value))
