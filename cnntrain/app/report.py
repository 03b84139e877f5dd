"""A finished run explained: its plots, its worst mistakes, its filters, and one page with all of it."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnntrain.app import evidence
from cnntrain.app.display import Display, Silent
from cnntrain.app.evaluate import report_on
from cnntrain.app.mistakes import caption, drawn, likeliest, mistakes, pixels_of, surest
from cnntrain.app.model import Model, load_model, own_splits
from cnntrain.app.signals import ending
from cnntrain.app.similar import most_similar
from cnntrain.app.where import Where
from cnntrain.data.images import Folders, Images
from cnntrain.data.preprocess import to_unit
from cnntrain.errors import CnntrainError, Interrupted, Signalled, UsageError, said_by_system
from cnntrain.network.modules import weights_of
from cnntrain.reports import pictures, plots
from cnntrain.reports.confusions import confusions
from cnntrain.reports.page import Page, render
from cnntrain.reports.rows import Rows
from cnntrain.reports.text import percent
from cnntrain.run.directory import RunDirectory, last_words
from cnntrain.run.summary import read_summary
from cnntrain.text import BELOW, as_command, in_a_line, listed, printable, shortened
from cnntrain.training.calibration import wilson
from cnntrain.training.rows import BALANCED, in_words

# The largest class has so many times as many images as the smallest.
UNEQUAL = 5
MISTAKES, MISTAKE_COLUMNS = 36, 6
# So many of them are explained; of few test images fewer, but some in any case.
EXPLAINED, SOME = 12, 3
# Each of the two things that explain them asks the network this many times as often as all test images do, at most.
TRIES = 2
# Beside each of them so many training images, out of no fewer than these even if there are few test images.
SIMILAR, LEARNED = 5, 1_000
# So many pairs of classes that are taken for each other stand beside the matrix.
FREQUENT = 10
FILTERS, FILTER_COLUMNS = 64, 10
# Of the weights' sizes, the percentile that is shown in full colour: few are far larger.
MOST = 99.5


def report_run(run_dir: str | Path, where: Where, display: Display | None = None) -> Path:
    """Draw `plots/*.png` and `report.html` of a finished run into its directory; gives the page's path."""
    run_dir, display = Path(run_dir), display or Silent()
    with closing(RunDirectory.open(run_dir)) as directory:
        summary = read_summary(run_dir)
        if summary is None:
            words = last_words(run_dir)
            ended = f"; its log ends with: {words}" if words else ""
            raise UsageError(f"{run_dir}: not finished; go on with `cnntrain train --resume {run_dir}`{ended}")
        rows, model = Rows.read(run_dir), load_model(run_dir, where, display)
        train, test = own_splits(model, ("train", "test"), Folders.standard(where.data_dir, display), display)
        logits = model.logits(test, display).cpu()
        judged = _judged(model, test, logits)
        if model.has_changed("test", test):
            said = "the test images or labels have changed since: pictures and tables of them are of what is there now"
            summary["remarks"] = [*summary.get("remarks", ()), said]
        plotted = _draw(rows, model, train, test, judged, display)
        for name, content in plotted.items():
            directory.write(f"plots/{name}.png", content)
        config = directory.config.read_text(encoding="utf-8", errors="replace")
        command = printable(as_command(["cnntrain", "train", str(directory.config), *where.options()]))
        page = _page(run_dir, summary, model.config.training.monitor, judged, plotted, config, command)
        directory.write("report.html", render(page))
        for line in (*judged["remarks"], f"report: {run_dir / 'report.html'}"):
            display.say(line)
            directory.log(line)
    return run_dir / "report.html"


def report_after_training(run_dir: Path, where: Where, display: Display) -> None:
    """Draw a report of what has just been trained; whatever hinders it, the training is done and is said to be."""
    command = as_command(["cnntrain", "report", str(run_dir), *where.options()])
    kept = f"the training is done and kept in {run_dir}; draw the report with:\n  {command}"
    try:
        with ending():
            report_run(run_dir, where, display)
    except Signalled as error:
        raise Interrupted(f"interrupted by {error} while drawing the report; {kept}") from error
    except Exception as error:
        said = said_by_system(error) if isinstance(error, OSError) else str(error)
        raise CnntrainError(f"no report: {said or type(error).__name__}; {kept}") from error


def _judged(model: Model, test: Images, logits: torch.Tensor) -> dict[str, Any]:
    """What is counted of the test images, the `worst` mistakes among them, and what is to be said of it."""
    report = report_on(model.classes, test.labels, logits)
    is_balanced = model.config.training.shuffle == "balanced"
    remarks = [line for line in (_unpredicted(report, is_balanced), _swapped(report)) if line]
    wrong = mistakes(model.classes, test, *likeliest(logits))
    return {**report, "tested": len(test), "wrong": len(wrong), "worst": surest(wrong, MISTAKES), "remarks": remarks}


def _unpredicted(report: dict[str, Any], is_balanced: bool) -> str:
    """A sentence on the classes that no test image is taken for, though some are of them."""
    predicted = np.sum(report["confusion_matrix"], axis=0)
    never = [row for row, count in zip(report["classes"], predicted, strict=True) if row["images"] and not count]
    if not never:
        return ""
    sizes = [row["images"] for row in report["classes"] if row["images"]]
    names, asked = listed(row["class"] for row in never), sum(row["images"] for row in never)
    way = "more images of these" if is_balanced else "`training.shuffle: balanced`, or more images of these"
    advice = f"; as the classes differ greatly in size, try {way}"
    return f"no test image is classified as {names}, though {asked:,} should be" + (
        advice if max(sizes) > UNEQUAL * min(sizes) else ""
    )


def _swapped(report: dict[str, Any]) -> str:
    """A question about two classes of which most images are taken for the other one."""
    confusion, names = np.array(report["confusion_matrix"]), [row["class"] for row in report["classes"]]
    most = confusion > confusion.sum(1, keepdims=True) / 2
    pairs = np.argwhere(np.triu(most & most.T, 1))
    if not len(pairs):
        return ""
    said = (f"{names[one]} are classified as {names[other]}, and the other way round" for one, other in pairs)
    return f"most test images of {listed(said)}: are these labels swapped?"


def _draw(
    rows: Rows, model: Model, train: Images, test: Images, judged: dict[str, Any], display: Display
) -> dict[str, bytes]:
    plotted = plots.curves(rows)
    plotted["confusion"] = plots.confusion(judged["confusion_matrix"], model.classes)
    plotted["calibration"] = plots.calibration(judged["calibration"])
    if judged["worst"]:
        plotted["mistakes"] = drawn(judged["worst"], test, MISTAKE_COLUMNS)
        plotted["evidence"] = _explained(model, test, judged["worst"], display)
        plotted["similar"] = _learned_from(model, train, test, judged["worst"][:EXPLAINED], display)
    return {**plotted, **_filters(model), **plots.gradients(rows)}


def _explained(model: Model, test: Images, worst: list[dict[str, Any]], display: Display) -> bytes:
    """The first mistakes, each beside what in it speaks for which class."""
    tries = len(evidence.squares(*model.preprocessing.shape[1:]))
    some = worst[: min(EXPLAINED, max(SOME, TRIES * len(test) // tries))]
    pairs = [(one["predicted"], one["class"]) for one in some]
    return evidence.drawn(model, pixels_of(some, test), pairs, [caption(one) for one in some], display)


def _learned_from(model: Model, train: Images, test: Images, worst: list[dict[str, Any]], display: Display) -> bytes:
    """Mistakes, each beside the training images that are most like it, of a sample where there are many."""
    most = max(LEARNED, TRIES * len(test))
    if most < len(train):
        train = train.take(np.sort(np.random.default_rng(0).choice(len(train), most, replace=False)))
    rows = most_similar(model, test.take(np.array([one["index"] for one in worst])), train, SIMILAR, display)
    shown, captions = [], []
    for one, row in zip(worst, rows, strict=True):
        shown += [test.pixels[one["index"] : one["index"] + 1], train.pixels[np.array(row)]]
        captions += [caption(one), *(shortened(model.classes[label], BELOW) for label in train.labels[row])]
    return pictures.grid(to_unit(torch.from_numpy(np.concatenate(shown))).numpy(), 1 + len(rows[0]), captions)


def _filters(model: Model) -> dict[str, bytes]:
    """The first layer's weights as images: of a convolution its kernels, of a dense layer what each unit looks at.

    None where the first layer with weights does not look at the image itself.
    """
    weight = next(iter(weights_of(model.network).values()), None)
    if weight is None:
        return {}
    images = weight.detach().cpu()[:FILTERS]
    if images.dim() == 2:
        if images.shape[1] != math.prod(model.preprocessing.shape):
            return {}
        images = images.view(len(images), *model.preprocessing.shape)
    if images.shape[1] not in (1, 3):
        images = images[:, :1]
    weights = images.numpy()
    weights = np.clip(weights / max(np.percentile(np.abs(weights), MOST), 1e-12), -1, 1)
    shades = pictures.diverging(weights[:, 0]) if weights.shape[1] == 1 else (1 + weights) / 2
    return {"filters": pictures.grid(shades, FILTER_COLUMNS)}


def _page(
    run_dir: Path,
    summary: dict[str, Any],
    monitor: str,
    judged: dict[str, Any],
    plotted: dict[str, bytes],
    config: str,
    command: str,
) -> Page:
    verdict = " ".join(map(_sentence, (summary["stopped"], summary["verdict"]["text"])))
    remarks = [_sentence(line) for line in (*summary.get("remarks", ()), *judged["remarks"])]
    if summary["changes"]:
        command += f"\n# its settings were changed when it was resumed: {in_a_line('; '.join(summary['changes']))}"
    named = [{**one, "path": printable(one["path"])} for one in judged["worst"] if "path" in one]
    title, classes = printable(str(run_dir)), [row["class"] for row in judged["classes"]]
    frequent = confusions(judged["confusion_matrix"], classes)[:FREQUENT]
    return Page(
        title,
        verdict,
        _figures(summary, monitor, judged),
        plotted,
        judged["classes"],
        config,
        command,
        mistakes=named,
        remarks=remarks,
        confusions=frequent,
        accepted=judged["accepted"],
    )


def _figures(summary: dict[str, Any], monitor: str, judged: dict[str, Any]) -> dict[str, str]:
    best, images = summary["best"], summary["images"]
    balanced = best.get(BALANCED)
    counts = [f"{images[name]:,}" for name in ("train", "validation", "test")]
    if "expanded" in images:
        counts[0] += f", expanded to {images['expanded']:,}"
    low, high = wilson(best["test_accuracy"], images["test"])
    return {
        "test accuracy": percent(best["test_accuracy"]),
        "test accuracy, 95 % interval": f"{percent(low)} to {percent(high)}",
        "mistakes": f"{judged['wrong']:,} of {judged['tested']:,}",
        "balanced test accuracy": percent(judged["balanced_accuracy"]),
        **({"top-5 test accuracy": percent(judged["top_5_accuracy"])} if "top_5_accuracy" in judged else {}),
        "mean probability of predictions": percent(judged["mean_probability"]),
        "calibration error": percent(judged["calibration_error"]),
        "validation accuracy": percent(best["validation_accuracy"]),
        **({"balanced validation accuracy": percent(balanced)} if balanced is not None else {}),
        "best epoch": f"{best['epoch']} of {summary['epochs']}, by {in_words(monitor)}",
        "training time": f"{summary['seconds']:,.1f} s",
        "parameters": f"{summary['parameters']:,}",
        "images (training / validation / test)": " / ".join(counts),
        "seed": str(summary["seed"]),
        "device": summary["device"],
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"
