"""`cnntrain verify`: do configs keep what they promise?"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.options import AsJson, DataDir, Device, Jobs, Plugins, Quiet, expanded
from cnntrain.cli.output import print_json
from cnntrain.cores import as_many_as_cores
from cnntrain.errors import ClaimNotMet, UsageError
from cnntrain.text import shortened

if TYPE_CHECKING:
    from cnntrain.app.verify import Verification
    from cnntrain.config.schema import Config


def run(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="YAML files with `expect:`.", callback=expanded)
    ],
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Train with the seeds 0 to N - 1; by default, N is a config's `expect.seeds`, or 3."
        ),
    ] = None,
    jobs: Jobs = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train several seeds of each config and test its claims; exits with 3 when one is not met.

    A claim is met unless the accuracy is more than two standard errors below it; the standard error is that of an
    accuracy on this many test images.

    Runs are kept in runs/<config>/seed-<n>; configs that differ only in `expect:` share them. Finished
    runs are reused, or refused if their data, plugins or `init_from` have changed; others are resumed.
    """
    asked = None if seeds is None else range(_count(seeds))
    claiming, silent = _claiming(configs, plugins or [])
    from cnntrain.app.verify import roots, verify
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    where = Where(data_dir, device, plugins or [])
    found: list[Verification] = []
    with Terminal(quiet) as display:
        if silent:
            display.warn(f"skipped, because nothing is claimed under `expect:`: {silent}")
        for path, root in roots(claiming).items():
            found += verify(path.stem, claiming[path], asked, root, where, jobs or as_many_as_cores(), display)
    if as_json:
        print_json({"claims": [asdict(one) for one in found]})
    else:
        _print(found)
    failed = [f"{one.config} ({one.claim})" for one in found if not one.passed]
    if failed:
        raise ClaimNotMet(f"not met: {', '.join(failed)}")


def _count(seeds: str) -> int:
    """How many seeds; raises `UsageError` for what is no number of them, such as `0-3`, which `train` takes."""
    count = int(seeds) if re.fullmatch("[0-9]{1,5}", seeds) else 0
    if not count:
        said = "it is a number of seeds, which count from 0: write 4 for the seeds 0 to 3"
        raise UsageError(f"`--seeds {shortened(seeds, 60)}`: for `verify` {said}")
    return count


def _claiming(configs: list[Path], plugins: list[Path]) -> tuple[dict[Path, Config], str]:
    """(the configs that claim something, the names of those that don't); raises `UsageError` where none does."""
    from cnntrain.app.configure import load_config

    if any("=" in path.name and not path.exists() for path in configs):
        raise UsageError("`verify` takes only configs, not KEY=VALUE: a claim is about the config as it is")
    names = [path.stem for path in configs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"several configs are called {', '.join(twice)}, and runs are stored by that name; verify one at a time"
        )
    loaded = {path: load_config(path, (), plugins) for path in configs}
    from cnntrain.app.verify import claims

    claiming = {path: config for path, config in loaded.items() if claims(config)}
    silent = ", ".join(path.stem for path in loaded if path not in claiming)
    if not claiming:
        raise UsageError(
            f"{silent}: there is no claim to verify; add one, such as `expect: {{test_accuracy: {{at_least: 99}}}}`"
        )
    return claiming, silent


def _print(found: list[Verification]) -> None:
    from cnntrain.reports.text import table
    from cnntrain.text import printable

    rows = [("config", "claim", "at least", "seeds", "mean", "best of them", "figure", "passes from", "")]
    for one in found:
        spread = "" if one.standard_error is None else f" +- {one.standard_error:.2f}"
        rows.append(
            (
                one.config,
                one.claim,
                f"{one.claimed:.2f}",
                str(len(one.seeds)),
                f"{one.mean:.2f}{spread}",
                f"{one.best:.2f}",
                f"{one.figure:.2f}",
                f"{one.claimed - one.allowed:.2f}",
                "passed" if one.passed else "FAILED",
            )
        )
    typer.echo(table(rows, left=2))
    for line in dict.fromkeys(f"{one.config}: {remark}" for one in found for remark in one.remarks):
        typer.echo(f"remark: {printable(line)}")
    typer.echo(
        "percent of test images; best by validation; a figure passes down to two standard errors below its claim"
    )
