"""`cnntrain schema`: the JSON Schema of configs, for editors."""

from __future__ import annotations

import typer

from cnntrain.cli.options import Plugins


def run(plugins: Plugins = None) -> None:
    """Print the JSON Schema of configs; `# yaml-language-server: $schema=FILE` makes editors use it."""
    import json

    from cnntrain.app.configure import import_plugins
    from cnntrain.reports.vocabulary import json_schema

    import_plugins(plugins or [])
    typer.echo(json.dumps(json_schema(), indent=2))
