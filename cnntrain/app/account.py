"""What a run tells of itself: at its beginning, and at its end."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cnntrain.app import device as devices
from cnntrain.app.environment import beginning
from cnntrain.app.running import Running
from cnntrain.config.ineffective import ineffective
from cnntrain.data.splits import remarks
from cnntrain.errors import UsageError
from cnntrain.reports.text import percent
from cnntrain.run.summary import read_summary
from cnntrain.text import counted, loss
from cnntrain.training.circumstances import SIGNIFICANT, Circumstances, standard_error
from cnntrain.training.distributed import Ranks
from cnntrain.training.loop import LOWERED
from cnntrain.training.rows import BALANCED, LOSS, in_words, measured
from cnntrain.training.state import State
from cnntrain.training.verdict import unlike, verdict

# What a summary says of where a run was trained.
SURROUNDINGS = ("run_dir", "device", "environment")


def introduce(run: Running) -> None:
    """Say where it is kept, on what it trains, and what makes its figures worth less than they seem."""
    channels, height, width = run.given.preprocessing.shape
    splits = run.splits
    trained, validation, test = (f"{len(images):,}" for images in (splits.train, splits.validation, splits.test))
    if run.config.data.expand:
        trained += f" (expanded to {len(run.given.plan.feeds.train):,})"
    run.display.say(f"run directory: {run.directory.path}")
    run.directory.log(beginning(run.environment))
    run.display.say(
        f"{trained} training, {validation} validation, {test} test images of {height}x{width}x{channels} "
        f"in {len(splits.classes)} classes; {_parameters(run)}; " + _describe(run.state.ranks)
    )
    if run.given.is_streamed:
        said = "the images are streamed from disk, because they take more than `data.memory_budget`"
        run.display.say(f"{said}: {run.given.nbytes / 2**20:,.1f} MiB")
    weighs_classes = run.config.training.monitor == BALANCED
    begun = (run.state.init_from or {}).get("remarks", ())
    for remark in (*ineffective(run.config), *remarks(splits, run.config.data.normalize, weighs_classes), *begun):
        run.remark(remark)


def finish(run: Running) -> dict[str, Any]:
    """Write its summary, say what it reached and what is to be thought of it; gives the summary."""
    best, last = run.state.best, run.state.history[-1]
    judged = verdict(run.state.history, Circumstances.of(run.config, run.splits, run.state))
    assert best is not None
    images = {name: len(getattr(run.splits, name)) for name in ("train", "validation", "test")}
    difference = unlike(best, images["validation"], images["test"])
    for remark in (difference, _worsened(run)):
        if remark:
            run.remark(remark)
    if run.state.rollbacks:
        lowered = f"its learning rate was lowered to {LOWERED**run.state.rollbacks:g} times the config's"
        # It was warned of when it happened.
        run.remarks.append(f"training diverged and was rolled back {counted(run.state.rollbacks, 'time')}: {lowered}")
    summary = {
        "run_dir": str(run.directory.path),
        "stopped": run.state.stopped,
        "changes": list(run.state.changes),
        "epochs": run.state.epoch,
        "best": asdict(best),
        "last": asdict(last),
        "verdict": asdict(judged),
        "remarks": run.remarks,
        "seconds": sum(result.seconds for result in run.state.history),
        "seed": run.config.seed,
        "device": _describe(run.state.ranks),
        "parameters": _count_parameters(run.state),
        "images": images | ({"expanded": len(run.given.plan.feeds.train)} if run.config.data.expand else {}),
        "data": run.splits.fingerprints(),
        "init_from": run.state.init_from,
        "environment": run.environment,
    }
    summary = _as_it_was(run, summary)
    run.directory.write_summary(summary)
    assert best.test_accuracy is not None
    monitor = run.config.training.monitor
    figure = loss(best.validation_loss) if monitor == LOSS else percent(getattr(best, monitor))
    tested = "test_balanced_accuracy" if monitor == BALANCED else "test_accuracy"
    run.display.say(
        f"{run.state.stopped}; best {in_words(monitor)} {figure} in epoch {best.epoch}, "
        f"{in_words(tested)} there {percent(getattr(best, tested))}"
    )
    run.display.say(judged.text)
    return summary


def _parameters(run: Running) -> str:
    said, changing = f"{_count_parameters(run.state):,} parameters", run.state.network.parameters()
    if not run.config.training.freeze:
        return said
    return f"{said}, {sum(one.numel() for one in changing if one.requires_grad):,} of them trained"


def _worsened(run: Running) -> str:
    """What to say where the weights that it began with were better than what came of them."""
    assert run.state.best is not None
    before, after = (run.state.init_from or {}).get("validation_accuracy", 0.0), run.state.best.validation_accuracy
    if before - after <= SIGNIFICANT * standard_error(after, len(run.splits.validation)):
        return ""
    return f"validation accuracy was higher before training, {percent(before)}: try a lower learning rate"


def _as_it_was(run: Running, summary: dict[str, Any]) -> dict[str, Any]:
    """The summary with the surroundings that trained it: who resumes a finished run has trained nothing."""
    try:
        before = read_summary(run.directory.path) or {}
    except UsageError:
        return summary
    rows = ("best", "last")
    others = {name: value for name, value in summary.items() if name not in (*SURROUNDINGS, *rows)}
    is_same = others == {name: before.get(name) for name in others} and all(
        measured(summary[name]) == measured(before[name]) for name in rows
    )
    return {**summary, **{name: before[name] for name in ("device", "environment") if is_same and name in before}}


def _describe(ranks: Ranks) -> str:
    each = devices.describe(ranks.device)
    return each if ranks.size == 1 else f"{ranks.size} processes, each on {each}"


def _count_parameters(state: State) -> int:
    return sum(parameter.numel() for parameter in state.network.parameters())
