"""`cnntrain train`: a config to a trained network in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.console import Terminal, print_json
from cnntrain.cli.options import AsJson, DataDir, Device, Plugins, Quiet
from cnntrain.errors import UsageError

NAME = "train"


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="A YAML file, and values in the place of its own."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run instead.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where to write; by default runs/<config>/<date>-<time>.")
    ] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a network as a config describes it.

    cnntrain train configs/digits.yaml training.epochs=5

    cnntrain train --resume runs/digits/20260101-120000
    """
    given = arguments or []
    if resume is None and not given:
        raise UsageError("name a config, as in `cnntrain train configs/digits.yaml`, or a run with `--resume RUN_DIR`")
    if resume is not None and run_dir is not None:
        raise UsageError("`--resume` goes on in the run's own directory; leave `--run-dir` away")
    if resume is not None and given and "=" not in given[0]:
        raise UsageError(f"`--resume` takes the run's own config; leave `{given[0]}` away")
    from cnntrain.app.configure import load_config

    config = None if resume else load_config(Path(given[0]), given[1:], plugins or [])
    from cnntrain.app.train import Where, resume_run, train_run
    from cnntrain.run.directory import default_path

    where = Where(data_dir, device, plugins or [])
    with Terminal(quiet) as display:
        if config is None:
            assert resume is not None
            summary = resume_run(resume, given, where, display)
        else:
            summary = train_run(config, run_dir or default_path(Path(given[0]).stem), where, display)
    if as_json:
        print_json(summary)
    else:
        typer.echo(summary["run_dir"])
