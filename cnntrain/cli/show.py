"""`cnntrain show`: a config before it is trained: the network, the learning rate, the augmented images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import ConfigPath, DataDir, Overrides, Picture, Plugins


def run(
    config: ConfigPath,
    overrides: Overrides = None,
    schedule: Annotated[bool, typer.Option("--schedule", help="Plot the learning rate instead.")] = False,
    augment: Annotated[Path | None, Picture(help="Write a picture of augmented images here instead.")] = None,
    data_dir: DataDir = None,
    plugins: Plugins = None,
) -> None:
    """Print each layer's output shape, parameters, multiply-accumulates and activation memory."""
    from cnntrain.app.configure import load_config

    loaded = load_config(config, overrides or [], plugins or [])
    from cnntrain.app.show import augmented_picture, layer_table, schedule_plot
    from cnntrain.cli.console import Terminal

    with Terminal(quiet=False) as display:
        if augment is not None:
            augmented_picture(loaded, data_dir, augment, display)
            typer.echo(augment)
        if schedule:
            typer.echo(schedule_plot(loaded))
        if augment is None and not schedule:
            typer.echo(layer_table(loaded, data_dir, display))
