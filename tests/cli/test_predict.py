"""`cnntrain predict`: files, folders, globs, stdin; what can't be read does not stop the others."""

import csv
import io
import json
import shutil
import tarfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cnntrain.app.evidence import evidence
from cnntrain.app.model import load_model
from cnntrain.app.predict import _pixels, drawn_evidence, predict_images
from cnntrain.app.where import Where
from cnntrain.data.images import Folders, Images
from cnntrain.data.sources import idx
from cnntrain.reports.pictures import explained


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    for index in range(30):
        pixels = np.round(data.images[index] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{data.target[index]}-{index:02}.png")
    return folder


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def accuracy(found):
    return np.mean([row["path"].rpartition("/")[2][0] == row["class"] for row in found])


def test_a_folder(cnntrain, trained, digits):
    outcome = cnntrain("predict", trained, digits)
    found = rows(outcome.out)
    assert (outcome.code, len(found)) == (0, 30)
    assert accuracy(found) > 0.6
    assert outcome.err == ""


def test_an_empty_list_on_stdin_is_one_of_no_images(cnntrain, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    outcome = cnntrain("predict", trained, "-")
    assert (outcome.code, outcome.out, outcome.err) == (0, "path,rank,class,probability\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cnntrain("predict", trained, tmp_path, "-").code == 2


def test_files_globs_and_stdin_agree(cnntrain, trained, digits, monkeypatch):
    everything = cnntrain("predict", trained, digits)
    assert cnntrain("predict", trained, *sorted(digits.iterdir())) == everything
    assert cnntrain("predict", trained, digits / "*.png") == everything
    for line in ("{}\n", "{}\r\n", "\n{}\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(map(line.format, sorted(digits.iterdir())))))
        assert cnntrain("predict", trained, "-") == everything


def test_a_list_on_stdin_may_begin_with_a_byte_order_mark(cnntrain, trained, digits, monkeypatch):
    everything = cnntrain("predict", trained, digits)
    for begin in ("\ufeff", "\ufeff\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(begin + "\n".join(map(str, sorted(digits.iterdir())))))
        assert cnntrain("predict", trained, "-") == everything


def test_top_k_as_json_lines(cnntrain, trained, digits):
    outcome = cnntrain("predict", trained, digits, "--format", "jsonl", "--top-k", "3")
    for line in outcome.out.splitlines():
        best = [one["probability"] for one in json.loads(line)["predictions"]]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert sum(best) <= 1.00001


def test_the_smallest_probability_is_whole(cnntrain, trained, digits):
    model = load_model(trained, Where(device="cpu"))
    file = digits / "0-00.png"
    pixels = np.array(Image.open(file))[None, None]
    exact = model.logits(Images(pixels, np.zeros(1, np.int64))).softmax(1)[0]
    outcome = cnntrain("predict", trained, file, "--top-k", "10")
    for row in rows(outcome.out):
        assert np.float32(row["probability"]) == exact[model.classes.index(row["class"])].numpy()


def test_borders_are_light_where_dark_marks_are_asked_for(tmp_path):
    Image.new("L", (20, 10), 255).save(tmp_path / "x.png")
    model = SimpleNamespace(preprocessing=SimpleNamespace(shape=(1, 20, 20)), fit="pad")
    for ground, darkest in (("white", 255), ("black", 0)):
        assert _pixels(tmp_path / "x.png", model, ground, Counter()).min() == darkest


def test_formats_say_the_same(cnntrain, trained, digits, tmp_path, monkeypatch):
    for number in (7, 8):
        shutil.copy(digits / "0-00.png", tmp_path / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    words = ("predict", trained, "7.png", "8.png", "--top-k", "99", "--format")
    wanted = [
        [one["path"], str(rank), guess["class"], f"{guess['probability']:.9g}"]
        for one in map(json.loads, cnntrain(*words, "jsonl").out.splitlines())
        for rank, guess in enumerate(one["predictions"], start=1)
    ]
    assert len(wanted) == 20 and {name for _, _, name, _ in wanted} == {str(digit) for digit in range(10)}
    text = cnntrain(*words, "csv").out
    assert text.splitlines() == ["path,rank,class,probability", *map(",".join, wanted)]
    table = cnntrain(*words, "table").out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert [cell[:2] for cell in cells] == [[path if rank == "1" else "", name] for path, rank, name, _ in wanted]
    assert [float(cell[2].removesuffix(" %")) for cell in cells] == pytest.approx(
        [100 * float(row[3]) for row in wanted], abs=0.006
    )
    assert cnntrain(*words[:-1]).out == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cnntrain(*words[:-1]).out.count("│") == table.count("│")


def test_globs_go_into_folders_and_names_may_look_like_globs(cnntrain, trained, digits, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("[1].png", "1.png", "a/b/2.png"):
        shutil.copy(digits / "0-00.png", tmp_path / name)
    found = rows(cnntrain("predict", trained, tmp_path / "[1].png", tmp_path / "**" / "?.png").out)
    assert [row["path"].removeprefix(f"{tmp_path}/") for row in found] == ["[1].png", "1.png", "a/b/2.png"]


def test_a_glob_of_folders_means_what_is_in_them(cnntrain, trained, digits, tmp_path):
    for name in ("bird/1.png", "bird/wild/2.png", "boat/3.png", "cat/4.png", "b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digits / "0-00.png", tmp_path / name)
    (tmp_path / "boat" / "notes.txt").write_text("")
    for glob, expected in (
        ("b*", ["b.png", "bird/1.png", "bird/wild/2.png", "boat/3.png"]),
        ("b*d", ["bird/1.png", "bird/wild/2.png"]),
        ("**", ["b.png", "bird/1.png", "bird/wild/2.png", "boat/3.png", "cat/4.png"]),
    ):
        outcome = cnntrain("predict", trained, f"{tmp_path}/{glob}")
        assert [row["path"].removeprefix(f"{tmp_path}/") for row in rows(outcome.out)] == expected
        assert (outcome.code, outcome.err) == (0, "" if glob == "b*d" else "not read (.txt: 1)\n")
    (tmp_path / "empty").mkdir()
    assert "there are no images in" in cnntrain("predict", trained, tmp_path / "empt*").err


def test_more_images_than_are_looked_at_together(cnntrain, trained, digits, tmp_path):
    for index in range(300):
        Image.open(digits / "0-00.png").rotate(90 * (index % 4)).resize((16, 16)).save(tmp_path / f"{index:03}.png")
    outcome = cnntrain("predict", trained, tmp_path)
    found = rows(outcome.out)
    assert [row["path"].rpartition("/")[2] for row in found] == [f"{index:03}.png" for index in range(300)]
    assert [(row["class"], row["probability"]) for row in found[256:]] == [
        (row["class"], row["probability"]) for row in found[:44]
    ]
    assert outcome.err == "warning: 300 of 300 images were resized to 8x8\n"


def test_agrees_with_eval_to_the_digit(cnntrain, trained, digits):
    probabilities = [float(row["probability"]) for row in rows(cnntrain("predict", trained, digits).out)]
    one_by_one = [
        float(rows(cnntrain("predict", trained, path).out)[0]["probability"]) for path in sorted(digits.iterdir())
    ]
    assert probabilities == pytest.approx(one_by_one, abs=2e-6)


def test_invert(cnntrain, trained, digits, tmp_path):
    for path in digits.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(tmp_path / path.name)
    plain, inverted = (
        rows(cnntrain("predict", trained, where, *extra).out)
        for where, extra in ((digits, []), (tmp_path, ["--invert"]))
    )
    assert [row["class"] for row in plain] == [row["class"] for row in inverted]


def test_a_standard_input_that_is_closed(cnntrain, trained, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    outcome = cnntrain("predict", trained, "-")
    assert (outcome.code, outcome.err) == (2, "error: `-` reads paths from standard input, but that is closed\n")


def test_ink_on_nothing_is_dark_on_light(cnntrain, trained, digits, tmp_path):
    for path in digits.iterdir():
        ink = Image.open(path).convert("L")
        drawn = Image.new("RGBA", ink.size, "black")
        drawn.putalpha(ink)
        drawn.save(tmp_path / path.name)
    plain, inverted = (
        rows(cnntrain("predict", trained, where, *extra).out)
        for where, extra in ((digits, []), (tmp_path, ["--invert"]))
    )
    assert [row["probability"] for row in plain] == [row["probability"] for row in inverted]


def test_what_is_lost_is_said(cnntrain, trained, digits, tmp_path):
    source = Image.open(next(digits.iterdir()))
    source.resize((16, 16)).save(tmp_path / "large.png")
    Image.merge("RGB", [source, source.point(lambda v: v // 2), source]).save(tmp_path / "colour.png")
    outcome = cnntrain("predict", trained, tmp_path)
    assert "1 of 2 images were resized to 8x8" in outcome.err
    assert "1 of 2 images lost their colours" in outcome.err
    assert outcome.code == 0


def test_an_unreadable_file_is_reported_and_the_others_predicted(cnntrain, trained, digits, tmp_path):
    good = next(iter(sorted(digits.iterdir())))
    (tmp_path / "bad.png").write_text("no image")
    outcome = cnntrain("predict", trained, good, tmp_path / "bad.png", tmp_path / "missing.png", good)
    assert outcome.code == 1
    assert len(rows(outcome.out)) == 2
    assert "bad.png" in outcome.err
    assert "missing.png: there is no such file" in outcome.err


def test_a_folder_without_images(cnntrain, trained, tmp_path):
    outcome = cnntrain("predict", trained, tmp_path)
    assert outcome.code == 2
    assert "no images" in outcome.err


def test_what_is_passed_over_is_told(cnntrain, trained, tmp_path):
    for name in ("a.png", "b/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    for name in ("x.heic", "b/y.heic", "z"):
        (tmp_path / name).touch()
    outcome = cnntrain("predict", trained, tmp_path)
    assert (outcome.code, len(rows(outcome.out))) == (0, 2)
    assert outcome.err == "not read (.heic: 2, no suffix: 1)\n"


def test_how_opaque_a_pixel_is_may_be_the_class(cnntrain, tmp_path, monkeypatch):
    """The same bytes in an .npz file and in PNG files; colours tell nothing."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60, 6, 6, 4), np.uint8)
    labels = np.arange(60) % 2
    pixels[..., 3] = 40 + 170 * labels[:, None, None]
    np.savez(tmp_path / "data.npz", images=pixels, labels=labels)
    for name in "01":
        (tmp_path / "files" / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(tmp_path / "files" / str(label) / f"{number}.png")
    (tmp_path / "c.yaml").write_text(
        "data: {source: {npz: {path: data.npz}}}\nnetwork: [softmax]\n"
        "training: {epochs: 9, batch_size: 10, optimizer: {adam: {learning_rate: 0.02}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert cnntrain("train", "c.yaml", "--run-dir", "run", "-q").code == 0
    for data in ("data.npz", "files", "{image_folder: {path: files, channels: 4}}"):
        outcome = cnntrain("eval", "run", "--data", data, "--json")
        assert json.loads(outcome.out)["accuracy"] == 1, outcome.err
        assert "converted" not in outcome.err
    found = rows(cnntrain("predict", "run", "files").out)
    assert len(found) == 60 and all(row["path"].split("/")[1] == row["class"] for row in found)


CIFAR = """
data: {source: {image_folder: {path: %s, channels: 3}}, normalize: true}
network:
  - conv_pool: {filters: 12, kernel_size: 3, activation: relu}
  - softmax
training: {epochs: 3, batch_size: 50, optimizer: {adam: {learning_rate: 0.002}}}
"""


def test_jpegs_of_cifar10_by_a_network_trained_on_the_image_folder(cnntrain, data_dir, tmp_path):
    archive = data_dir / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        pytest.skip("CNNTRAIN_DATA_DIR has no cifar10-jpeg.tar.xz")
    with tarfile.open(archive) as packed:
        wanted = [packed.next() for _ in range(2500)]
        packed.extractall(tmp_path, [member for member in wanted if member.isfile()], filter="data")
    (tmp_path / "c.yaml").write_text(CIFAR % (tmp_path / "test"))
    assert cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run", "-q").code == 0
    outcome = cnntrain("predict", tmp_path / "run", tmp_path / "test")
    found = rows(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    right = np.mean([row["path"].split("/")[-2] == row["class"] for row in found])
    names = {row["path"].split("/")[-2] for row in found}
    assert right > 1.5 / len(names)


def test_png_files_of_mnist(cnntrain, data_dir, tmp_path):
    config = "data: {source: mnist, limit: 5000}\nnetwork: [{fully_connected: 30}, softmax]\n"
    (tmp_path / "c.yaml").write_text(config + "training: {epochs: 2, batch_size: 10, optimizer: {sgd: 0.5}}")
    train = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run", "--data-dir", data_dir, "-q")
    assert train.code == 0
    images = idx.mnist(Folders.standard(data_dir)).test
    for index in range(200):
        Image.fromarray(images.pixels[index, 0]).save(tmp_path / f"{images.labels[index]}-{index}.png")
    assert accuracy(rows(cnntrain("predict", tmp_path / "run", tmp_path / "*.png").out)) > 0.75


def test_files_for_a_network_that_takes_transparency_too(cnntrain, digits, tmp_path):
    found = load_digits()
    grey = np.round(found.images[..., None] * 255 / 16).astype(np.uint8)
    images = np.concatenate([grey, grey, grey, np.full_like(grey, 255)], 3)
    np.savez(tmp_path / "x.npz", images=images, labels=found.target)
    config = tmp_path / "c.yaml"
    config.write_text("data: {source: {npz: {path: x.npz}}}\nnetwork: [softmax]\ntraining: {epochs: 3}\n")
    run = tmp_path / "run"
    assert cnntrain("train", config, "--data-dir", tmp_path, "--run-dir", run, "-q").code == 0
    plain = rows(cnntrain("predict", run, digits).out)
    assert accuracy(plain) > 0.8
    (tmp_path / "inverted").mkdir()
    for path in digits.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(tmp_path / "inverted" / path.name)
    again = rows(cnntrain("predict", run, tmp_path / "inverted", "--invert").out)
    assert [row["class"] for row in again] == [row["class"] for row in plain]


def test_hidden_folders_are_not_looked_into(cnntrain, trained, digits, tmp_path):
    shutil.copytree(digits, tmp_path / ".shown" / "in")
    shutil.copytree(digits, tmp_path / ".shown" / "in" / ".thumbnails")
    assert len(rows(cnntrain("predict", trained, tmp_path / ".shown").out)) == 30


@pytest.mark.parametrize("options", [[], ["--invert"]])
def test_what_speaks_for_a_class_is_drawn(cnntrain, trained, digits, tmp_path, options):
    """The same as from what is in memory: for the likeliest class, against the next one."""
    picture = tmp_path / "why.png"
    outcome = cnntrain("predict", trained, digits, tmp_path / "nothing.png", *options, "--evidence", picture)
    assert (outcome.code, outcome.out) == (1, cnntrain("predict", trained, digits, *options).out)
    model = load_model(trained, Where(device="cpu"))
    paths = sorted(digits.iterdir())
    pixels = np.stack([np.asarray(Image.open(path))[None] for path in paths])
    pixels = 255 - pixels if options else pixels
    best = model.logits(Images(pixels, np.zeros(30, np.int64))).softmax(1).topk(2)
    maps = [evidence(model, image, *pair) for image, pair in zip(pixels, best.indices.tolist(), strict=True)]
    captions = [
        "\n".join(f"{name}: {100 * value:.1f} %" for name, value in zip(names, values, strict=True))
        for names, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    assert picture.read_bytes() == explained(pixels / np.float32(255), np.stack(maps), 3, captions)


def test_of_many_images_the_first_are_explained(cnntrain, trained, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("cnntrain.app.predict.EXPLAINED", 2)
    assert cnntrain("predict", trained, digits, "--evidence", tmp_path / "many.png").code == 0
    some = sorted(digits.iterdir())[:2]
    assert cnntrain("predict", trained, *some, "--evidence", tmp_path / "two.png").code == 0
    assert (tmp_path / "many.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_where_nothing_is_read_nothing_is_drawn(cnntrain, trained, tmp_path):
    picture = tmp_path / "why.png"
    assert cnntrain("predict", trained, tmp_path / "nothing.png", "--evidence", picture).code == 1
    assert not picture.exists()
    outcome = cnntrain("predict", trained, tmp_path / "nothing.png", "--evidence", tmp_path / "why.jpg")
    assert outcome.code == 2 and "pictures are PNG files" in outcome.err


def test_a_network_in_memory_is_not_loaded_again(trained, digits, monkeypatch):
    where = Where(device="cpu")
    model, expected = load_model(trained, where), list(predict_images(trained, digits, where, top_k=2))
    monkeypatch.delattr("cnntrain.app.predict.load_model")
    assert list(predict_images(model, digits, where, top_k=2)) == expected
    assert drawn_evidence(model, expected[:1]).startswith(b"\x89PNG")
