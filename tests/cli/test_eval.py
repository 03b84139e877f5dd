"""`cnntrain eval`: on the checkpoint's own data, and on data that the network never saw."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from cnntrain.app.evaluate import report_on


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


def test_counts_as_scikit_learn_does():
    truth, logits = np.random.default_rng(0).integers(0, 4, 200), torch.randn(200, 6, generator=torch.manual_seed(0))
    logits[:, 5] = -100
    said = report_on(list("abcdef"), truth, logits)
    labels, predicted = range(6), logits.argmax(1).numpy()
    assert said["confusion_matrix"] == confusion_matrix(truth, predicted, labels=labels).tolist()
    wanted = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)
    assert [row["precision"] for row in said["classes"]] == pytest.approx(wanted[0])
    assert [row["recall"] for row in said["classes"]] == pytest.approx(wanted[1])
    assert [row["images"] for row in said["classes"]] == wanted[3].tolist()


def test_file_and_folder_and_another_folder_to_stand_in(cnntrain, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "only.pt"
    copy.write_bytes((trained / "checkpoints" / "best.pt").read_bytes())
    assert cnntrain("eval", copy, "--json").out == cnntrain("eval", trained, "--json").out


def test_text(cnntrain, trained):
    outcome = cnntrain("eval", trained)
    assert outcome.code == 0
    assert "accuracy" in outcome.out
    assert "confusion matrix (rows: truth, columns: prediction)" in outcome.out


def test_fail_under(cnntrain, trained):
    assert cnntrain("eval", trained, "--fail-under", "0.3").code == 0
    outcome = cnntrain("eval", trained, "--fail-under", "1.0")
    assert outcome.code == 3
    assert "under 1" in outcome.err


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
    assert "resized where they are not 8x8" in outcome.err
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
    assert "(1, 28, 28)" in outcome.err


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
    assert "the test images or labels are not the same as when the network was trained" in outcome.err


@pytest.mark.parametrize(("channels", "others"), [(3, 4), (4, 3), (3, 1), (4, 1)])
def test_channels_are_matched(channels, others):
    from cnntrain.app.evaluate import _converted

    grey = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)

    def of(count):
        opaque = np.full_like(grey, 255)
        return np.concatenate([grey.repeat(min(count, 3), 1), *[opaque] * (count == 4)], 1)

    np.testing.assert_allclose(_converted(of(others), (channels, 4, 4)) * 255, of(channels), atol=1e-3)


def test_colours_survive_a_loss_of_transparency():
    from cnntrain.app.evaluate import _converted

    colours = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 4), np.uint8)
    colours[:, 3] = 255
    np.testing.assert_allclose(_converted(colours, (3, 4, 4)) * 255, colours[:, :3], atol=1e-3)


def test_a_folder_here_goes_before_one_among_the_data_sets(cnntrain, trained, tmp_path, monkeypatch):
    digit_folder(tmp_path / "here" / "x", [3, 4])
    digit_folder(tmp_path / "data" / "x", [5])
    monkeypatch.setenv("CNNTRAIN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    assert json.loads(cnntrain("eval", trained, "--data", "./x", "--json").out)["images"] == 40
    monkeypatch.chdir(tmp_path)
    assert cnntrain("eval", trained, "--data", "nothing.npz").err.count(str(tmp_path / "nothing.npz")) == 1


def test_a_data_set_with_a_validation_set_is_not_all_training_images(cnntrain, trained, tmp_path):
    for split in ("train", "val"):
        digit_folder(tmp_path / "d" / split, [3, 7])
    outcome = cnntrain("eval", trained, "--data", tmp_path / "d")
    assert outcome.code == 1
    assert "no test split of its own; choose `--split train` or `--split validation`" in outcome.err
    assert cnntrain("eval", trained, "--data", tmp_path / "d", "--split", "validation").code == 0
