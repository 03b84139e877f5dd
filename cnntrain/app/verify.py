"""Whether a config keeps what it promises: its seeds are trained, and their figures held against the claim.

The rule: a figure passes if it is not below the claim by more than two standard errors of an accuracy
measured on so many test images, sqrt(p (1 - p) / n). The figure is that of the seed which is best by *validation*,
as in the book, or the mean of all seeds where the claim says `of: mean`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from cnntrain.app.display import Display, Silent
from cnntrain.app.ensemble import ensemble
from cnntrain.app.seeds.train import but_for_claims, train_seeds
from cnntrain.app.where import Where
from cnntrain.config.schema import ClaimConfig, Config
from cnntrain.training.circumstances import standard_error, standard_error_of_mean
from cnntrain.training.rows import figure_of

STANDARD_ERRORS = 2
# How many are trained where nobody says so.
SEEDS = 3


@dataclass(frozen=True)
class Verification:
    """One claim of a config beside what was measured; accuracies in percent of test images.

    `allowed` is how far below the claim a figure may be; `standard_error` is that of the seeds' mean.
    `remarks` are those of its runs: what makes the figures worth less than they seem.
    """

    config: str
    claim: str
    claimed: float
    source: str | None
    seeds: list[int]
    mean: float
    standard_error: float | None
    best: float
    figure: float
    allowed: float
    passed: bool
    remarks: list[str]


def claims(config: Config) -> bool:
    """Whether a config claims anything."""
    return config.expect is not None and bool(config.expect.test_accuracy or config.expect.ensemble_accuracy)


def roots(configs: Mapping[Path, Config]) -> dict[Path, Path]:
    """Where each config's runs are, `runs/<config>`: nothing is trained again for another claim alone.

    A config that has no runs yet shares those of one that differs only in what it claims, even if they are yet to come.
    """
    alike = {path: but_for_claims(config.model_copy(update={"seed": 0})) for path, config in configs.items()}
    found = {}
    for path, wanted in alike.items():
        group = [Path("runs") / other.stem for other, kept in alike.items() if kept == wanted]
        trained = [root for root in (Path("runs") / path.stem, *group) if any(root.glob("seed-*"))]
        found[path] = (trained or group)[0]
    return found


def verify(
    name: str,
    config: Config,
    seeds: Sequence[int] | None,
    root: str | Path,
    where: Where,
    jobs: int,
    display: Display | None = None,
) -> list[Verification]:
    """Train what is not yet trained of `seeds` below `root`, and test every claim of the config, if it has any.

    Without `seeds`, those are from 0 on, as many as the config says in `expect.seeds`, or 3.
    """
    display, root = display or Silent(), Path(root)
    expect = config.expect
    if expect is None or not claims(config):
        return []
    seeds = seeds or range(expect.seeds or SEEDS)
    if root.name != name:
        display.say(f"{name}: differs from {root.name} only in `expect:`, and shares its runs")
    summaries = train_seeds(config, seeds, root, where, jobs, display)
    found, best = [], _best(summaries, config.training.monitor)
    if expect.test_accuracy:
        average = mean(_accuracies(summaries))
        figure = best if expect.test_accuracy.of == "best" else average
        found.append(_judge(name, "test_accuracy", expect.test_accuracy, figure, best, summaries))
    if expect.ensemble_accuracy:
        vote = ensemble([root / f"seed-{seed}" for seed in seeds], "plurality", where, display)
        found.append(_judge(name, "ensemble_accuracy", expect.ensemble_accuracy, 100 * vote.accuracy, best, summaries))
    return found


def _accuracies(summaries: Sequence[dict[str, Any]]) -> list[float]:
    """The test accuracy of each seed, in percent."""
    return [100 * summary["best"]["test_accuracy"] for summary in summaries]


def _best(summaries: Sequence[dict[str, Any]], monitor: str) -> float:
    """The test accuracy of the seed that is the best by what is monitored, in percent."""
    chosen = max(summaries, key=lambda summary: figure_of(summary["best"], monitor))
    return 100 * float(chosen["best"]["test_accuracy"])


def _judge(
    name: str, what: str, claim: ClaimConfig, figure: float, best: float, summaries: Sequence[dict[str, Any]]
) -> Verification:
    accuracies, p = _accuracies(summaries), claim.at_least / 100
    allowed = 100 * STANDARD_ERRORS * standard_error(p, summaries[0]["images"]["test"])
    return Verification(
        config=name,
        claim=what,
        claimed=claim.at_least,
        source=claim.source,
        seeds=[summary["seed"] for summary in summaries],
        mean=mean(accuracies),
        standard_error=standard_error_of_mean(accuracies) if len(accuracies) > 1 else None,
        best=best,
        figure=figure,
        allowed=allowed,
        passed=figure >= claim.at_least - allowed,
        remarks=list(dict.fromkeys(line for summary in summaries for line in summary.get("remarks", ()))),
    )
