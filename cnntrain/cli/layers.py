"""`cnntrain layers`: the vocabulary of configs."""

from __future__ import annotations

from typing import Annotated

import typer

from cnntrain.cli.options import Plugins


def run(
    name: Annotated[
        str | None, typer.Argument(help="Explain this layer, optimizer, ..., key or argument only.")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """List all layers, optimizers, schedules and so on, and all keys, with their arguments and defaults."""
    from cnntrain.app.configure import import_plugins
    from cnntrain.reports.vocabulary import describe

    import_plugins(plugins or [])
    typer.echo(describe(name))
