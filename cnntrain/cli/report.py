"""`cnntrain report`: a finished run as pictures and one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import DataDir, Device, Plugins, Quiet


def run(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
) -> None:
    """Draw plots/*.png and report.html, one self-contained page, into a run directory."""
    from cnntrain.app.report import report_run
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    with Terminal(quiet) as display:
        page = report_run(run_dir, Where(data_dir, device, plugins or []), display)
    typer.echo(page)
