"""`cnntrain calibrate`: probabilities that say how often the network is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import DataDir, Device, Plugins, Quiet


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint file, or a run directory (its best checkpoint).")],
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
) -> None:
    """Write calibrated.pt beside a checkpoint: the same predictions, and probabilities fitted to validation images."""
    from cnntrain.app.calibrate import calibrate_checkpoint
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    with Terminal(quiet) as display:
        file = calibrate_checkpoint(checkpoint, Where(data_dir, device, plugins or []), display)
    typer.echo(file)
