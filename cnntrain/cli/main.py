"""The typer app, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import atexit
import gc
import io
import os
import re
import sys
from contextlib import suppress
from typing import Annotated

import typer

from cnntrain.app.launched import is_first
from cnntrain.app.signals import ending
from cnntrain.cli import (
    calibrate,
    check,
    compare,
    doctor,
    ensemble,
    evaluate,
    export,
    layers,
    predict,
    probe,
    report,
    schema,
    show,
    train,
    verify,
)
from cnntrain.errors import Interrupted, Signalled, UsageError, as_ours
from cnntrain.text import printable

app = typer.Typer(
    help="Train convolutional networks from the command line: a readable YAML file in, a trained network out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "report": report,
    "doctor": doctor,
    "compare": compare,
    "verify": verify,
    "ensemble": ensemble,
    "calibrate": calibrate,
    "export": export,
    "check": check,
    "show": show,
    "probe": probe,
    "layers": layers,
    "schema": schema,
}
for name, command in COMMANDS.items():
    app.command(name)(command.run)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cnntrain {version('cnntrain')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every error of ours is one message on stderr and its exit code."""
    # Python's last look for cycles would go through all of torch, for as long as half a second.
    atexit.register(gc.freeze)
    # A notebook names its own backend to all that it starts; figures are drawn without any.
    os.environ["MPLBACKEND"] = "agg"
    started = sys.modules["__main__"].__spec__
    if started is None or not started.parent:
        # Only `python -m cnntrain` looks for modules in the current folder; else its child processes must not either.
        os.environ.setdefault("PYTHONSAFEPATH", "1")
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold what the terminal's encoding doesn't.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if any(_is_empty(word) for word in sys.argv[1:]):
            raise UsageError("an argument is empty; perhaps a shell variable is not set")
        if sys.stdout is None:
            raise UsageError("standard output is closed; if you don't need it, redirect it to /dev/null")
        with ending():
            app()
    except Signalled as error:
        if not is_first():  # rank 0 tells of it, or of why the launcher sent it
            sys.exit(Interrupted.exit_code)
        _fail(f"interrupted by {error}", Interrupted.exit_code)
    except Exception as error:
        ours = as_ours(error)
        if ours is None:
            raise
        _fail(str(ours), ours.exit_code)


def _is_empty(word: str) -> bool:
    return not word or re.fullmatch(r"--[a-z-]+=", word) is not None


def _fail(message: str, code: int) -> None:
    with suppress(OSError):  # nobody may be left to read it
        print(f"error: {printable(message)}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
