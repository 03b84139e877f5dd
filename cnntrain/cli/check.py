"""`cnntrain check`: whether a config is right, without data and without torch."""

from __future__ import annotations

import typer

from cnntrain.cli.options import ConfigPath, Overrides, Plugins


def run(config: ConfigPath, overrides: Overrides = None, plugins: Plugins = None) -> None:
    """Check a config and print it with all defaults filled in."""
    from cnntrain.app.configure import load_config
    from cnntrain.config.load import to_yaml

    typer.echo(to_yaml(load_config(config, overrides or [], plugins or [])), nl=False)
