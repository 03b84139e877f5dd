"""`cnntrain show`: the network of a config, layer by layer, before anything is trained."""

from __future__ import annotations

import typer

from cnntrain.cli.options import ConfigPath, DataDir, Overrides, Plugins

NAME = "show"


def run(config: ConfigPath, overrides: Overrides = None, data_dir: DataDir = None, plugins: Plugins = None) -> None:
    """Print each layer's output shape and number of parameters."""
    from cnntrain.app.configure import load_config

    loaded = load_config(config, overrides or [], plugins or [])
    from cnntrain.app.show import layer_table

    typer.echo(layer_table(loaded, data_dir))
