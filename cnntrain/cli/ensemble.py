"""`cnntrain ensemble`: the vote of several networks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cnntrain import atomic
from cnntrain.cli.options import AsJson, DataDir, Device, Picture, Plugins, Quiet, expanded
from cnntrain.cli.output import print_json

if TYPE_CHECKING:
    from cnntrain.app.ensemble import Ensemble


def run(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories or checkpoint files.", callback=expanded)
    ],
    vote: Annotated[
        Literal["plurality", "mean"], typer.Option(help="One vote per network, or the mean of their probabilities.")
    ] = "plurality",
    picture: Annotated[Path, Picture(help="Where to draw the images that the vote gets wrong.")] = Path(
        "ensemble-errors.png"
    ),
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Print the test accuracy of several networks' vote, and draw what it gets wrong."""
    from cnntrain.app.ensemble import drawn_mistakes, ensemble
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    where = Where(data_dir, device, plugins or [])
    with Terminal(quiet) as display:
        result = ensemble(runs, vote, where, display)
    if as_json:
        print_json({**asdict(result), "picture": str(picture) if result.wrong else None})
    else:
        _print(result)
    if result.wrong:
        # Last, for the figures are there though they can't be drawn.
        atomic.write(picture, drawn_mistakes(result, where))
        if not as_json:
            typer.echo(f"drawn in {picture}")


def _print(result: Ensemble) -> None:
    from cnntrain.reports.text import percent

    for path, accuracy in result.alone.items():
        typer.echo(f"{percent(accuracy)}  {path}")
    typer.echo(f"{percent(result.accuracy)}  {result.vote} vote: {result.wrong} of {result.images:,} images wrong")
