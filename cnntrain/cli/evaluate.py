"""`cnntrain eval`: how good a checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cnntrain.cli.options import AsJson, DataDir, Device, Plugins, Quiet
from cnntrain.cli.output import print_json
from cnntrain.errors import ClaimNotMet

NAME = "eval"


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run directory: its best one.")],
    data: Annotated[
        str | None, typer.Option(help="Another data set: a source's name, a folder of images, an .npz or .csv file.")
    ] = None,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Which images.")] = "test",
    fail_under: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 3 when accuracy, in 0..1, is lower.")
    ] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Print loss, accuracy, precision and recall by class, and the confusion matrix."""
    from cnntrain.app.evaluate import evaluate_checkpoint
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    with Terminal(quiet) as display:
        report = evaluate_checkpoint(checkpoint, Where(data_dir, device, plugins or []), data, split, display)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if fail_under is not None and report["accuracy"] < fail_under:
        raise ClaimNotMet(f"accuracy {report['accuracy']:.4f} is under {fail_under:g}")


def _print(report: dict[str, Any]) -> None:
    from rich.cells import cell_len, set_cell_size

    from cnntrain.reports.text import percent

    typer.echo(f"{report['split']}: {report['images']:,} images, loss {report['loss']:.4f}, ", nl=False)
    typer.echo(f"accuracy {percent(report['accuracy'])}\n")
    width = max(5, *(cell_len(row["class"]) for row in report["classes"]))
    names = [set_cell_size(row["class"], width) for row in report["classes"]]
    typer.echo(f"{'class':<{width}}  precision   recall   images")
    for name, row in zip(names, report["classes"], strict=True):
        recall = percent(row["recall"]) if row["images"] else "-"
        typer.echo(f"{name}  {percent(row['precision']):>9}  {recall:>8}  {row['images']:>7,}")
    typer.echo("\nconfusion matrix (rows: truth, columns: prediction)")
    cell = max(4, *(len(str(count)) + 1 for row in report["confusion_matrix"] for count in row))
    for name, counts in zip(names, report["confusion_matrix"], strict=True):
        typer.echo(f"{name} " + "".join(f"{count or '.':>{cell}}" for count in counts))
