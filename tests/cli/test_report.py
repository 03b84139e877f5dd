"""`report` and `compare`: pictures and one page from what a run left on disk."""

import base64
import html
import io
import json
import re
import shlex
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.cbook import STEP_LOOKUP_MAP, is_math_text
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest
from torch import nn

from cnntrain.app import evaluate, evidence, mistakes, report
from cnntrain.app.display import Silent
from cnntrain.app.evaluate import report_on
from cnntrain.app.mistakes import caption, drawn, surest
from cnntrain.app.report import _explained, _filters, _learned_from, _swapped, _unpredicted
from cnntrain.data.images import Images
from cnntrain.reports import fonts, pictures, plots
from cnntrain.reports.fonts import font_for
from cnntrain.reports.page import CAPTIONS, Page, render
from cnntrain.reports.rows import Rows

PLOTS = {"accuracy", "loss", "gap", "learning_rate", "confusion", "mistakes", "filters", "gradients", "weights"}
PLOTS |= {"evidence", "calibration", "similar"}


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_pictures_and_page(cnntrain, run):
    outcome = cnntrain("report", run)
    assert (outcome.code, outcome.out) == (0, f"{run / 'report.html'}\n")
    assert {path.stem for path in (run / "plots").iterdir()} == PLOTS
    for path in (run / "plots").iterdir():
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path
    page = (run / "report.html").read_text()
    # Self-contained: every picture is within it, and nothing is fetched.
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert {base64.b64decode(data) for data in embedded} == {path.read_bytes() for path in (run / "plots").iterdir()}
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    summary = json.loads((run / "summary.json").read_text())
    assert f"{100 * summary['best']['test_accuracy']:.2f} %" in page
    assert "max_pool" in page
    assert f"cnntrain train {run}/config.yaml" in page


def test_the_page_holds_the_figures_that_the_files_hold(cnntrain, run):
    summary = json.loads((run / "summary.json").read_text())
    summary = {**summary, "best": {**summary["best"], "epoch": 2}, "parameters": 1234567, "seconds": 4321.06}
    (run / "summary.json").write_text(json.dumps(summary))
    report = json.loads(cnntrain("eval", run, "--json").out)
    assert cnntrain("report", run).code == 0
    page, best = html.unescape((run / "report.html").read_text()), summary["best"]
    found = binomtest(round(359 * best["test_accuracy"]), 359).proportion_ci(method="wilson")
    assert dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)) == {
        "test accuracy": f"{100 * best['test_accuracy']:.2f} %",
        "test accuracy, 95 % interval": " to ".join(f"{100 * bound:.2f} %" for bound in (found.low, found.high)),
        "mistakes": f"{len(report['mistakes'])} of 359",
        "balanced test accuracy": f"{100 * report['balanced_accuracy']:.2f} %",
        "mean probability of predictions": f"{100 * report['mean_probability']:.2f} %",
        "calibration error": f"{100 * report['calibration_error']:.2f} %",
        "validation accuracy": f"{100 * best['validation_accuracy']:.2f} %",
        "balanced validation accuracy": f"{100 * best['validation_balanced_accuracy']:.2f} %",
        "best epoch": "2 of 3, by validation accuracy",
        "training time": "4,321.1 s",
        "parameters": "1,234,567",
        "images (training / validation / test)": "1,294 / 144 / 359",
        "seed": "0",
        "device": summary["device"],
    }
    text = summary["verdict"]["text"]
    text = re.sub("`(.*?)`", r"<code>\1</code>", f"{text[0].upper()}{text[1:]}")
    assert f'<p class="verdict">All 3 epochs are done. {text}.</p>' in page
    assert re.findall(f"<tr><td>(.*?)</td>{3 * '<td>(.*?) %</td>'}<td>(.*?)</td></tr>", page) == [
        (one["class"], *(f"{100 * one[name]:.2f}" for name in ("precision", "recall", "f1")), str(one["images"]))
        for one in report["classes"]
    ]
    names, matrix = [one["class"] for one in report["classes"]], report["confusion_matrix"]
    frequent = re.findall(f"<tr>{2 * '<td class=.text.>(.*?)</td>'}<td>(.*?)</td></tr>", page)
    assert frequent and all(matrix[names.index(one)][names.index(said)] == int(n) for one, said, n in frequent)
    accepted = re.findall("<tr><td>(\\d+) %</td><td>(\\d+)</td><td>(.*?)</td></tr>", page)
    assert accepted == [
        (
            f"{100 * one['at_least']:.0f}",
            str(one["images"]),
            "-" if one["accuracy"] is None else f"{100 * one['accuracy']:.2f} %",
        )
        for one in report["accepted"]
    ]
    assert f"<pre>{(run / 'config.yaml').read_text()}</pre>" in page
    assert (run / "log.txt").read_text().endswith(f"\nreport: {run / 'report.html'}\n")


def test_pictures_have_their_captions_and_counts_have_commas():
    drawn = {"loss": b"1", "gap": b"2", "weights": b"3"}
    row = {"class": "a", "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 12345}
    text = render(Page("title", "verdict", {}, drawn, [row], "config", "command"))
    found = re.findall(r'<figure id="(.*?)">\s*<img .*?>\s*<figcaption>(.*?)<', text)
    assert [(name, said.split()[0]) for name, said in found] == [
        ("loss", "Where"),
        ("gap", "How"),
        ("weights", "If"),
    ]
    alternatives = re.findall('<img .*?alt="(.*?)">', text)
    assert alternatives == ["loss", "gap", "weights"], "who hears the page hears the caption once"
    assert "<td>a</td><td>50.00 %</td><td>25.00 %</td><td>75.00 %</td><td>12,345</td>" in text


def test_what_stands_in_backticks_is_code_and_nothing_else_is_markup():
    text = render(Page("title", "Try `<b>` or `l2`, not <i>.", {}, {}, [], "c", "c", remarks=["Set `x`."]))
    assert '<p class="verdict">Try <code>&lt;b&gt;</code> or <code>l2</code>, not &lt;i&gt;.</p>' in text
    assert "<li>Set <code>x</code>.</li>" in text


def test_the_page_is_in_the_order_of_what_is_asked():
    drawn = dict.fromkeys(reversed(CAPTIONS), b"1")
    row = {"class": "a", "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 1}
    sure = [{"at_least": 0.9, "images": 1234, "accuracy": 0.5}, {"at_least": 0.99, "images": 0, "accuracy": None}]
    text = render(Page("t", "v", {}, drawn, [row], "c", "c", confusions=[("a", "b", 1)], accepted=sure))
    found = [head or name for head, name in re.findall('<h2>(.*?)</h2>|<figure id="(.*?)">', text)]
    assert found == [
        *("What does it get wrong?", "mistakes", "evidence", "similar", "confusion", "The most frequent mistakes"),
        *("Test images by class", "How far can its probabilities be trusted?", "calibration"),
        *("If only sure predictions are taken", "How was it trained?", "accuracy", "loss", "gap", "learning_rate"),
        *("filters", "gradients", "weights", "To train it again", "Config"),
    ]
    assert "<tr><td>90 %</td><td>1,234</td><td>50.00 %</td></tr>" in text
    assert "<tr><td>99 %</td><td>0</td><td>-</td></tr>" in text


@pytest.mark.parametrize(("images", "explained"), [(10, 3), (300, 9), (5000, 12)])
def test_few_test_images_are_not_outdone_by_their_explanation(monkeypatch, images, explained):
    """Images of 8x8 pixels are covered 64 times."""
    asked = []
    monkeypatch.setattr(evidence, "evidence", lambda *given: asked.append(given[2:]) or np.zeros((8, 8)))
    test = Images(np.zeros((images, 1, 8, 8), np.uint8), np.zeros(images, np.int64))
    model = SimpleNamespace(classes=["a", "b"], preprocessing=SimpleNamespace(shape=(1, 8, 8)))
    wrong = [{"index": number % images, "class": "a", "predicted": "b", "probability": 0.5} for number in range(36)]
    _explained(model, test, wrong, Silent())
    # For what is predicted, against what is true.
    assert asked == [(1, 0)] * explained


@pytest.mark.parametrize(("tested", "looked_at"), [(10, 1_000), (700, 1_400), (2_000, 3_000)])
def test_of_many_training_images_a_sample_is_looked_at(monkeypatch, tested, looked_at):
    asked = []

    def most_similar(model, images, among, count, display):
        asked.append((images, among))
        return [[4, 2, 1]] * len(images)

    monkeypatch.setattr(report, "most_similar", most_similar)
    pixels = np.random.default_rng(0).integers(0, 255, (3_000, 1, 8, 8), dtype=np.uint8)
    train = Images(pixels, np.arange(3_000) % 2)
    test = Images(pixels[:tested], np.zeros(tested, np.int64))
    wrong = [{"index": 7, "class": "a", "predicted": "b"}, {"index": 3, "class": "a", "predicted": "b"}]
    sheet = _learned_from(SimpleNamespace(classes=["a", "b"]), train, test, wrong, Silent())
    ((images, among),) = asked
    assert (images.pixels == pixels[[7, 3]]).all()
    rows = among.pixels.reshape(len(among), -1)
    assert len({row.tobytes() for row in rows}) == looked_at
    # Eight times larger, the mistake before the images that are like it.
    shown = np.asarray(Image.open(io.BytesIO(sheet)).convert("L"))
    side, wide = 72, (shown.shape[1] - 6) // 4
    for place, pixel in enumerate([test.pixels[7], *among.pixels[[4, 2, 1]]]):
        left = 6 + place * wide
        assert (shown[6 : 6 + side : 9, left : left + side : 9] == pixel[0]).all()


def test_names_of_classes_are_escaped(cnntrain, tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    config = f"data: {{source: {{npz: {{path: {tmp_path}/x.npz, classes: ['<script>', 'b']}}}}}}\nnetwork: [softmax]"
    (tmp_path / "c.yaml").write_text(config + "\ntraining: {epochs: 1}")
    assert cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run", "-q").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_train_ends_with_a_report(cnntrain, tiny, tmp_path):
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tmp_path / "r")
    assert outcome.code == 0
    assert f"report: {tmp_path / 'r' / 'report.html'}" in outcome.err
    assert (tmp_path / "r" / "report.html").is_file()


def test_a_first_layer_that_does_not_look_at_the_image_has_no_picture(cnntrain, tmp_path):
    (tmp_path / "c.yaml").write_text("network: [{avg_pool: 2}, flatten, softmax]\ntraining: {epochs: 1}\n")
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run")
    assert (outcome.code, (tmp_path / "run" / "plots" / "filters.png").exists()) == (0, False)
    assert (tmp_path / "run" / "report.html").is_file()


def test_an_unfinished_run(cnntrain, run):
    (run / "summary.json").unlink()
    outcome = cnntrain("report", run)
    assert outcome.code == 2
    assert f"--resume {run}" in outcome.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", b"{}"),
        ("summary.json", b"null"),
        ("summary.json", b'["x"]'),
        ("summary.json", b"\xff"),
        pytest.param("summary.json", b"[" * 200_000, id="deep"),
        ("metrics.csv", b"a,b\n1,2\n"),
        ("metrics.csv", b"\xff\xfe"),
        ("metrics.csv", b""),
        ("diagnostics.csv", b"epoch,layer,weight_norm,gradient_norm\n0,conv,1,x\n"),
    ],
)
@pytest.mark.parametrize("command", ["report", "compare"])
def test_damaged_files(command, name, content, cnntrain, run, monkeypatch):
    monkeypatch.chdir(run.parent)
    (run / name).write_bytes(content)
    outcome = cnntrain(command, run)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {run / name}: ")
    mended = f"damaged; `cnntrain doctor {run}` says how to fix it"
    assert (mended if content else "holds no finished epoch, so there is nothing to report") in outcome.err


FIGURES = [
    "run_dir",
    "stopped",
    "changes",
    "epochs",
    "best",
    "verdict",
    "seconds",
    "seed",
    "device",
    "parameters",
    "images",
]
PARTS = [("best", "epoch"), ("best", "validation_accuracy"), ("best", "test_accuracy"), ("verdict", "text")]
PARTS += [("images", "train"), ("images", "validation"), ("images", "test")]


@pytest.mark.parametrize("place", [(name,) for name in FIGURES] + PARTS)
def test_a_summary_that_lacks_a_figure_is_damage(cnntrain, run, place):
    summary = json.loads((run / "summary.json").read_text())
    holder = summary if len(place) == 1 else summary[place[0]]
    del holder[place[-1]]
    (run / "summary.json").write_text(json.dumps(summary))
    for command in ("report", "compare"):
        outcome = cnntrain(command, run)
        assert (outcome.code, "summary.json: damaged" in outcome.err) == (2, True)
    assert "summary.json: damaged" in cnntrain("doctor", run).out


@pytest.mark.parametrize(
    ("place", "value"), [(("images", "test"), 0), (("best", "test_accuracy"), 1.5), (("epochs",), -1)]
)
def test_a_summary_of_what_can_not_be_is_damage(cnntrain, run, place, value):
    summary = json.loads((run / "summary.json").read_text())
    holder = summary if len(place) == 1 else summary[place[0]]
    holder[place[-1]] = value
    (run / "summary.json").write_text(json.dumps(summary))
    outcome = cnntrain("compare", run)
    assert (outcome.code, "summary.json: damaged" in outcome.err) == (2, True)


def test_what_stands_in_a_summary_does_not_act_on_the_terminal(cnntrain, run, monkeypatch):
    monkeypatch.chdir(run.parent)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "device": "\x1b[31mred"}))
    out = cnntrain("compare", run).out
    assert "\\x1b[31mred" in out and "\x1b" not in out


@pytest.mark.parametrize("value", ["", "nan", "inf", "1e308"])
@pytest.mark.parametrize("name", ["epoch", "validation_accuracy"])
@pytest.mark.parametrize("command", ["report", "compare"])
def test_epochs_without_a_figure_are_damage(command, name, value, cnntrain, run, monkeypatch):
    monkeypatch.chdir(run.parent)
    names, *rows = (line.split(",") for line in (run / "metrics.csv").read_text().splitlines())
    for row in rows:
        row[names.index(name)] = value
    (run / "metrics.csv").write_text("\n".join(map(",".join, [names, *rows])))
    outcome = cnntrain(command, run)
    assert (outcome.code, outcome.err.partition(";")[0]) == (2, f"error: {run / 'metrics.csv'}: damaged")


def test_numbers_in_quotes_are_damage(cnntrain, run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "parameters": str(summary["parameters"])}))
    outcome = cnntrain("report", run)
    assert (outcome.code, outcome.err.partition(";")[0]) == (2, f"error: {run / 'summary.json'}: damaged")


def test_a_best_epoch_without_figures_is_damage(cnntrain, run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "best": None}))
    assert "summary.json: damaged" in cnntrain("report", run).err


def test_the_command_in_the_page_is_one_that_can_be_run(cnntrain, trained, tmp_path):
    run, plugin = tmp_path / "a run", tmp_path / "my layers.py"
    shutil.copytree(trained, run)
    plugin.write_text("")
    options = ["--data-dir", str(tmp_path), "--device", "cpu", "--plugin", str(plugin)]
    assert cnntrain("report", run, *options).code == 0
    found = re.search(r"cnntrain train [^\n<]*", (run / "report.html").read_text())
    assert shlex.split(html.unescape(found[0])) == ["cnntrain", "train", str(run / "config.yaml"), *options]


COMPARED = ["test_accuracy", "validation_accuracy", "best_epoch", "epochs", "parameters", "seconds", "device"]


def test_of_many_classes_the_page_has_top_5_accuracy(cnntrain, run, monkeypatch):
    for readable, is_told in ((10, False), (9, True)):
        monkeypatch.setattr(evaluate, "READABLE", readable)
        assert cnntrain("report", run).code == 0
        found = re.findall("<dt>top-5 test accuracy</dt><dd>(.*?) %</dd>", (run / "report.html").read_text())
        figures = json.loads(cnntrain("eval", run, "--json").out)
        assert found == ([f"{100 * figures['top_5_accuracy']:.2f}"] if is_told else [])


def test_what_is_done_already_is_no_advice():
    logits = torch.tensor([[1.0, 0.0]]).repeat(12, 1)
    report = report_on(["many", "few"], np.arange(12) // 11, logits)
    said = "no test image is classified as few, though 1 should be; as the classes differ greatly in size, try "
    assert _unpredicted(report, is_balanced=False) == said + "`training.shuffle: balanced`, or more images of these"
    assert _unpredicted(report, is_balanced=True) == said + "more images of these"


def test_balanced_accuracies_are_compared_where_one_is_monitored(cnntrain, run, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["training.monitor=validation_balanced_accuracy", "training.epochs=1"]
    assert cnntrain("train", tiny, *overrides, "--run-dir", "other", "-q").code == 0
    first = json.loads((run / "summary.json").read_text())
    del first["best"]["test_balanced_accuracy"]
    (run / "summary.json").write_text(json.dumps(first))
    figures = json.loads(cnntrain("compare", run, "other", "--json").out)["figures"]
    balanced = ["test_balanced_accuracy", "validation_balanced_accuracy"]
    assert list(figures["other"]) == [*COMPARED[:2], *balanced, *COMPARED[2:]]
    other = json.loads((tmp_path / "other" / "summary.json").read_text())["best"]
    assert [figures["other"][name] for name in balanced] == [other[name] for name in balanced]
    assert figures[str(run)][balanced[0]] is None
    table = {line.split()[0]: line.split()[1:] for line in cnntrain("compare", run, "other").out.splitlines()[1:]}
    assert table[balanced[0]] == ["-", f"{100 * other[balanced[0]]:.2f}", "%"]


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_balanced_accuracy", "validation_accuracy"])
def test_the_best_run_is_that_by_what_all_monitor(cnntrain, run, tmp_path, monkeypatch, monitor):
    monkeypatch.chdir(tmp_path)
    summary, config = (run / "summary.json").read_text(), (run / "config.yaml").read_text()
    ranks = {"validation_loss": (0.3, 0.1, 0.2), "validation_accuracy": (0.8, 0.7, 0.9)}
    ranks["validation_balanced_accuracy"] = (0.9, 0.8, 0.7)
    for number in range(15):
        copy = shutil.copytree(run, tmp_path / f"run-{number}")
        best = {**json.loads(summary)["best"], **{name: values[number % 3] for name, values in ranks.items()}}
        (copy / "summary.json").write_text(json.dumps({**json.loads(summary), "best": best}))
        (copy / "config.yaml").write_text(config.replace("monitor: validation_accuracy", f"monitor: {monitor}"))
    names = [f"run-{number}" for number in range(15)]
    sign = 1 if monitor == "validation_loss" else -1
    wanted = sorted(names, key=lambda name: sign * ranks[monitor][int(name[4:]) % 3])
    assert json.loads(cnntrain("compare", *names, "--json").out)["best_first"] == wanted
    drawn = []
    monkeypatch.setattr(plots, "overlay", lambda rows, column, title: drawn.append((column, title)) or b"")
    head, *lines = cnntrain("compare", *names).out.splitlines()[:-1]
    is_balanced = monitor == "validation_balanced_accuracy"
    shown = "Balanced validation accuracy (%)" if is_balanced else "Validation accuracy (%)"
    assert drawn == [(monitor if is_balanced else "validation_accuracy", shown)]
    assert [line.split()[0] for line in lines] == wanted and monitor in head.split()
    if monitor == "validation_loss":
        assert "0.1000" in lines[0].split()
    # Where they do not agree it is accuracy.
    (tmp_path / "run-0" / "config.yaml").write_text(
        config.replace("monitor: validation", "monitor: validation_balanced")
    )
    if monitor == "validation_loss":
        found = json.loads(cnntrain("compare", *names, "--json").out)
        assert found["best_first"][:5] == [f"run-{number}" for number in (2, 5, 8, 11, 14)]


def test_a_run_of_an_earlier_version_differs_in_nothing(cnntrain, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    older = shutil.copytree(run, tmp_path / "older")
    config = (older / "config.yaml").read_text()
    (older / "config.yaml").write_text(config.replace("  monitor: validation_accuracy\n", ""))
    assert (older / "config.yaml").read_text() != config
    found = json.loads(cnntrain("compare", run, "older", "--json").out)
    assert list(found["differences"].values()) == [{}, {}]


def test_compare(cnntrain, run, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    best = {**summary["best"], "epoch": 2, "validation_accuracy": 0.875, "test_accuracy": 0.8125}
    first = {**summary, "best": best, "seconds": 4321.06}
    (run / "summary.json").write_text(json.dumps(first))
    overrides = ["network.0.conv.filters=4", "seed=1234", "data.normalize=true", "data.test={size: 0.2, seed: 4321}"]
    overrides += ["training.schedule={step: {step_size: 2}}"]
    assert cnntrain("train", tiny, *overrides, "--run-dir", "other", "-q").code == 0
    found = json.loads(cnntrain("compare", run, "other", "--json").out)
    values = {
        "data.normalize": (False, True),
        "data.test.seed": (None, 4321),
        "data.test.size": (None, 0.2),
        "network.0.conv.filters": (8, 4),
        "seed": (0, 1234),
        "training.schedule.cosine.end": (0.0, None),
        "training.schedule.step.gamma": (None, 0.1),
        "training.schedule.step.step_size": (None, 2),
    }
    for place, name in enumerate((str(run), "other")):
        assert list(found["differences"][name].items()) == [(key, both[place]) for key, both in values.items()]
        assert list(found["figures"][name]) == COMPARED
    summary = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert found["figures"]["other"]["test_accuracy"] == summary["best"]["test_accuracy"]
    runs = {name: Rows.read(tmp_path / name) for name in (str(run), "other")}
    drawn = plots.overlay(runs, "validation_accuracy", "Validation accuracy (%)")
    assert (tmp_path / "compare.png").read_bytes() == drawn
    changes = ["after epoch 1, batch 0: seed=3", "after epoch 2, batch 0: seed=4"]
    (run / "summary.json").write_text(json.dumps({**first, "changes": changes}))
    outcome = cnntrain("compare", run, "other")
    table = {line.split()[0]: line.split()[1:] for line in outcome.out.splitlines()[1:]}
    assert outcome.out.splitlines()[0].split() == [str(run), "other"]
    assert list(table)[:-1] == [*values, *COMPARED, "changed"]
    assert table["network.0.conv.filters"] == ["8", "4"]
    assert table["data.normalize"] == ["False", "True"]
    assert table["training.schedule.cosine.end"] == ["0.0", "-"]
    assert table["changed"] == [*"; ".join(changes).split(), "-"]
    figures = [json.loads((place / "summary.json").read_text()) for place in (run, tmp_path / "other")]
    for name in ("test_accuracy", "validation_accuracy"):
        assert table[name] == [word for one in figures for word in (f"{100 * one['best'][name]:.2f}", "%")]
    assert table["best_epoch"] == [str(one["best"]["epoch"]) for one in figures]
    assert table["seconds"] == [f"{one['seconds']:,.1f}" for one in figures]
    assert table["parameters"] == [f"{one['parameters']:,}" for one in figures]
    assert table["seed"] == ["0", "1234"]
    assert table["data.test.seed"] == ["-", "4321"]
    assert outcome.out.endswith("curves: compare.png\n")
    outcome = cnntrain("compare", run, tmp_path)
    assert (outcome.code, outcome.err) == (2, f"error: {tmp_path}: not a finished run: it has no `summary.json`\n")


def test_runs_that_differ_in_their_seeds_alone_are_averaged(cnntrain, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary, config = json.loads((run / "summary.json").read_text()), (run / "config.yaml").read_text()
    accuracies = {
        ("a", 0): (0.5, 0.6),
        ("a", 1): (0.6, 0.8),
        ("a", 2): (0.7, 0.7),
        ("b", 0): (0.9, 0.9),
        ("c", 0): (0, 0),
    }
    accuracies["b", 3] = (0.8, 1.0)
    for (name, seed), (test, validation) in accuracies.items():
        copy = shutil.copytree(run, tmp_path / f"{name}-{seed}")
        best = {**summary["best"], "test_accuracy": test, "validation_accuracy": validation}
        (copy / "summary.json").write_text(json.dumps({**summary, "seed": seed, "best": best}))
        changed = config.replace("seed: 0", f"seed: {seed}", 1).replace("filters: 8", f"filters: {ord(name)}")
        (copy / "config.yaml").write_text(changed)
    # A copy of a run is no other seed, and what was resumed with other settings, or saw other data, no other run.
    for name, there in (("c-0", "c-again"), ("a-0", "a-again"), ("b-0", "changed"), ("b-0", "unlike")):
        shutil.copytree(tmp_path / name, tmp_path / there)
    for name, keys in (("changed", {"changes": ["after epoch 1, batch 0: x=1"]}), ("unlike", {"data": {"train": "0"}})):
        whole = json.loads((tmp_path / name / "summary.json").read_text())
        (tmp_path / name / "summary.json").write_text(json.dumps({**whole, **keys}))
        (tmp_path / name / "config.yaml").write_text((tmp_path / "b-3" / "config.yaml").read_text())
    names = [f"{name}-{seed}" for name, seed in accuracies] + ["c-again", "a-again", "changed", "unlike"]
    outcome = cnntrain("compare", *names, "--json")
    b, a = json.loads(outcome.out)["over_seeds"]
    assert (a["runs"], b["runs"]) == (["a-1", "a-2", "a-0"], ["b-3", "b-0"]), "the best first"
    assert a["mean"] == {"test_accuracy": pytest.approx(0.6), "validation_accuracy": pytest.approx(0.7)}
    assert a["standard_error"]["test_accuracy"] == pytest.approx(0.1 / 3**0.5)
    assert b["standard_error"]["validation_accuracy"] == pytest.approx(0.05)
    text = cnntrain("compare", *names).out
    assert text.split("\n\n")[1].splitlines() == [
        "means of runs that differ only in their seeds, and the standard errors of these",
        "                  test_accuracy  validation_accuracy",
        "b-3 and 1 more  85.00 +- 5.00 %      95.00 +- 5.00 %",
        "a-1 and 2 more  60.00 +- 5.77 %      70.00 +- 5.77 %",
    ]
    assert "over_seeds" in json.loads(cnntrain("compare", "c-0", "c-again", "--json").out)
    assert "means" not in cnntrain("compare", "c-0", "c-again").out


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("command", ["compare", "ensemble"])
def test_what_is_found_is_printed_though_it_can_not_be_drawn(cnntrain, run, tmp_path, command, options, monkeypatch):
    outcome = cnntrain(command, run, "--picture", tmp_path / "nowhere" / "x.png", *options)
    assert (outcome.code, outcome.err) == (1, f"error: {tmp_path / 'nowhere' / 'x.png'}: No such file or directory\n")
    assert str(run) in outcome.out and "drawn" not in outcome.out and "curves" not in outcome.out

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(plots, "overlay", fail)
    monkeypatch.setattr(mistakes, "grid", fail)
    again = cnntrain(command, run, "--picture", tmp_path / "x.png", *options)
    assert (again.code, again.out) == (1, outcome.out.replace("nowhere/", ""))
    assert "out of memory" in again.err


def test_many_runs_have_a_line_each(cnntrain, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"run-{number}" for number in range(len(COMPARED) + 2)]
    for name in names:
        shutil.copytree(run, name)
    head, *lines, _ = cnntrain("compare", *names).out.splitlines()
    assert head.split() == COMPARED
    assert [line.split()[0] for line in lines] == names
    summary = json.loads((run / "summary.json").read_text())
    assert {line.split()[1] for line in lines} == {f"{100 * summary['best']['test_accuracy']:.2f}"}
    summary["best"]["validation_accuracy"] = 1.0
    (tmp_path / names[3] / "summary.json").write_text(json.dumps(summary))
    _, first, second, *_ = cnntrain("compare", *names).out.splitlines()
    assert (first.split()[0], second.split()[0]) == (names[3], names[0])
    # A line more than runs.
    turned = cnntrain("compare", *names[:-1]).out.splitlines()
    assert turned[0].split() == names[:-1]


def test_of_many_runs_the_highest_have_names(run, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_figure", lambda title, draw: drawn.append(draw))
    rows = Rows.read(run)
    for count in (plots.COLOURS, plots.COLOURS + 10):
        higher = [{**row, "validation_accuracy": 0.99} for row in rows.metrics]
        runs = {f"run {number}": rows for number in range(count - 1)} | {"best": replace(rows, metrics=higher)}
        plots.overlay(runs, "validation_accuracy", "Validation accuracy (%)")
        axes = Figure().add_subplot()
        drawn[-1](axes)
        assert len(axes.get_lines()) == count
        names = axes.get_legend_handles_labels()[1]
        assert names == (list(runs) if count == plots.COLOURS else [*list(runs)[: plots.HIGHEST - 1], "best"])


def test_runs_that_have_not_ended_are_left_out(cnntrain, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "diverged")
    Path("diverged/summary.json").unlink()
    outcome = cnntrain("compare", "run", "diverged")
    assert outcome.out == cnntrain("compare", "run").out
    assert outcome.err == "warning: diverged is left out because it is not finished; see its log.txt\n"
    assert json.loads(cnntrain("compare", "run", "diverged", "--json").out)["unfinished"] == ["diverged"]
    outcome = cnntrain("compare", "diverged")
    assert (outcome.code, outcome.err) == (2, "error: diverged: not a finished run: it has no `summary.json`\n")


def test_a_grid_has_a_place_for_every_image_and_caption():
    images = np.stack([np.full((1, 4, 4), value, np.float32) for value in (0.0, 0.5, 1.0)])
    sheet = np.asarray(Image.open(io.BytesIO(pictures.grid(images, 2, ["a very long caption", "b", "c\nd"]))))
    greys = {int(value) for value in np.unique(sheet)}
    assert {0, 128, 255} <= greys
    assert sheet.shape[0] > 2 * pictures.SIDE + 2 * 2 * pictures.LINE
    assert sheet.shape[1] > 2 * pictures.SIDE + 40


def test_images_are_enlarged_and_stand_row_by_row():
    images = np.zeros((5, 3, 2, 4), np.float32)
    images[:, 0] = np.linspace(0, 1, 5).reshape(5, 1, 1)
    images[:, 1, 1] = 1
    images[:, 2, :, 3] = 0.5
    sheet = np.asarray(Image.open(io.BytesIO(pictures.grid(images, 3))))
    # Pictures of 4x2 pixels become 72x36, with a gap of 6 around each; the sixth place is empty.
    assert sheet.shape == (6 + 2 * 42, 6 + 3 * 78, 3)
    for index in range(6):
        place = sheet[6 + index // 3 * 42 :, 6 + index % 3 * 78 :][:36, :72]
        wanted = np.full((2, 4, 3), 255.0)
        if index < 5:
            wanted = np.round(images[index].transpose(1, 2, 0) * 255)
        np.testing.assert_array_equal(place, wanted.repeat(18, 0).repeat(18, 1))


def test_names_in_other_scripts_are_drawn_with_their_letters():
    assert font_for("Größe \u0441\u043e\u0431\u0430\u043a\u0430", 12).getname()[0] == "DejaVu Sans"
    image = np.zeros((1, 1, 2, 2), np.float32)
    sheets = {name: pictures.grid(image, 1, [name]) for name in ("ß", "\u0434", "\u03b1", "\ue123")}
    # The last one is no character of any font, and all such look alike.
    assert len(set(sheets.values())) == 4 and pictures.grid(image, 1, ["\ue124"]) == sheets["\ue123"]


def test_a_font_of_the_system_stands_in_where_another_lacks_a_letter(monkeypatch):
    known = {"one": ("one.ttf", frozenset(b"ab")), "other": ("other.ttf", frozenset(b"abc"))}
    monkeypatch.setattr(fonts, "families", lambda: list(known))
    monkeypatch.setattr(fonts, "_file", lambda family: known[family if family in known else "one"])
    monkeypatch.setattr(fonts.ImageFont, "truetype", lambda path, size: (path, size))
    chosen = [fonts.font_for(text, 9) for text in ("a b", "c a", "d")]
    assert chosen == [("one.ttf", 9), ("other.ttf", 9), ("one.ttf", 9)]


def test_lines_stand_below_each_other():
    image = np.zeros((1, 1, 8, 8), np.float32)
    one, both = (np.asarray(Image.open(io.BytesIO(pictures.grid(image, 1, [text])))) for text in ("xx", "xx\nxx"))
    below = one.shape[0] - pictures.LINE
    np.testing.assert_array_equal(both[below - 1 : -pictures.LINE], one[below - 1 :])
    np.testing.assert_array_equal(both[below - 1 + pictures.LINE :], one[below - 1 :])


def test_large_images_are_made_smaller_and_what_is_no_number_is_grey():
    images = np.random.default_rng(0).random((2, 3, 600, 900), np.float32)
    maps = np.full((2, 600, 900), np.nan)
    assert Image.open(io.BytesIO(pictures.grid(images, 2))).size == (6 + 2 * 231, 150 + 12)
    sheet = Image.open(io.BytesIO(pictures.explained(images, maps, 2, ["", ""])))
    assert sheet.width < 4 * (pictures.LARGEST + 6) + 6
    grey = np.asarray(sheet)[10, 6 + 225 + 6 + 5]
    assert len(set(grey.tolist())) == 1


def test_the_first_layer_s_weights_are_shown_by_sign_on_one_scale():
    layer = nn.Conv2d(1, 2, 2)
    layer.weight.data = torch.tensor([[[[1.0, 0.5], [0.0, -1.0]]], [[[0.0] * 2] * 2]])
    drawn = _filters(SimpleNamespace(network=nn.Sequential(layer)))["filters"]
    weights = layer.weight.detach().numpy()[:, 0]
    scale = np.percentile(np.abs(weights), 99.5)
    assert drawn == pictures.grid(pictures.diverging(np.clip(weights / scale, -1, 1)), 10)


def test_few_images_take_no_more_room_than_they_need():
    images = np.zeros((2, 1, 8, 8), np.float32)
    assert pictures.grid(images, 6) == pictures.grid(images, 2)


def test_long_names_are_shortened_below_mistakes():
    assert caption({"class": "a name of many letters", "predicted": "x"}) == "a nam...tters\npredicted x"


def test_what_speaks_for_each_side_is_laid_over_the_image():
    images = np.full((2, 1, 1, 3), 0.5, np.float32)
    maps = np.array([[[2.0, 0.0, -1.0]], [[0.0, 0.0, 0.0]]])
    sheet = np.asarray(Image.open(io.BytesIO(pictures.explained(images, maps, 2, ["a", "b"]))))
    # Each image, of three squares of 24 pixels, is followed by its map after a gap of 6.
    shown = [sheet[6 + 12, 6 + 78 * number + 12 + 24 * place].astype(int) for number in range(4) for place in range(3)]
    grey = [128] * 3
    assert all(abs(pixel - grey).max() <= 1 for pixel in [*shown[:3], *shown[6:]])
    strong, none, weak = shown[3:6]
    np.testing.assert_allclose(strong / 255, 0.25 * 0.5 + 0.75 * np.array(pictures.ORANGE), atol=0.01)
    assert abs(none - grey).max() <= 1
    np.testing.assert_allclose(weak / 255, 0.625 * 0.5 + 0.375 * np.array(pictures.BLUE), atol=0.01)


def test_weights_have_the_colour_of_their_sign():
    shades = pictures.diverging(np.array([[[1.0, 0.5, 0.0, -0.5, -1.0]]]))
    orange, blue, white = np.array(pictures.ORANGE), np.array(pictures.BLUE), np.ones(3)
    wanted = [orange, (orange + white) / 2, white, (blue + white) / 2, blue]
    np.testing.assert_allclose(shades[0, :, 0].T, wanted)


def test_each_image_has_its_own_caption():
    images = np.zeros((2, 1, 8, 8), np.float32)
    one, other, both = (
        np.asarray(Image.open(io.BytesIO(pictures.grid(images[: len(captions)], 2, captions))))
        for captions in (["7\npredicted 1"], ["4\npredicted 9"], ["7\npredicted 1", "4\npredicted 9"])
    )
    wide = (both.shape[1] - pictures.GAP) // 2
    np.testing.assert_array_equal(both[:, :wide], one[:, :wide])
    np.testing.assert_array_equal(both[:, wide : 2 * wide], other[:, :wide])


def test_the_worst_mistakes_are_those_of_which_the_network_was_surest():
    def sheet_of(images, probabilities):
        found = mistakes.mistakes(["cat", "dog"], images, *mistakes.likeliest(probabilities.log()))
        return drawn(surest(found, 36), images, 6)

    probabilities = torch.tensor([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]])
    pixels = np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 1, 2, 2) * 60
    captions = ["cat\npredicted dog\n80.0 %", "cat\npredicted dog\n70.0 %", "dog\npredicted cat\n60.0 %"]
    sheet = sheet_of(Images(pixels, np.array([1, 0, 0, 0])), probabilities)
    assert sheet == pictures.grid(pixels[[1, 3, 0]] / 255, 6, captions)
    many = Images(pixels[:1].repeat(50, 0), np.ones(50, np.int64))
    sheet = sheet_of(many, probabilities[2:3].expand(50, 2))
    assert sheet == pictures.grid(many.pixels[:36] / 255, 6, ["dog\npredicted cat\n90.0 %"] * 36)


COLUMNS = [f"{name}_{what}" for name in ("sample", "validation", "test") for what in ("accuracy", "loss")]


def of_epochs(*rates):
    """The metrics of a run, as far as its plots need them."""
    figures = {f"{name}_{what}": 0.5 for name in ("sample", "validation", "test") for what in ("accuracy", "loss")}
    both = {**figures, "best": "true"}
    return Rows([{"epoch": epoch, "learning_rate": rate, **both} for epoch, rate in enumerate(rates, start=1)], [])


def axes_of(monkeypatch, draw):
    """The axes that were drawn on, for a look at what is on them; a warning is an error."""
    drawn = []
    made = plots.Figure.add_subplot
    monkeypatch.setattr(plots.Figure, "add_subplot", lambda figure: drawn.append(made(figure)) or drawn[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw()
    return drawn


def test_a_single_epoch_is_seen(monkeypatch):
    for axes in axes_of(monkeypatch, lambda: plots.curves(of_epochs(0.1))):
        line = axes.get_lines()[0]
        assert line.get_marker() == "o" or len(line.get_xdata()) == 2
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high and tick % 1] == []


def test_an_epoch_s_learning_rate_is_drawn_over_that_epoch(monkeypatch):
    drawn = axes_of(monkeypatch, lambda: plots.curves(of_epochs(0.4, 0.2, 0.1)))[-1].get_lines()[0]
    places, heights = STEP_LOOKUP_MAP[drawn.get_drawstyle()](drawn.get_xdata(), drawn.get_ydata())
    assert np.interp([0.5, 1.5, 2.5], places, heights).tolist() == [0.4, 0.2, 0.1]


def lines_of(axes):
    """What is drawn of each label: its places and heights."""
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_curves_are_of_the_columns_that_they_are_named_after(monkeypatch):
    names = ("sample_accuracy", "validation_accuracy", "sample_loss", "validation_loss")
    values = np.array([[0.5, 0.4, 0.9, 1.0], [0.75, 0.625, 0.5, 0.6], [1.0, 0.5, 0.2, 0.8]])
    best = {"test_accuracy": 0.25, "best": "true"}, {"test_accuracy": 0.375, "best": "true"}
    both = [*best, {"test_accuracy": None, "best": "false"}]
    metrics = [
        {"epoch": epoch, "learning_rate": 0.1, **dict(zip(names, row, strict=True)), **more}
        for epoch, (row, more) in enumerate(zip(values.tolist(), both, strict=True), start=1)
    ]
    accuracy, loss, gap, _ = axes_of(monkeypatch, lambda: plots.curves(Rows(metrics, [])))
    epochs = [1.0, 2.0, 3.0]
    drawn = lines_of(accuracy)
    assert drawn["training"] == (epochs, [50, 75, 100])
    assert drawn["validation"] == (epochs, [40, 62.5, 50])
    tested = drawn["test, where an epoch is the best so far"]
    np.testing.assert_array_equal(tested, (epochs, [25, 37.5, np.nan]))
    # All but the first fifth of what is drawn is in sight: 2 points below the second lowest of six values.
    assert accuracy.get_ylim() == (48, 100.2)
    assert loss.get_yscale() == "log"
    assert lines_of(loss)["training"] == (epochs, [0.9, 0.5, 0.2])
    assert lines_of(loss)["validation"] == (epochs, [1.0, 0.6, 0.8])
    np.testing.assert_allclose(gap.get_lines()[0].get_ydata(), [10, 12.5, 50])
    for axes in (accuracy, loss):
        assert lines_of(axes)["best: epoch 2"][0] == [2, 2]
    assert len(gap.get_lines()) == 2
    # Balanced accuracy is drawn where it is another.
    assert "validation, balanced" not in drawn
    for apart, is_drawn in ((0.009, False), (0.02, True)):
        for row, plain in zip(metrics, [0.4, 0.625, 0.5], strict=True):
            row["validation_balanced_accuracy"] = plain
        metrics[1]["validation_balanced_accuracy"] -= apart
        accuracy, *_ = axes_of(monkeypatch, lambda: plots.curves(Rows(metrics, [])))
        drawn = lines_of(accuracy)
        assert ("validation, balanced" in drawn) is is_drawn
    assert accuracy.get_ylim()[0] == 38
    np.testing.assert_allclose(drawn["validation, balanced"][1], [40, 60.5, 50])
    # It is in sight, but for its first fifth, however far below.
    for row, balanced in zip(metrics, [0.1, 0.2, None], strict=True):
        row["validation_balanced_accuracy"] = balanced
    assert axes_of(monkeypatch, lambda: plots.curves(Rows(metrics, [])))[0].get_ylim()[0] == pytest.approx(8)
    metrics[2]["sample_loss"] = 0.0
    assert axes_of(monkeypatch, lambda: plots.curves(Rows(metrics, [])))[1].get_yscale() == "linear"


def test_powers_have_plain_numbers(monkeypatch):
    def labels(*losses):
        rows = [
            {"epoch": epoch, "learning_rate": 0.1, "best": "true", **dict.fromkeys(COLUMNS, loss)}
            for epoch, loss in enumerate(losses, 1)
        ]
        axes = axes_of(monkeypatch, lambda: plots.curves(Rows(rows, [])))[1]
        axes.figure.canvas.draw()
        low, high = axes.get_ylim()
        ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        return [label.get_text() for at, label in ticks if low <= at <= high]

    assert labels(2.0, 0.04) == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
    assert labels(10.0, 0.0001) == ["0.0001", "0.001", "0.01", "0.1", "1", "10"]
    assert all("$" not in text for text in labels(2.31, 2.29))


def test_how_sure_and_how_right_is_drawn_with_its_interval(monkeypatch):
    among = [{"images": 3, "probability": 0.4, "accuracy": 0.0}, {"images": 1234, "probability": 0.9, "accuracy": 0.8}]
    [axes] = axes_of(monkeypatch, lambda: plots.calibration(among))
    points = [line.get_xydata().tolist()[0] for line in axes.get_lines()[1:]]
    np.testing.assert_allclose(points, [[40, 0], [90, 80]])
    assert [text.get_text() for text in axes.texts] == ["3", "1,234"]
    ends = [bar.get_segments()[0][:, 1].tolist() for bar in axes.collections]
    for end, (right, count) in zip(ends, ((0, 3), (987, 1234)), strict=True):
        found = binomtest(right, count).proportion_ci(method="wilson")
        np.testing.assert_allclose(end, [100 * found.low, 100 * found.high], rtol=1e-3, atol=1e-9)


def test_norms_are_drawn_layer_by_layer(monkeypatch):
    diagnostics = [
        {"epoch": epoch, "layer": f"{layer}_dense", "weight_norm": 10 * epoch + layer, "gradient_norm": layer + epoch}
        for epoch in (1, 2)
        for layer in range(10)
    ]
    drawn = axes_of(monkeypatch, lambda: plots.gradients(Rows([], diagnostics)))
    for axes, height in zip(drawn, (lambda e, n: n + e, lambda e, n: 10 * e + n), strict=True):
        lines = axes.get_lines()
        heights = [list(line.get_ydata()) for line in lines]
        assert heights == [[height(1, layer), height(2, layer)] for layer in range(10)]
        # So many layers would fill the picture with names: the ends are named, and colours tell the others.
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0_dense", "9_dense"]
        assert len({tuple(line.get_color()) for line in lines}) == 10
        assert axes.get_yscale() == "log"


def test_the_confusion_matrix_has_truth_in_rows_and_colours_mistakes(monkeypatch):
    [axes] = axes_of(monkeypatch, lambda: plots.confusion([[5, 1, 0], [0, 7, 2], [3, 0, 9]], ["a", "b", "c"]))
    np.testing.assert_allclose(axes.get_images()[0].get_array(), [[0, 1 / 6, 0], [0, 0, 2 / 9], [3 / 12, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction", "truth")
    assert axes.figure.get_suptitle() == "Test images by truth and prediction"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "5", (1, 0): "1", (1, 1): "7", (2, 1): "2", (0, 2): "3", (2, 2): "9"}


def test_of_many_classes_the_matrix_has_no_names_and_the_page_a_table(monkeypatch):
    long = "a class with a name of fifty characters or even so"
    few, many = axes_of(
        monkeypatch,
        lambda: [plots.confusion(np.eye(count, dtype=int).tolist(), [long] * count) for count in (45, 46)],
    )
    assert [label.get_text() for label in few.get_xticklabels()] == [f"{long[:11]}...{long[-11:]}"] * 45
    assert len(few.get_xticks()) == 45 and len(many.get_xticks()) == len(many.get_yticks()) == 0
    pairs = [("a", "<b>", 1234)]
    text = render(Page("title", "verdict", {}, {}, [], "config", "command", confusions=pairs))
    assert "<h2>The most frequent mistakes</h2>" in text
    assert '<tr><td class="text">a</td><td class="text">&lt;b&gt;</td><td>1,234</td></tr>' in text
    assert "most frequent" not in render(Page("title", "verdict", {}, {}, [], "config", "command"))


def test_runs_are_laid_over_each_other_in_percent(monkeypatch):
    runs = {"one": of_epochs(0.1, 0.1), "other": of_epochs(0.1)}
    runs["other"].metrics[0]["validation_accuracy"] = 0.25
    [axes] = axes_of(monkeypatch, lambda: plots.overlay(runs, "validation_accuracy", "title"))
    assert lines_of(axes) == {"one": ([1, 2], [50, 50]), "other": ([1], [25])}
    assert axes.get_ylim()[0] == 23


def test_names_that_matplotlib_would_read_otherwise(monkeypatch):
    confusion, overlay = axes_of(
        monkeypatch,
        lambda: (
            plots.confusion([[1, 2], [3, 4]], ["$a_1$ and $", "\u3042"]),
            plots.overlay({"_run": of_epochs(0.1), "$x$": of_epochs(0.1)}, "validation_accuracy", "title"),
        ),
    )
    shown = [label.get_text() for label in confusion.get_xticklabels()]
    assert [text.replace("\\$", "$") for text in shown] == ["$a_1$ and $", "\u3042"]
    assert all(not is_math_text(text) for text in shown)
    assert [text.get_text() for text in overlay.get_legend().get_texts()] == ["./_run", r"\$x\$"]


def norms_drawn(monkeypatch, norms: list[tuple[int, str, float | None]]):
    rows = [{"epoch": e, "layer": name, "weight_norm": 1.0, "gradient_norm": norm} for e, name, norm in norms]
    return axes_of(monkeypatch, lambda: plots.gradients(Rows([], rows)))[0]


def test_a_norm_of_zero_stands_below_all_powers(monkeypatch):
    axes = norms_drawn(monkeypatch, [(0, "a", 0.0), (1, "a", 2e-3), (0, "b", 1.0), (1, "b", 3.0)])
    one, other = axes.lines
    assert list(one.get_ydata()) == [0.0, 2e-3] and list(other.get_ydata()) == [1.0, 3.0]
    heights = [axes.transData.transform((0, norm))[1] for norm in (0.0, 2e-3, 2e-2, 2e-1)]
    steps = np.diff(heights)
    assert steps[0] > 0 and steps[1] == pytest.approx(steps[2]), "0 is in sight, and powers are evenly spaced"
    assert axes.get_ylim()[0] == 0


def test_norms_that_are_all_zero_are_drawn(monkeypatch):
    axes = norms_drawn(monkeypatch, [(0, "a", 0.0), (1, "a", 0.0)])
    assert list(axes.lines[0].get_ydata()) == [0.0, 0.0] and axes.get_yscale() == "linear"


def test_a_norm_that_is_missing_is_left_out(monkeypatch):
    axes = norms_drawn(monkeypatch, [(0, "a", None), (1, "a", 2.0), (0, "b", 1.0), (1, "b", 3.0), (2, "b", np.nan)])
    assert axes.get_yscale() == "log"
    one, other = axes.lines
    assert np.isnan(one.get_ydata()[0]) and one.get_ydata()[1] == 2.0 and one.get_marker() == "o"
    assert list(other.get_ydata()[:2]) == [1.0, 3.0] and other.get_marker() == "None"


def test_counts_can_be_read_on_dark_cells(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_figure", lambda title, draw, size: drawn.append(draw))
    plots.confusion([[96, 4], [6, 94]], ["a", "b"])
    plots.confusion([[50, 9], [1, 40]], ["a", "b"])
    # 4 and 6 of 100 are 0.45 and 0.55 of the full colour of a fifth, by the root.
    axes = Figure().add_subplot()
    drawn.pop(0)(axes)
    assert {text.get_color() for text in axes.texts} == {"black"}
    axes = Figure().add_subplot()
    drawn[0](axes)
    assert {text.get_text(): text.get_color() for text in axes.texts} == {
        "50": "black",
        "9": "white",
        "1": "black",
        "40": "black",
    }


def test_remarks_are_on_the_page(cnntrain, run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "remarks": ["3 test images are also among others"]}))
    assert cnntrain("report", run).code == 0
    assert "<li>3 test images are also among others.</li>" in (run / "report.html").read_text()
    del summary["remarks"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert cnntrain("report", run).code == 0, "of a run of an earlier version"


@pytest.mark.parametrize(
    ("confusion", "said"),
    [
        ([[9, 0, 0], [0, 2, 7], [0, 8, 1]], "most test images of b are classified as c, and the other way round: are"),
        ([[9, 0, 0], [0, 2, 7], [0, 1, 8]], ""),
        ([[9, 0, 0], [0, 0, 0], [0, 8, 1]], ""),
    ],
)
def test_classes_that_seem_swapped(confusion, said):
    found = _swapped({"confusion_matrix": confusion, "classes": [{"class": name} for name in "abc"]})
    assert found.startswith(said) and bool(found) is bool(said)


def test_a_page_about_other_images_than_those_of_the_training_says_so(cnntrain, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (200, 4, 4)).astype(np.uint8)
    labels = np.arange(200) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    (tmp_path / "c.yaml").write_text(f"data: {{source: {{npz: {tmp_path / 'x.npz'}}}}}\nnetwork: [softmax]\n")
    for name in ("one", "two"):
        assert cnntrain("train", tmp_path / "c.yaml", "training.epochs=1", "--run-dir", tmp_path / name).code == 0
        np.savez(tmp_path / "x.npz", images=255 - images, labels=labels)
    assert cnntrain("report", tmp_path / "one").code == 0
    said = "pictures and tables of them are of what is there now"
    assert said in (tmp_path / "one" / "report.html").read_text()
    assert said not in (tmp_path / "two" / "report.html").read_text()
    outcome = cnntrain("compare", tmp_path / "one", tmp_path / "two", "--picture", tmp_path / "x.png", "--json")
    assert json.loads(outcome.out)["unlike"] == ["validation", "test"]
    which = "validation and test"
    said = f"warning: the runs do not have the same {which} images: their {which} accuracies can't be compared"
    assert said in outcome.err
    outcome = cnntrain("compare", tmp_path / "one", tmp_path / "one", "--picture", tmp_path / "x.png", "--json")
    assert json.loads(outcome.out)["unlike"] == [] and "warning" not in outcome.err


def test_runs_that_were_trained_on_other_images_are_not_compared_in_silence(cnntrain, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary, config = json.loads((run / "summary.json").read_text()), (run / "config.yaml").read_text()

    def differ(train, config):
        other = shutil.copytree(run, tmp_path / "other", dirs_exist_ok=True)
        (other / "summary.json").write_text(json.dumps({**summary, "data": {**summary["data"], "train": train}}))
        (other / "config.yaml").write_text(config)
        outcome = cnntrain("compare", run, "other", "--json")
        said = "warning: some runs were trained on other images, though their configs ask for the same" in outcome.err
        assert json.loads(outcome.out)["trained_unlike"] is said and json.loads(outcome.out)["unlike"] == []
        return said

    same, elsewhere = summary["data"]["train"], "0" * 64
    assert differ(elsewhere, config)
    assert differ(elsewhere, config.replace("seed: 0", "seed: 1").replace("normalize: false", "normalize: true"))
    # Who asks for others has them.
    assert not differ(elsewhere, config.replace("  normalize: false", "  normalize: false\n  limit: 500"))
    assert not differ(elsewhere, config.replace("  normalize: false", "  normalize: false\n  validation: 300"))
    assert not differ(same, config)


def test_weights_that_runs_began_with_are_compared(cnntrain, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = json.loads((run / "summary.json").read_text())

    def rows(*digests):
        for name, digest in zip(("one", "two"), digests, strict=True):
            shutil.copytree(run, name, dirs_exist_ok=True)
            began = {"path": "x.pt", "sha256": digest} if digest else None
            Path(name, "summary.json").write_text(json.dumps({**summary, "init_from": began}))
        found = list(json.loads(cnntrain("compare", "one", "two", "--json").out)["differences"].values())
        table = [line.split() for line in cnntrain("compare", "one", "two").out.splitlines()]
        return found, [line for line in table if line[0].startswith("init_from")]

    first, second = "a" * 64, "b" * 64
    found, shown = rows(first, second)
    assert found == [{"init_from.sha256": first}, {"init_from.sha256": second}]
    assert shown == [["init_from.sha256", "a" * 12, "b" * 12]]
    assert rows(first, first) == ([{}, {}], [])
    # Earlier versions did not tell.
    assert rows(first, None) == ([{}, {}], [])
