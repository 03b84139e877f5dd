"""`cnntrain eval`: how good a checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cnntrain.cli.options import AsJson, DataDir, Device, Plugins, Quiet
from cnntrain.cli.output import print_json
from cnntrain.errors import ClaimNotMet


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run directory (its best checkpoint).")],
    data: Annotated[
        str | None, typer.Option(help="Another data set: a source's name, a folder of images, an .npz or .csv file.")
    ] = None,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Which split to evaluate.")] = "test",
    fail_under: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 3 when accuracy, in 0..1, is lower.")
    ] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Print loss and accuracy, precision, recall and F1 by class, and the confusion matrix.

    Of more than 26 classes, the most frequent mistakes stand in the place of the matrix, and top-5 accuracy is given.
    """
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
    from cnntrain.reports.confusions import READABLE, confusions
    from cnntrain.reports.text import percent, table

    typer.echo(f"{report['split']}: {report['images']:,} images, loss {report['loss']:.4f}, ", nl=False)
    typer.echo(f"accuracy {percent(report['accuracy'])}", nl=False)
    if "top_5_accuracy" in report:
        typer.echo(f", top-5 accuracy {percent(report['top_5_accuracy'])}", nl=False)
    typer.echo(f", balanced accuracy {percent(report['balanced_accuracy'])}, macro F1 {percent(report['macro_f1'])}")
    typer.echo(f"mean probability {percent(report['mean_probability'])}, ", nl=False)
    typer.echo(f"calibration error {percent(report['calibration_error'])}\n")
    rows = [("class", "precision", "recall", "F1", "images")]
    for row in report["classes"]:
        recall, f1 = percent(row["recall"]) if row["images"] else "-", "-" if row["f1"] is None else percent(row["f1"])
        rows.append((row["class"], percent(row["precision"]), recall, f1, f"{row['images']:,}"))
    typer.echo(table(rows))
    matrix, classes = report["confusion_matrix"], [row["class"] for row in report["classes"]]
    if len(classes) > READABLE:
        frequent = [(truth, said, f"{count:,}") for truth, said, count in confusions(matrix, classes)]
        typer.echo("\nmost frequent mistakes (all counts: --json)")
        typer.echo(table([("class", "predicted", "images"), *frequent], left=2))
        return
    typer.echo("\nconfusion matrix (rows: truth, columns: prediction)")
    widest = max(len(str(count)) for counts in matrix for count in counts)
    cells = [[f"{count or '.':>{widest}}" for count in counts] for counts in matrix]
    typer.echo(table([[name, *line] for name, line in zip(classes, cells, strict=True)]))
