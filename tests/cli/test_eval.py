"""`cnntrain eval`: on the checkpoint's own data, and on data that the network never saw."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from rich.cells import cell_len
from sklearn.datasets import load_digits
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from cnntrain import registry
from cnntrain.app.configure import load_config
from cnntrain.app.evaluate import report_on
from cnntrain.app.mistakes import likeliest
from cnntrain.app.model import load_model
from cnntrain.app.where import Where
from cnntrain.cli.evaluate import _print
from cnntrain.data import splits
from cnntrain.data.images import Dataset, Folders, Images
from cnntrain.data.sources.digits import digits
from cnntrain.reports.confusions import confusions
from cnntrain.reports.text import table
from cnntrain.training.evaluate import score


def test_agrees_with_what_training_said(cnntrain, trained):
    said = json.loads((trained / "summary.json").read_text())["best"]
    for split in ("validation", "test"):
        report = json.loads(cnntrain("eval", trained, "--split", split, "--json").out)
        assert report["accuracy"] == pytest.approx(said[f"{split}_accuracy"], abs=1e-12)
        matrix = np.array(report["confusion_matrix"])
        assert matrix.sum() == report["images"]
        assert matrix.trace() / matrix.sum() == pytest.approx(report["accuracy"])
        for index, row in enumerate(report["classes"]):
            assert row["recall"] == pytest.approx(matrix[index, index] / max(1, matrix[index].sum()))
            assert row["precision"] == pytest.approx(matrix[index, index] / max(1, matrix[:, index].sum()))


def test_every_mistake_is_listed(cnntrain, trained):
    report = json.loads(cnntrain("eval", trained, "--json").out)
    names = [row["class"] for row in report["classes"]]
    truth = digits(Folders.standard(None))
    test = splits.split(truth, load_config(trained / "config.yaml").data).test
    assert len(report["mistakes"]) == round((1 - report["accuracy"]) * report["images"]) > 0
    left = np.array(report["confusion_matrix"])
    for one in report["mistakes"]:
        assert names[test.labels[one["index"]]] == one["class"] != one["predicted"]
        assert 0.1 <= one["probability"] <= 1
        left[names.index(one["class"]), names.index(one["predicted"])] -= 1
    assert np.array_equal(left, np.diag(left.diagonal()))


def test_names_are_as_wide_as_a_terminal_shows_them(capsys):
    row = {"precision": 1.0, "recall": 0.5, "f1": 0.75, "images": 3}
    classes = [{"class": "\u732b\u79d1", **row}, {"class": "dog", **row}]
    _print(
        {
            "split": "test",
            "images": 6,
            "loss": 1.0,
            "accuracy": 0.5,
            "balanced_accuracy": 0.5,
            "macro_f1": 0.75,
            "mean_probability": 0.8,
            "calibration_error": 0.1,
            "classes": classes,
            "confusion_matrix": [[3, 0]] * 2,
        }
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("\u732b", "dog"))]
    assert [cell_len(line) for line in lines[:2]] == [cell_len(lines[0])] * 2
    assert [cell_len(line) for line in lines[2:]] == [cell_len(lines[2])] * 2
    assert [cell_len(line) for line in table([("\u732b\u79d1", "1"), ("dog", "2")]).splitlines()] == [7, 7]


def test_of_many_classes_the_most_frequent_mistakes_are_told(capsys):
    names = [f"class {number}" for number in range(27)]
    matrix = np.diag([5000] * 27)
    matrix[3, 20], matrix[20, 3], matrix[26, 0], matrix[1, 2] = 7, 1200, 7, 1
    classes = [{"class": name, "precision": 1.0, "recall": 1.0, "f1": 1.0, "images": 5000} for name in names]
    report = {"split": "test", "images": 1, "loss": 1.0, "accuracy": 1.0, "balanced_accuracy": 0.25, "macro_f1": 0.5}
    report |= {"mean_probability": 0.75, "calibration_error": 0.125, "classes": classes}
    _print({**report, "top_5_accuracy": 0.75, "confusion_matrix": matrix.tolist()})
    text = capsys.readouterr().out
    assert "accuracy 100.00 %, top-5 accuracy 75.00 %, balanced accuracy 25.00 %, macro F1 50.00 %\n" in text
    assert "\nmean probability 75.00 %, calibration error 12.50 %\n\nclass" in text
    assert text.endswith(
        "\n\nmost frequent mistakes (all counts: --json)\n"
        "class     predicted  images\n"
        "class 20  class 3     1,200\n"
        "class 3   class 20        7\n"
        "class 26  class 0         7\n"
        "class 1   class 2         1\n"
    )
    _print({**report, "classes": classes[:26], "confusion_matrix": matrix[:26, :26].tolist()})
    text = capsys.readouterr().out
    assert "confusion matrix (rows: truth, columns: prediction)\n" in text and "top-5" not in text


def test_of_very_many_mistakes_few_are_told():
    found = confusions(np.arange(900).reshape(30, 30).tolist(), [str(number) for number in range(30)])
    assert found[:2] == [("29", "28", 898), ("29", "27", 897)] and len(found) == 20
    assert confusions(np.eye(30, dtype=int).tolist(), [str(number) for number in range(30)]) == []


def test_counts_as_scikit_learn_does():
    truth, logits = np.random.default_rng(0).integers(0, 4, 200), torch.randn(200, 6, generator=torch.manual_seed(0))
    logits[:, 5] = -100
    said = report_on(list("abcdef"), truth, logits)
    labels, predicted = range(6), logits.argmax(1).numpy()
    assert said["confusion_matrix"] == confusion_matrix(truth, predicted, labels=labels).tolist()
    wanted = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)
    assert [row["precision"] for row in said["classes"]] == pytest.approx(wanted[0])
    assert [row["recall"] for row in said["classes"]] == pytest.approx(wanted[1])
    assert [row["f1"] for row in said["classes"][:5]] == pytest.approx(wanted[2][:5])
    assert (said["classes"][4]["f1"], said["classes"][5]["f1"]) == (0.0, None)
    assert [row["images"] for row in said["classes"]] == wanted[3].tolist()
    # The fifth class has no images, and is predicted; the sixth is neither.
    assert said["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0.0))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert said["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    right = score(logits, torch.from_numpy(truth))
    assert (right.accuracy, right.balanced_accuracy) == pytest.approx(
        (accuracy_score(truth, predicted), said["balanced_accuracy"])
    )


def test_how_sure_and_how_right_it_is(cnntrain, trained):
    report = json.loads(cnntrain("eval", trained, "--json").out)
    model = load_model(trained, Where(device="cpu"))
    test = splits.split(digits(Folders.standard(None)), load_config(trained / "config.yaml").data).test
    sure, said = (part.numpy() for part in model.logits(test).softmax(1).max(1))
    is_right = said == test.labels
    number = np.minimum((sure * 15).astype(int), 14)
    parts = [(number == one) for one in range(15) if (number == one).any()]
    assert [(one["images"], one["accuracy"]) for one in report["calibration"]] == [
        (part.sum(), pytest.approx(is_right[part].mean())) for part in parts
    ]
    error = sum(part.mean() * abs(is_right[part].mean() - sure[part].mean(dtype=float)) for part in parts)
    assert report["calibration_error"] == pytest.approx(error)
    for one in report["accepted"]:
        taken = sure >= one["at_least"]
        wanted = pytest.approx(is_right[taken].mean()) if taken.any() else None
        assert (one["images"], one["accuracy"]) == (taken.sum(), wanted)


def test_what_is_said_is_the_largest_logit_whatever_becomes_of_it():
    logits = torch.tensor([[1e-9, 2e-9], [0.0, 1.0], [0.0, float("inf")], [3.0, 1.0]])
    predicted, probability = likeliest(logits)
    assert predicted.tolist() == [1, 1, 1, 0] and np.isnan(probability[2])
    assert probability[[0, 1, 3]] == pytest.approx([0.5, 0.731, 0.881], abs=1e-3)


def test_how_sure_it_is_on_the_whole():
    logits = torch.randn(50, 4, generator=torch.manual_seed(0))
    said = report_on(list("abcd"), np.zeros(50, np.int64), logits)
    assert said["mean_probability"] == pytest.approx(logits.double().softmax(1).max(1).values.mean().item(), rel=1e-6)


def test_whether_the_true_class_is_among_the_likeliest_five_as_scikit_learn_does():
    truth, logits = np.arange(27).repeat(9), torch.randn(243, 27, generator=torch.manual_seed(0))
    wanted = top_k_accuracy_score(truth, logits.numpy(), k=5)
    assert 0.1 < wanted < 0.3
    names = [str(number) for number in range(27)]
    assert report_on(names, truth, logits)["top_5_accuracy"] == pytest.approx(wanted)
    assert "top_5_accuracy" not in report_on(names[:26], truth % 26, logits[:, :26])


def test_file_and_folder_and_another_folder_to_stand_in(cnntrain, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "only.pt"
    copy.write_bytes((trained / "checkpoints" / "best.pt").read_bytes())
    assert cnntrain("eval", copy, "--json").out == cnntrain("eval", trained, "--json").out


def test_text(cnntrain, trained):
    report = json.loads(cnntrain("eval", trained, "--json").out)
    outcome = cnntrain("eval", trained)
    assert outcome.code == 0
    title, calibration, _, columns, *lines = outcome.out.splitlines()
    words = [f"{name.replace('_', ' ')} {100 * report[name]:.2f} %" for name in ("accuracy", "balanced_accuracy")]
    words += [f"macro F1 {100 * report['macro_f1']:.2f} %"]
    assert title == f"test: 359 images, loss {report['loss']:.4f}, {', '.join(words)}"
    names = ("mean_probability", "calibration_error")
    assert calibration == ", ".join(f"{name.replace('_', ' ')} {100 * report[name]:.2f} %" for name in names)
    assert columns.split() == ["class", "precision", "recall", "F1", "images"]
    assert [line.replace(" %", "").split() for line in lines[:10]] == [
        [one["class"], *(f"{100 * one[name]:.2f}" for name in ("precision", "recall", "f1")), str(one["images"])]
        for one in report["classes"]
    ]
    assert lines[10:12] == ["", "confusion matrix (rows: truth, columns: prediction)"]
    assert [line.split() for line in lines[12:]] == [
        [str(digit), *(str(count or ".") for count in row)] for digit, row in enumerate(report["confusion_matrix"])
    ]


def test_fail_under(cnntrain, trained):
    assert cnntrain("eval", trained, "--fail-under", "0.3").code == 0
    outcome = cnntrain("eval", trained, "--fail-under", "1.0", "--json")
    assert outcome.code == 3
    assert "under 1" in outcome.err
    reached = json.loads(outcome.out)["accuracy"]
    assert cnntrain("eval", trained, "--fail-under", reached).code == 0


def digit_folder(root, classes, size=8):
    digits = load_digits()
    for label in classes:
        (root / str(label)).mkdir(parents=True)
        for index in np.flatnonzero(digits.target == label)[:20]:
            picture = Image.fromarray(np.round(digits.images[index] * 255 / 16).astype(np.uint8))
            picture.resize((size, size), Image.Resampling.NEAREST).save(root / str(label) / f"{index}.png")
    return root


def test_fewer_classes_are_matched_by_name(cnntrain, trained, tmp_path):
    # Only 3 and 7: numbered by themselves they would be classes 0 and 1.
    report = json.loads(cnntrain("eval", trained, "--data", digit_folder(tmp_path / "d", [3, 7]), "--json").out)
    assert report["images"] == 40
    assert report["accuracy"] > 0.5
    assert [row["images"] for row in report["classes"]] == [0, 0, 0, 20, 0, 0, 0, 20, 0, 0]


def test_another_size_is_resized_and_said(cnntrain, trained, tmp_path):
    outcome = cnntrain("eval", trained, "--data", digit_folder(tmp_path / "d", range(10), size=16), "--json")
    assert "image files that are not 8x8 are resized" in outcome.err
    assert json.loads(outcome.out)["accuracy"] > 0.5


def test_sees_the_same_pixels_as_predict(cnntrain, trained, tmp_path):
    folder = digit_folder(tmp_path / "d", range(10), size=13)
    for path in folder.rglob("*.png"):
        grey = Image.open(path)
        Image.merge("RGB", [grey, grey.point(lambda value: value // 3), grey.rotate(90)]).save(path)
    report = json.loads(cnntrain("eval", trained, "--data", folder, "--json").out)
    outcome = cnntrain("predict", trained, folder, "--format", "csv")
    found = [row.split(",") for row in outcome.out.splitlines()[1:]]
    right = sum(path.split("/")[-2] == name for path, _, name, _ in found)
    assert right == round(report["accuracy"] * report["images"])


def test_a_class_unknown_to_the_network_is_an_error(cnntrain, trained, tmp_path):
    folder = digit_folder(tmp_path / "d", [3, 7])
    (folder / "7").rename(folder / "seven")
    outcome = cnntrain("eval", trained, "--data", folder)
    assert outcome.code == 1
    assert "seven" in outcome.err


def test_on_real_mnist(cnntrain, trained, data_dir):
    outcome = cnntrain("eval", trained, "--data", "mnist", "--data-dir", data_dir, "--json")
    report = json.loads(outcome.out)
    assert report["images"] == 10000
    # Trained on 8x8 digits of other writers: far from right, but many deviations above chance.
    assert 0.12 < report["accuracy"] < 0.95
    assert "warning: images of shape (1, 28, 28) are converted to the network's (1, 8, 8)\n" in outcome.err


@pytest.fixture(scope="module")
def of_folder(tmp_path_factory):
    """A run on a folder of images, and the folder."""
    from cnntrain.app.configure import load_config
    from cnntrain.app.train import train_run
    from cnntrain.app.where import Where

    root = tmp_path_factory.mktemp("of-folder")
    digit_folder(root / "data", [0, 1, 2])
    (root / "c.yaml").write_text(
        f"data: {{source: {{image_folder: {root / 'data'}}}, test: {{size: 0.5, seed: 0}}}}\n"
        "network: [softmax]\ntraining: {epochs: 1}\n"
    )
    train_run(load_config(root / "c.yaml"), root / "run", Where())
    return root


@pytest.fixture
def copy_of_folder(of_folder):
    """The folder of its images, put back as it was."""
    shutil.copytree(of_folder / "data", of_folder / "kept")
    yield of_folder / "data"
    shutil.rmtree(of_folder / "data")
    (of_folder / "kept").rename(of_folder / "data")


def test_a_class_without_images_has_no_recall(cnntrain, trained, tmp_path):
    digit_folder(tmp_path / "d", [3])
    lines = cnntrain("eval", trained, "--data", tmp_path / "d").out.splitlines()
    found = {line.split()[0]: line.split()[-2:] for line in lines[3:13]}
    assert found["7"] == ["-", "0"]
    assert found["3"][0] == "%"


def test_what_is_neither_there_nor_a_source_is_said_to_be_neither(cnntrain, trained):
    outcome = cnntrain("eval", trained, "--data", "photos/nope")
    assert outcome.code == 2
    said = "there is no file, folder or data source of that name"
    assert f"`--data photos/nope`: {said}; known: cifar10, " in outcome.err
    assert f"{said}; did you mean `mnist`?" in cnntrain("eval", trained, "--data", "mnits").err


def test_a_file_that_is_no_data_set_is_not_said_to_be_missing(cnntrain, trained, tmp_path):
    for name in ("some.zip", "some.tar"):
        (tmp_path / name).touch()
        outcome = cnntrain("eval", trained, "--data", tmp_path / name)
        assert outcome.code == 2
        assert "a data set is a folder of images, an .npz or a .csv file" in outcome.err
        assert f"nielsen_pickle: {{path: {tmp_path / name}}}" in outcome.err
    for name, said in (
        ("some.CSV", "its first line must name the columns `path` and `label`"),
        ("some.NPZ", "not a whole .npz file"),
    ):
        (tmp_path / name).touch()
        assert f"error: {tmp_path / name}: {said}" in cnntrain("eval", trained, "--data", tmp_path / name).err


def test_mistakes_are_told_by_file(cnntrain, of_folder):
    run = of_folder / "run"
    report = json.loads(cnntrain("eval", run, "--json").out)
    paths = [Path(one["path"]) for one in report["mistakes"]]
    assert len(set(paths)) == len(paths) == round((1 - report["accuracy"]) * report["images"]) > 0
    assert [path.parent.name for path in paths] == [one["class"] for one in report["mistakes"]]
    predicted = cnntrain("predict", run, *paths, "--format", "jsonl").out.splitlines()
    for one, line in zip(report["mistakes"], map(json.loads, predicted), strict=True):
        assert line["path"] == one["path"]
        assert line["predictions"][0]["class"] == one["predicted"]
        assert line["predictions"][0]["probability"] == pytest.approx(one["probability"], abs=1e-5)
    assert cnntrain("report", run).code == 0
    page = (run / "report.html").read_text()
    worst = sorted(report["mistakes"], key=lambda one: -one["probability"])[:36]
    assert re.findall(f"<tr>{3 * '<td class=.text.>(.*?)</td>'}<td>(.*?) %</td></tr>", page) == [
        (one["path"], one["class"], one["predicted"], f"{100 * one['probability']:.1f}") for one in worst
    ]


@pytest.mark.parametrize("command", ["eval", "report"])
def test_labels_that_mean_other_names_now_are_refused(cnntrain, of_folder, copy_of_folder, command):
    assert cnntrain(command, of_folder / "run").code == 0
    (copy_of_folder / "0").rename(copy_of_folder / "9")
    outcome = cnntrain(command, of_folder / "run")
    assert outcome.code != 0
    assert "the classes were 0, 1, 2 when the network was trained, and are 1, 2, 9 now" in outcome.err
    assert "Traceback" not in outcome.err


def test_images_that_may_have_been_trained_on_are_told_of(cnntrain, of_folder, copy_of_folder):
    assert "warning" not in cnntrain("eval", of_folder / "run").err
    next((copy_of_folder / "1").iterdir()).unlink()
    outcome = cnntrain("eval", of_folder / "run")
    assert outcome.code == 0
    assert "warning: the test images or labels have changed since the network was trained" in outcome.err


@pytest.mark.parametrize(("channels", "others"), [(3, 4), (4, 3), (3, 1), (4, 1)])
def test_channels_are_matched(channels, others):
    from cnntrain.data.convert import converted

    grey = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)

    def of(count):
        opaque = np.full_like(grey, 255)
        return np.concatenate([grey.repeat(min(count, 3), 1), *[opaque] * (count == 4)], 1)

    np.testing.assert_allclose(converted(of(others), (channels, 4, 4)) * 255, of(channels), atol=1e-3)


def test_colours_survive_a_loss_of_transparency():
    from cnntrain.data.convert import converted

    colours = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 4), np.uint8)
    colours[:, 3] = 255
    np.testing.assert_allclose(converted(colours, (3, 4, 4)) * 255, colours[:, :3], atol=1e-3)


def test_what_is_transparent_lies_on_black_and_grey_is_weighed():
    from cnntrain.data.convert import converted

    half = np.array([[200, 100, 50, 51]], np.uint8).reshape(1, 4, 1, 1)
    np.testing.assert_allclose(converted(half, (3, 1, 1)).ravel() * 255, [40, 20, 10], atol=1e-3)
    primary = np.eye(3, dtype=np.uint8).reshape(3, 3, 1, 1) * 200
    np.testing.assert_allclose(converted(primary, (1, 1, 1)).ravel() * 255, [59.8, 117.4, 22.8], atol=1e-3)


def test_smaller_images_are_means_of_larger_ones():
    from cnntrain.data.convert import converted

    row = np.array([0, 255, 0, 0, 128, 64, 32, 255], np.uint8)
    # The weights of a triangle twice as wide, at the ends those of what is there.
    weights = np.zeros((4, 8))
    weights[0, :3], weights[3, 5:] = np.array([3, 3, 1]) / 7, np.array([1, 3, 3]) / 7
    weights[1, 1:5] = weights[2, 3:7] = np.array([1, 3, 3, 1]) / 8
    found = converted(row.reshape(1, 1, 1, 8).repeat(4, 2), (1, 4, 4))
    np.testing.assert_allclose(found[0, 0] * 255, (weights @ row)[None].repeat(4, 0), atol=1e-3)


@pytest.fixture(scope="module")
def of_arrays(tmp_path_factory):
    """A run on images of colours that are wider than they are tall, and their file."""
    root = tmp_path_factory.mktemp("of-arrays")
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 6), np.uint8)
    np.savez(root / "x.npz", images=images, labels=np.arange(60) % 3)
    train_on(root, f"{{npz: {root / 'x.npz'}}}")
    return root


def train_on(root, source):
    from cnntrain.app.configure import load_config
    from cnntrain.app.train import train_run
    from cnntrain.app.where import Where

    (root / "c.yaml").write_text(f"data: {{source: {source}}}\nnetwork: [softmax]\ntraining: {{epochs: 1}}\n")
    train_run(load_config(root / "c.yaml"), root / "run", Where())


def test_files_are_brought_to_a_shape_that_is_no_square(cnntrain, of_arrays, tmp_path):
    generator = np.random.default_rng(1)
    for name in ("0", "2"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(10):
            colours = generator.integers(0, 256, (4 + 3 * (name == "2"), 6, 3), np.uint8)
            Image.fromarray(colours).save(tmp_path / "d" / name / f"{index}.png")
    outcome = cnntrain("eval", of_arrays / "run", "--data", tmp_path / "d", "--json")
    assert "image files that are not 4x6 are resized to that, the network's input size" in outcome.err
    report = json.loads(outcome.out)
    outcome = cnntrain("predict", of_arrays / "run", tmp_path / "d", "--format", "csv")
    assert outcome.err == "warning: 10 of 20 images were resized to 4x6\n"
    said = [row.split(",") for row in outcome.out.splitlines()[1:]]
    pairs = [(int(path.split("/")[-2]), int(name)) for path, _, name, _ in said]
    assert report["confusion_matrix"] == [[pairs.count((i, j)) for j in range(3)] for i in range(3)]


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_files_are_cropped_or_padded_as_those_of_training(cnntrain, tmp_path, fit):
    generator = np.random.default_rng(2)
    for name in ("0", "1"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 256, (8, 8 + 8 * (index % 3), 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "d" / name / f"{index}.png")
    train_on(tmp_path, f"{{image_folder: {{path: {tmp_path / 'd'}, size: 8, fit: {fit}}}}}")
    config = load_config(tmp_path / "run" / "config.yaml")
    dataset = config.data.source.make(Folders.standard(None))
    form = ImageOps.fit if fit == "crop" else partial(ImageOps.pad, color="black")
    for pixels, path in zip(dataset.train.pixels[:], dataset.train.paths, strict=True):
        with Image.open(path) as picture:
            expected = np.asarray(form(picture, (8, 8), Image.Resampling.BILINEAR))
        assert np.array_equal(pixels.transpose(1, 2, 0), expected)
    report = json.loads(cnntrain("eval", tmp_path / "run", "--data", tmp_path / "d", "--json").out)
    rows = cnntrain("predict", tmp_path / "run", tmp_path / "d", "--format", "csv").out.splitlines()[1:]
    pairs = [(row.split("/")[-2], row.split(",")[2]) for row in rows]
    assert report["confusion_matrix"] == [[pairs.count((i, j)) for j in "01"] for i in "01"]
    own = load_model(tmp_path / "run", Where()).logits(dataset.train).argmax(1)
    assert [pairs.count(("0", name)) + pairs.count(("1", name)) for name in "01"] == own.bincount(minlength=2).tolist()


def test_fit_needs_a_size(cnntrain, tmp_path):
    (tmp_path / "c.yaml").write_text("data: {source: {image_folder: {path: d, fit: crop}}}\nnetwork: [softmax]\n")
    outcome = cnntrain("check", tmp_path / "c.yaml")
    assert outcome.code == 2 and "`fit: crop` needs a `size`" in outcome.err


def test_channels_that_no_picture_has(cnntrain, of_arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(registry.sources, "_entries", dict(registry.sources._entries))

    @registry.sources.register("pairs")
    def pairs(folders, /):
        """Images of two channels."""
        pixels = np.random.default_rng(0).integers(0, 256, (60, 2, 4, 6), np.uint8)
        return Dataset(("0", "1", "2"), Images(pixels, np.arange(60) % 3))

    train_on(tmp_path, "pairs")
    outcome = cnntrain("eval", tmp_path / "run", "--data", of_arrays / "x.npz", "-q")
    assert (outcome.code, outcome.err) == (1, "error: images of 3 channels can't be converted to the network's 2\n")
    outcome = cnntrain("eval", of_arrays / "run", "--data", "pairs", "-q")
    assert (outcome.code, outcome.err) == (1, "error: images of 2 channels can't be converted to the network's 3\n")
    Image.new("L", (6, 4)).save(tmp_path / "x.png")
    outcome = cnntrain("predict", tmp_path / "run", tmp_path / "x.png")
    said = f"error: {tmp_path / 'run'}: takes images of 2 channels, which no file has\n"
    assert (outcome.code, outcome.out, outcome.err) == (2, "", said)


def test_a_class_of_which_there_is_no_image_may_be_unknown(cnntrain, of_arrays):
    source = f"{{npz: {{path: {of_arrays / 'x.npz'}, classes: ['2', '1', '0', other]}}}}"
    own, renamed = (
        json.loads(cnntrain("eval", of_arrays / "run", "--data", data, "--split", "train", "--json").out)
        for data in (of_arrays / "x.npz", source)
    )
    assert renamed["confusion_matrix"] == own["confusion_matrix"][::-1]


def test_a_split_that_is_not_there(cnntrain, trained, tmp_path):
    outcome = cnntrain("eval", trained, "--data", digit_folder(tmp_path / "d", [3]), "--split", "validation")
    assert outcome.code == 1
    assert outcome.err.endswith("error: the data set has no validation split of its own\n")


def test_a_folder_here_goes_before_one_among_the_data_sets(cnntrain, trained, tmp_path, monkeypatch):
    digit_folder(tmp_path / "here" / "x", [3, 4])
    digit_folder(tmp_path / "data" / "x", [5])
    monkeypatch.setenv("CNNTRAIN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    assert json.loads(cnntrain("eval", trained, "--data", "./x", "--json").out)["images"] == 40
    monkeypatch.chdir(tmp_path)
    assert cnntrain("eval", trained, "--data", "nothing.npz").err.count(str(tmp_path / "nothing.npz")) == 1


def test_a_data_set_goes_before_a_folder_of_its_name(cnntrain, trained, tmp_path, monkeypatch):
    digit_folder(tmp_path / "digits", [3])
    monkeypatch.chdir(tmp_path)
    counts = [
        json.loads(cnntrain("eval", trained, "--data", data, "--json").out)["images"] for data in ("digits", "./digits")
    ]
    assert counts == [1797, 20]


def test_a_table_of_files_is_the_folder_that_it_lists(cnntrain, trained, tmp_path):
    folder = digit_folder(tmp_path / "d", [3, 7], size=16)
    lines = [f"{path},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (tmp_path / "d.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    one, other = (cnntrain("eval", trained, "--data", data) for data in (folder, tmp_path / "d.csv"))
    assert (one.code, one.out) == (other.code, other.out)
    assert one.out.startswith("test: 40 images, ")


def test_a_data_set_with_a_validation_set_is_not_all_training_images(cnntrain, trained, tmp_path):
    for split in ("train", "val"):
        digit_folder(tmp_path / "d" / split, [3, 7])
    outcome = cnntrain("eval", trained, "--data", tmp_path / "d")
    assert outcome.code == 1
    assert "no test split of its own; choose `--split train` or `--split validation`" in outcome.err
    assert cnntrain("eval", trained, "--data", tmp_path / "d", "--split", "validation").code == 0
