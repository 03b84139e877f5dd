"""`report` and `compare`: pictures and one page from what a run left on disk."""

import base64
import html
import io
import json
import re
import shlex
import shutil
import warnings

import numpy as np
import pytest
from matplotlib.cbook import STEP_LOOKUP_MAP, is_math_text
from PIL import Image

from cnntrain.reports import pictures, plots
from cnntrain.reports.rows import Rows

PLOTS = {"accuracy", "loss", "gap", "learning_rate", "confusion", "mistakes", "filters", "gradients", "weights"}


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
    if content:
        assert f"damaged; `cnntrain doctor {run}` says what mends it" in outcome.err


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


def test_compare(cnntrain, run, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cnntrain("train", tiny, "network.0.conv.filters=4", "seed=3", "--run-dir", "other", "-q").code == 0
    found = json.loads(cnntrain("compare", run, "other", "--json").out)
    assert found["differences"][str(run)] == {"network.0.conv.filters": 8, "seed": 0}
    assert found["differences"]["other"] == {"network.0.conv.filters": 4, "seed": 3}
    summary = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert found["figures"]["other"]["test_accuracy"] == summary["best"]["test_accuracy"]
    with Image.open("compare.png") as drawn:
        assert drawn.width > 500
    text = cnntrain("compare", run, "other").out
    assert re.search(r"network\.0\.conv\.filters\s+8\s+4", text)
    assert cnntrain("compare", run, tmp_path).code == 2


def test_a_grid_has_a_place_for_every_image_and_caption():
    images = np.stack([np.full((1, 4, 4), value, np.float32) for value in (0.0, 0.5, 1.0)])
    sheet = np.asarray(Image.open(io.BytesIO(pictures.grid(images, 2, ["a very long caption", "b", "c\nd"]))))
    greys = {int(value) for value in np.unique(sheet)}
    assert {0, 128, 255} <= greys
    assert sheet.shape[0] > 2 * pictures.SIDE + 2 * 2 * pictures.LINE
    assert sheet.shape[1] > 2 * pictures.SIDE + 40


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
