"""`cnntrain export`: a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cnntrain.cli.options import Plugins


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run directory (its best checkpoint).")],
    kind: Annotated[
        Literal["safetensors", "npz", "onnx"],
        typer.Option("--format", help="Weights only, or with onnx the whole network."),
    ] = "safetensors",
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write; by default beside the checkpoint, or in the run directory.", dir_okay=False),
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Write the weights or the network, with config, classes and preprocessing, for other programs."""
    from cnntrain.app.export import export
    from cnntrain.app.where import Where

    typer.echo(export(checkpoint, kind, output, Where(device="cpu", plugins=plugins or [])))
