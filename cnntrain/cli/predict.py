"""`cnntrain predict`: what a checkpoint says of image files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cnntrain import atomic
from cnntrain.cli.options import Device, Picture, Plugins, Quiet
from cnntrain.cli.output import print_json
from cnntrain.text import printable

if TYPE_CHECKING:
    from cnntrain.app.predict import Failure, Prediction

# As many as float32 has: a logarithm is taken of the smallest, too.
DIGITS = ".9g"


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run directory (its best checkpoint).")],
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders, globs, or - for paths on stdin.")],
    top_k: Annotated[int, typer.Option(min=1, help="How many of the most likely classes to print.")] = 1,
    invert: Annotated[
        bool, typer.Option("--invert", help="Invert the pixels first: for dark digits on light paper.")
    ] = False,
    output: Annotated[
        Literal["table", "csv", "jsonl"] | None,
        typer.Option("--format", help="table on a terminal, else csv.", show_default=False),
    ] = None,
    evidence: Annotated[
        Path | None,
        Picture(
            help="Draw what in the first 36 images speaks for the likeliest class (orange), and for the next (blue)."
        ),
    ] = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
) -> None:
    """Classify images; exits with 1 when some could not be read, after all others are classified."""
    import sys

    from cnntrain.app.model import Model, load_model
    from cnntrain.app.predict import drawn_evidence, predict_images
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    failures: list[Failure] = []
    classified: list[Prediction] = []

    chosen = output or ("table" if sys.stdout.isatty() else "csv")
    with Terminal(quiet, is_shared=chosen != "table" and sys.stdout.isatty()) as display:
        where = Where(device=device, plugins=plugins or [])
        network = load_model(checkpoint, where, display) if evidence else checkpoint
        found = predict_images(network, inputs, where, top_k, invert, display)
        _WRITERS[chosen](_sorted_out(found, failures, classified))
        if evidence and isinstance(network, Model) and classified:
            atomic.write(evidence, drawn_evidence(network, classified, invert, display))
    for failure in failures:
        typer.echo(f"error: {printable(failure.reason)}", err=True)
    if failures:
        raise typer.Exit(1)


def _sorted_out(
    items: Iterator[Prediction | Failure], failures: list[Failure], classified: list[Prediction]
) -> Iterator[Prediction]:
    """The predictions, of which the first are kept, too; failures are put aside."""
    from cnntrain.app.predict import EXPLAINED, Failure

    for item in items:
        if isinstance(item, Failure):
            failures.append(item)
            continue
        if len(classified) < EXPLAINED:
            classified.append(item)
        yield item


def _write_table(predictions: Iterator[Prediction]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cnntrain.reports.text import percent

    table = Table("image", "class", "probability")
    for one in predictions:
        for rank, (name, probability) in enumerate(zip(one.classes, one.probabilities, strict=True)):
            table.add_row("" if rank else printable(one.path), name, percent(probability))
    Console(emoji=False, highlight=False).print(table, markup=False)


def _write_csv(predictions: Iterator[Prediction]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "probability"])
    for one in predictions:
        for rank, (name, probability) in enumerate(zip(one.classes, one.probabilities, strict=True), start=1):
            writer.writerow([one.path, rank, name, f"{probability:{DIGITS}}"])


def _write_jsonl(predictions: Iterator[Prediction]) -> None:
    for one in predictions:
        each = zip(one.classes, one.probabilities, strict=True)
        best = [{"class": name, "probability": float(f"{probability:{DIGITS}}")} for name, probability in each]
        print_json({"path": one.path, "predictions": best})


_WRITERS: dict[str, Callable[[Iterator[Prediction]], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
