"""Runs side by side: what differs in their configs, what they reached, and their curves in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from cnntrain.config.document import read
from cnntrain.config.load import up_to_date
from cnntrain.errors import UsageError
from cnntrain.reports import plots
from cnntrain.reports.rows import Rows
from cnntrain.run.summary import read_summary
from cnntrain.training.circumstances import standard_error_of_mean
from cnntrain.training.rows import BALANCED, LOSS, figure_of

ACCURACY = "validation_accuracy"
# What else is shown where somebody monitors it.
FURTHER = {BALANCED: ("test_balanced_accuracy", BALANCED), LOSS: (LOSS,)}
# What of a config decides which images are trained on.
IMAGES = ("data.source", "data.validation", "data.test", "data.limit")
FIGURES = ("epochs", "parameters", "seconds", "device")


@dataclass(frozen=True)
class OverSeeds:
    """Means of the accuracies of `runs` of one config and several seeds, and the standard errors of these, in 0..1."""

    runs: list[str]
    mean: dict[str, float]
    standard_error: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """For each run: the config values in which they differ, by dotted path, and final figures (accuracies in 0..1).

    `best_first` has them by `monitor`, the validation figure that all of them monitor, or by accuracy. `unlike` are the
    splits, validation or test, of which the runs had other images. Where it is `trained_unlike`, runs were trained on
    other images though their configs ask for the same. `over_seeds` has the means of runs that differ only in their
    seeds. `unfinished` runs are left out.
    """

    differences: dict[str, dict[str, Any]]
    figures: dict[str, dict[str, Any]]
    monitor: str
    best_first: list[str]
    unlike: list[str]
    trained_unlike: bool
    over_seeds: list[OverSeeds]
    unfinished: list[str]


def compare_runs(runs: Sequence[str | Path]) -> Comparison:
    """Compare finished runs."""
    found = {str(run): read_summary(run) for run in runs}
    summaries = {run: summary for run, summary in found.items() if summary is not None}
    unfinished = [run for run in found if run not in summaries]
    strange = [run for run in unfinished if not (summaries and (Path(run) / "config.yaml").is_file())]
    if strange:
        raise UsageError(f"{', '.join(strange)}: not a finished run: it has no `summary.json`")
    configs = {run: _flat(up_to_date(read(Path(run) / "config.yaml").value)) for run in summaries}
    trained_unlike = _are_trained_unlike(configs, summaries)
    begun = {run: (summary.get("init_from") or {}).get("sha256") for run, summary in summaries.items()}
    if len({*begun.values()} - {None}) > 1:
        configs = {run: config | {"init_from.sha256": begun[run]} for run, config in configs.items()}
    keys = sorted({key for config in configs.values() for key in config})
    differing = [key for key in keys if len({str(config.get(key)) for config in configs.values()}) > 1]
    differences = {run: {key: config.get(key) for key in differing} for run, config in configs.items()}
    monitored = {config.get("training.monitor", ACCURACY) for config in configs.values()}
    further = [name for monitor, names in FURTHER.items() if monitor in monitored for name in names]
    any_changed = any(summary["changes"] for summary in summaries.values())
    figures = {
        run: {
            **{name: summary["best"].get(name) for name in ("test_accuracy", ACCURACY, *further)},
            "best_epoch": summary["best"]["epoch"],
            **{name: summary[name] for name in FIGURES},
            **({"changed": "; ".join(summary["changes"]) or None} if any_changed else {}),
        }
        for run, summary in summaries.items()
    }
    asked = ("validation", "test")
    unlike = [name for name in asked if len({summary["data"].get(name) for summary in summaries.values()}) > 1]
    best = {run: summary["best"] for run, summary in summaries.items()}
    shared = [
        name for name in FURTHER if monitored == {name} and all(row.get(name) is not None for row in best.values())
    ]
    monitor = shared[0] if shared else ACCURACY
    best_first = sorted(best, key=lambda run: -figure_of(best[run], monitor))
    given = {run: (configs[run], summaries[run]["changes"], summaries[run]["data"]) for run in best_first}
    over_seeds = _over_seeds(given, figures)
    return Comparison(differences, figures, monitor, best_first, unlike, trained_unlike, over_seeds, unfinished)


def _over_seeds(given: dict[str, Any], figures: dict[str, dict[str, Any]]) -> list[OverSeeds]:
    """Of runs alike in what is `given`: config, changes and data; a copy of a run is no other seed."""
    alike: dict[str, dict[int, str]] = {}
    for run, (config, changes, data) in given.items():
        alike.setdefault(str(({**config, "seed": None}, changes, data)), {}).setdefault(config["seed"], run)
    groups = [list(runs.values()) for runs in alike.values() if len(runs) > 1]
    return [_averaged(runs, [figures[run] for run in runs]) for runs in groups]


def _averaged(runs: list[str], rows: list[dict[str, Any]]) -> OverSeeds:
    columns = {name: [row[name] for row in rows] for name in rows[0] if name.endswith("_accuracy")}
    whole = {name: values for name, values in columns.items() if None not in values}
    errors = {name: standard_error_of_mean(values) for name, values in whole.items()}
    return OverSeeds(runs, {name: mean(values) for name, values in whole.items()}, errors)


def _are_trained_unlike(configs: dict[str, dict[str, Any]], summaries: dict[str, dict[str, Any]]) -> bool:
    found: dict[str, set[str | None]] = {}
    for run, config in configs.items():
        asked = str({key: value for key, value in config.items() if key.startswith(IMAGES)})
        found.setdefault(asked, set()).add(summaries[run]["data"].get("train"))
    return any(len(fingerprints) > 1 for fingerprints in found.values())


def curves(found: Comparison) -> bytes:
    """A PNG of the runs' validation accuracies, balanced where all of them monitor that."""
    rows = {run: Rows.read(Path(run)) for run in found.figures}
    if found.monitor == BALANCED:
        return plots.overlay(rows, BALANCED, "Balanced validation accuracy (%)")
    return plots.overlay(rows, ACCURACY, "Validation accuracy (%)")


def _flat(value: Any, above: str = "") -> dict[str, Any]:
    """Nested values by dotted path, as an override writes it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {above: value}
    return {k: v for key, inner in items for k, v in _flat(inner, f"{above}.{key}".lstrip(".")).items()}
