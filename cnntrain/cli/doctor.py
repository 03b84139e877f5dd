"""`cnntrain doctor`: is a run directory sound?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import AsJson, Plugins
from cnntrain.cli.output import print_json
from cnntrain.errors import UsageError
from cnntrain.text import counted, in_a_line, printable


def run(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Verify a run directory: checksums, config, metrics, summary, lock; exits with 2 when anything is wrong.

    Every problem is listed with its fix. Nothing is changed.
    """
    from cnntrain.app.doctor import as_data, examine

    found = examine(run_dir, plugins or [])
    if as_json:
        print_json(as_data(found))
    else:
        typer.echo(f"{found.run_dir}: {in_a_line(found.status)}")
        for problem in found.problems:
            typer.echo(printable(f"problem: {problem.what}\n    fix: {problem.fix}"))
        for note in found.notes:
            typer.echo(printable(f"note: {note}"))
    if found.problems:
        raise UsageError(f"{run_dir}: {counted(len(found.problems), 'problem')}")
    if not as_json:
        typer.echo("sound")
