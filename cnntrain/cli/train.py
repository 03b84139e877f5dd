"""`cnntrain train`: a config to a trained network in a run directory."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cnntrain.app.launched import is_first, is_launched, local_size
from cnntrain.cli.options import AsJson, DataDir, Device, Jobs, Plugins, Quiet
from cnntrain.cli.output import print_json
from cnntrain.cores import as_many_as_cores
from cnntrain.errors import UsageError
from cnntrain.text import shortened

if TYPE_CHECKING:
    from cnntrain.app.display import Display
    from cnntrain.app.where import Where
    from cnntrain.config.schema import Config

# More is a slip of the finger.
MOST_SEEDS = 10_000


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="A YAML file, then values that replace its own."),
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Continue this run, or a checkpoint in one.")]
Force = Annotated[bool, typer.Option("--force", help="Resume even if the data has changed.")]
RunDir = Annotated[Path | None, typer.Option(help="Where to write; by default runs/<config>/<date>-<time>.")]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="Train one run per seed (0-4; 1,3,5; 7 is the seed 7 alone) into runs/<config>/seed-<n>; without reports."
    ),
]
Devices = Annotated[
    int | None, typer.Option(min=1, help="How many GPUs, or CPU processes, train one network together.")
]


def run(
    arguments: Words = None,
    resume: Resume = None,
    force: Force = False,
    run_dir: RunDir = None,
    data_dir: DataDir = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    device: Device = "auto",
    devices: Devices = None,
    plugins: Plugins = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train the network that a config describes.

    cnntrain train configs/digits.yaml training.epochs=5

    cnntrain train --resume runs/digits/20260101-120000
    """
    words = arguments or []
    _check(words, resume, force, run_dir, seeds, jobs)
    _check_devices(devices, seeds)
    from cnntrain.app.configure import load_config

    config = None if resume else load_config(Path(words[0]), words[1:], plugins or [])
    if devices and devices > 1 and not is_launched():
        _launch(devices)
    from cnntrain.app.report import report_after_training
    from cnntrain.app.train import resume_run
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    where, runs = Where(data_dir, device, plugins or []), []
    try:
        with Terminal(quiet) as display:
            if resume is not None:
                runs = [resume_run(resume, words, where, display, force)]
            else:
                assert config is not None
                runs = _trained(config, Path(words[0]).stem, run_dir, seeds, jobs, where, display)
            if seeds is None and is_first():
                report_after_training(Path(runs[0]["run_dir"]), where, display)
    finally:
        # Trained they are, whatever becomes of the report.
        if runs and is_first():
            _print(runs, as_json, is_single=seeds is None)


def _trained(
    config: Config, name: str, run_dir: Path | None, seeds: str | None, jobs: int | None, where: Where, display: Display
) -> list[dict[str, Any]]:
    """The summary of one new run, or of one run a seed."""
    from cnntrain.app.seeds.train import train_seeds
    from cnntrain.app.train import train_run
    from cnntrain.run.directory import default_path

    if seeds is None:
        return [train_run(config, run_dir or default_path(name), where, display, or_beside=run_dir is None)]
    root = run_dir or Path("runs") / name
    return train_seeds(config, _numbers(seeds), root, where, jobs or as_many_as_cores(), display)


def _print(runs: list[dict[str, Any]], as_json: bool, is_single: bool) -> None:
    if as_json:
        print_json(runs[0] if is_single else {"runs": runs})
    else:
        typer.echo("\n".join(run["run_dir"] for run in runs))


def _launch(devices: int) -> NoReturn:
    """Do all of this in so many processes."""
    from cnntrain.app.ranks import launch

    raise typer.Exit(launch(devices, sys.argv[1:]))


def _check(
    words: list[str], resume: Path | None, force: bool, run_dir: Path | None, seeds: str | None, jobs: int | None
) -> None:
    """Raise `UsageError` for what does not go together."""
    if force and resume is None:
        raise UsageError("`--force` can only be used with `--resume`")
    if resume is None and not words:
        raise UsageError("name a config, as in `cnntrain train configs/digits.yaml`, or a run with `--resume RUN_DIR`")
    if resume is not None and run_dir is not None:
        raise UsageError("`--resume` continues in the run's own directory; leave out `--run-dir`")
    if resume is not None and words and "=" not in words[0]:
        raise UsageError(f"`--resume` uses the run's own config; leave out `{words[0]}`")
    if resume is not None and seeds is not None:
        raise UsageError(
            "`--resume` continues a single run; to continue `--seeds`, repeat the same command without `--resume`"
        )
    if seeds is not None and any(word.startswith("seed=") for word in words[1:]):
        raise UsageError("`--seeds` gives each run its seed; leave out `seed=`")
    if jobs is not None and seeds is None:
        raise UsageError("`--jobs` can only be used with `--seeds`")


def _check_devices(devices: int | None, seeds: str | None) -> None:
    """Raise `UsageError` where ranks can't be, or are already, started."""
    if seeds is not None and (devices or is_launched()):
        raise UsageError(
            "`--seeds` trains one network per process, `--devices` or torchrun one network in all processes; choose one"
        )
    if devices and is_launched() and devices != local_size():
        raise UsageError("torchrun has already started the processes; leave out `--devices`")


def _numbers(seeds: str) -> list[int]:
    """`0-2,7` to [0, 1, 2, 7]."""
    said = f"`--seeds {shortened(seeds, 60)}`"
    numbers: list[int] = []
    for part in seeds.split(","):
        # Not any number of digits, for Python refuses some thousands.
        found = re.fullmatch(r"(\d{1,20})(?:-(\d{1,20}))?", part, re.ASCII)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise UsageError(f"{said}: write seeds as 0-4 or 1,3,5")
        first, last = int(found[1]), int(found[2] or found[1])
        if len(numbers) + last - first >= MOST_SEEDS:
            raise UsageError(f"{said}: asks for more than {MOST_SEEDS:,} runs at once")
        numbers += range(first, last + 1)
    return sorted(set(numbers))
