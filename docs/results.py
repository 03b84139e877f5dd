"""Writes docs/RESULTS.md from finished runs: `python docs/results.py RUNS`, where RUNS holds `<config>/seed-<n>`.

Every figure comes from a run's `summary.json`, and every run has its line in the second table.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cnntrain import atomic
from cnntrain.app.configure import load_config
from cnntrain.app.ensemble import drawn_mistakes, ensemble
from cnntrain.app.where import Where
from cnntrain.config.schema import Config
from cnntrain.run.summary import read_summary

HERE = Path(__file__).parent
CONFIGS = sorted((HERE.parent / "configs" / "book").glob("*.yaml"))
VOTERS = "07-dropout"

HEAD = """# The book's experiments, measured

Chapter 6 of Michael Nielsen's [Neural Networks and Deep Learning](http://neuralnetworksanddeeplearning.com/chap6.html),
each experiment as a config in [configs/book](../configs/book), on MNIST: 50,000 images train (250,000 where the set is
expanded), 10,000 validate, 10,000 test. Written by `python docs/results.py RUNS`, from runs made by

```sh
cnntrain train configs/book/02-conv.yaml --seeds 0
```

and so on. Accuracies are in percent of the 10,000 test images, read in the epoch of the best validation accuracy. The
book's figure is the best of three runs by validation; ours is that of as many runs as there are seeds. **Where fewer
epochs were run than the book's, the figure is that of a shorter training, and no reproduction.** With 10,000 images the
standard error of an accuracy of 99 % is 0.10, and that of 97.8 % is 0.15.
"""

RUNS_HEAD = """
## The runs

From each run's `summary.json`. Seconds are those of the training steps by the wall clock; several runs and other work
shared the machine, so that they tell little about speed. For that see [PERFORMANCE.md](PERFORMANCE.md).
"""


def main(root: Path) -> None:
    """Read the runs below `root` and write the page."""
    lines, runs = [], []
    claimed = 0.0
    for path in CONFIGS:
        config = load_config(path)
        if config.expect and config.expect.ensemble_accuracy:
            claimed = config.expect.ensemble_accuracy.at_least
            continue
        summaries = _summaries(root / path.stem)
        lines.append(_line(path.stem, config, summaries))
        runs += [_run_line(path.stem, summary) for summary in summaries]
    if not runs:
        sys.exit(f"{root}: there are no finished runs, <config>/seed-<n>, of the configs in configs/book")
    head = "| config | epochs | the book's | the book, % | seeds | mean, % | best by validation, % |"
    runs_head = "| run | seed | epochs | best epoch | validation | test | seconds | device | torch |"
    parts = [
        HEAD,
        head,
        _rule(head),
        *lines,
        *_vote(root / VOTERS, claimed),
        RUNS_HEAD,
        runs_head,
        _rule(runs_head),
        *runs,
        "",
    ]
    (HERE / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")


def _summaries(folder: Path) -> list[dict[str, Any]]:
    found = [read_summary(run) for run in sorted(folder.glob("seed-*"))]
    return [summary for summary in found if summary is not None]


def _rule(head: str) -> str:
    return "|" + " --- |" * (head.count("|") - 1)


def _line(name: str, config: Config, summaries: list[dict[str, Any]]) -> str:
    claim = config.expect.test_accuracy if config.expect else None
    published = f"{claim.at_least:.2f}" if claim else "-"
    if not summaries:
        return f"| `{name}` | not run | {config.training.epochs} | {published} | | | |"
    accuracies = [100 * summary["best"]["test_accuracy"] for summary in summaries]
    spread = f" +- {stdev(accuracies) / len(accuracies) ** 0.5:.2f}" if len(accuracies) > 1 else ""
    best = max(summaries, key=lambda summary: summary["best"]["validation_accuracy"])
    epochs = max(summary["epochs"] for summary in summaries)
    cells = [
        f"`{name}`",
        str(epochs) if epochs == config.training.epochs else f"**{epochs}**",
        str(config.training.epochs),
        published,
        ", ".join(str(summary["seed"]) for summary in summaries),
        f"{mean(accuracies):.2f}{spread}",
        f"{100 * best['best']['test_accuracy']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _run_line(name: str, summary: dict[str, Any]) -> str:
    best = summary["best"]
    cells = [
        f"`{name}/seed-{summary['seed']}`",
        str(summary["seed"]),
        str(summary["epochs"]),
        str(best["epoch"]),
        f"{100 * best['validation_accuracy']:.2f}",
        f"{100 * best['test_accuracy']:.2f}",
        f"{summary['seconds']:,.0f}",
        summary["device"],
        summary["environment"]["torch"],
    ]
    return f"| {' | '.join(cells)} |"


def _vote(folder: Path, claimed: float) -> list[str]:
    """The ensemble's figures and its picture, where there is more than one network."""
    runs = [run for run in sorted(folder.glob("seed-*")) if read_summary(run)]
    if len(runs) < 2:
        return []
    by_mean, plurality = (ensemble(runs, vote, Where()) for vote in ("mean", "plurality"))
    if plurality.wrong:
        atomic.write(HERE / "pictures" / "ensemble-errors.png", drawn_mistakes(plurality, Where()))
    return [
        "",
        f"`08-ensemble`, the plurality vote of {len(runs)} networks of `{VOTERS}` "
        f"(the book, with five networks of 40 epochs each: {claimed:.2f} %): {100 * plurality.accuracy:.2f} %, "
        f"{plurality.wrong} of {plurality.images:,} images wrong (the mean of their probabilities: "
        f"{100 * by_mean.accuracy:.2f} %). These are the images that the vote gets wrong:",
        "",
        "![the images that the vote gets wrong](pictures/ensemble-errors.png)",
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
