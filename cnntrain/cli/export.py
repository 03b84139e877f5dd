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
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from cnntrain.app.export import export
    from cnntrain.app.where import Where

    # torch prints the graph that it could not finish; an error says why.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        path = export(checkpoint, kind, output, Where(device="cpu", plugins=plugins or []))
    typer.echo(path)
