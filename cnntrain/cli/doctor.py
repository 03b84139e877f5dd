"""`cnntrain doctor`: are run directories sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.options import AsJson, Plugins, expanded
from cnntrain.cli.output import print_json
from cnntrain.errors import UsageError
from cnntrain.text import counted, in_a_line, printable

if TYPE_CHECKING:
    from cnntrain.app.doctor import Examination


def run(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.", callback=expanded)],
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Verify run directories: checksums, config, metrics, summary, lock; exits with 2 when anything is wrong.

    Every problem is listed with its fix. Nothing is changed.
    """
    from cnntrain.app.doctor import Examination, Problem, as_data, examine

    examined = []
    for run_dir in runs:
        try:
            found = examine(run_dir, plugins or [])
        except UsageError as error:
            if len(runs) == 1:
                raise
            found = Examination(str(run_dir), "can't be examined", [Problem(str(error), "leave it out")], [])
        examined.append(found)
        if not as_json:
            _print(found)
    if as_json:
        data = [as_data(found) for found in examined]
        print_json(data[0] if len(data) == 1 else {"runs": data})
    ill = [found for found in examined if found.problems]
    if ill:
        where = ill[0].run_dir if len(examined) == 1 else f"{len(ill)} of {len(examined)} runs"
        raise UsageError(f"{where}: {counted(sum(len(found.problems) for found in ill), 'problem')}")


def _print(found: Examination) -> None:
    typer.echo(f"{found.run_dir}: {in_a_line(found.status)}")
    for problem in found.problems:
        typer.echo(printable(f"problem: {problem.what}\n    fix: {problem.fix}"))
    for note in found.notes:
        typer.echo(printable(f"note: {note}"))
    if not found.problems:
        typer.echo("sound")
