"""`cnntrain export`: a network's weights for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run directory: its best one.")],
    kind: Annotated[Literal["safetensors", "npz"], typer.Option("--format", help="The kind of file.")] = "safetensors",
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write; by default beside the checkpoint, or in the run directory.", dir_okay=False),
    ] = None,
) -> None:
    """Write the weights, with config, classes and preprocessing, as a safetensors or npz file."""
    from cnntrain.app.transfer import export

    typer.echo(export(checkpoint, kind, output))
