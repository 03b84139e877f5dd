"""Bad input: its exit code, one clear message, no traceback, nothing half-written."""

import gzip
import os
import struct

import numpy as np
import pytest
from PIL import Image

BAD_CONFIGS = {
    "empty": ("", "the config is empty"),
    "not YAML": ("network: [", "not YAML"),
    "a list": ("- conv: 3\n", "a config is a mapping"),
    "unknown key": ("netwrok: [softmax]\n", "did you mean `network`?"),
    "wrong type": ("network: [softmax]\ntraining: {epochs: many}\n", "`epochs` should be an integer, not 'many'"),
    "negative batch size": ("network: [softmax]\ntraining: {batch_size: -1}\n", "greater than 0, not -1"),
    "unknown layer": ("network: [sofmax]\n", "did you mean `softmax`?"),
    "kernel too large": ("network: [{conv: {filters: 2, kernel_size: 9}}, softmax]\n", "(1, 8, 8)"),
    "softmax in the middle": ("network: [softmax, {dense: 3}]\n", "last layer"),
    "no classes at the end": ("network: [flatten, {dense: 3}]\n", "10 classes"),
    "unknown source": ("network: [softmax]\ndata: {source: mnits}\n", "did you mean `mnist`?"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_configs(name, cnntrain, tmp_path):
    text, expected = BAD_CONFIGS[name]
    (tmp_path / "c.yaml").write_text(text)
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert expected in outcome.err
    assert "c.yaml" in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [("--run-dir", ""), ("--run-dir=",), ("",)])
def test_an_empty_argument_is_not_taken_for_the_current_folder(words, cnntrain, tiny):
    outcome = cnntrain("train", tiny, *words)
    assert outcome.code == 2
    assert outcome.err == "error: an argument is empty; perhaps a shell variable is not set\n"
    for word in ("data.source=", "--run-dir=q=", "--data-dir=a=b="):
        assert "an argument is empty" not in cnntrain("train", tiny, word, "training.epochs=0").err


def test_missing_config(cnntrain, tmp_path):
    outcome = cnntrain("train", tmp_path / "none.yaml")
    assert outcome.code == 2
    assert "there is no such file" in outcome.err


def idx(folder, name, magic, shape, body):
    (folder / f"{name}.gz").write_bytes(gzip.compress(struct.pack(f">I{len(shape)}I", magic, *shape) + body))


def mutate_idx(folder, what):
    pixels = np.zeros((20, 8, 8), np.uint8).tobytes()
    labels = bytes(range(10)) * 2
    idx(
        folder,
        "images",
        0x803 if what != "magic" else 0x999,
        (20, 8, 8),
        pixels[:-5] if what == "truncated" else pixels,
    )
    idx(folder, "labels", 0x801, (20,), labels[:-1] + bytes([77]) if what == "label" else labels)
    if what == "gzip":
        data = (folder / "images.gz").read_bytes()
        (folder / "images.gz").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("magic", "magic"),
        ("truncated", "truncated|short|fewer|cut"),
        ("gzip", "gzip|truncated|cut"),
        ("label", "label"),
    ],
)
def test_bad_idx(what, expected, cnntrain, tmp_path, tiny):
    mutate_idx(tmp_path, what)
    classes = "[" + ", ".join(f'"{i}"' for i in range(10)) + "]"
    source = f"data.source={{idx: {{train_images: images.gz, train_labels: labels.gz, classes: {classes}}}}}"
    outcome = cnntrain("train", tiny, source, "--data-dir", tmp_path, "--run-dir", tmp_path / "run")
    assert outcome.code == 1
    assert any(word in outcome.err for word in expected.split("|"))
    assert "images" in outcome.err or "labels" in outcome.err
    assert not (tmp_path / "run").exists()


def folder_with(tmp_path, sizes):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for index in range(6):
                size = sizes[index % len(sizes)]
                Image.new("RGB", size, (index, 2, 3)).save(tmp_path / "pets" / split / name / f"{index}.png")
    return tmp_path / "pets"


def train_on_folder(cnntrain, tiny, folder):
    source = f"data.source={{image_folder: {{path: {folder}}}}}"
    return cnntrain("train", tiny, source, "--run-dir", tiny.parent / "run")


def test_missing_data_folder(cnntrain, tiny):
    outcome = train_on_folder(cnntrain, tiny, tiny.parent / "nothing")
    assert outcome.code == 1
    assert "nothing: there is no such folder\n" in outcome.err


def test_a_mistyped_data_dir_is_told_of(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "--data-dir", tiny.parent / "nothing", "--run-dir", tiny.parent / "run")
    assert outcome.code == 2 and "does not exist" in outcome.err.replace("│\n│", "")
    assert not (tiny.parent / "run").exists()


def test_home_is_known(cnntrain, tiny, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny.parent))
    folder_with(tiny.parent, [(8, 8)])
    outcome = cnntrain("show", tiny, "data.source={image_folder: {path: ~/pets}}")
    assert outcome.code == 0 and "(3, 8, 8)" in outcome.out


@pytest.mark.parametrize("command", [("eval",), ("train", "--resume")])
def test_a_file_of_a_run_that_is_no_checkpoint(cnntrain, tiny, command):
    run = tiny.parent / "run"
    assert cnntrain("train", tiny, "training.epochs=1", "--run-dir", run, "-q").code == 0
    outcome = cnntrain(*command, run / "config.yaml")
    assert outcome.code in (1, 2) and f"name the run, {run}\n" in outcome.err


def test_where_relative_paths_are_looked_for_is_said(cnntrain, tiny):
    for source in ("{image_folder: photos}", "{npz: photos.npz}"):
        outcome = cnntrain("train", tiny, f"data.source={source}", "--run-dir", tiny.parent / "run")
        assert outcome.code == 1
        assert "searched for in `--data-dir`, then in the current directory" in outcome.err


def test_empty_class(cnntrain, tiny):
    folder = folder_with(tiny.parent, [(8, 8)])
    (folder / "train" / "bird").mkdir()
    outcome = train_on_folder(cnntrain, tiny, folder)
    assert outcome.code == 1
    assert "bird" in outcome.err


def test_corrupt_image(cnntrain, tiny):
    folder = folder_with(tiny.parent, [(8, 8)])
    (folder / "train" / "cat" / "3.png").write_bytes(b"\x89PNG nonsense")
    outcome = train_on_folder(cnntrain, tiny, folder)
    assert outcome.code == 1
    assert "3.png" in outcome.err


def test_mixed_sizes(cnntrain, tiny):
    outcome = train_on_folder(cnntrain, tiny, folder_with(tiny.parent, [(8, 8), (9, 8)]))
    assert outcome.code == 1
    cats = tiny.parent / "pets" / "train" / "cat"
    assert outcome.err == (
        f"error: images differ in size (height x width): {cats / '0.png'} is 8x8, {cats / '1.png'} is 8x9; "
        "set `size:` to resize them\n"
    )
    assert not (tiny.parent / "run").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_not_writable(cnntrain, tiny):
    locked = tiny.parent / "locked"
    locked.mkdir(mode=0o500)
    outcome = cnntrain("train", tiny, "--run-dir", locked / "run")
    assert outcome.code == 2
    assert "can't make the run directory" in outcome.err


def test_output_folder_is_a_file(cnntrain, tiny):
    (tiny.parent / "file").write_text("mine")
    outcome = cnntrain("train", tiny, "--run-dir", tiny.parent / "file" / "run")
    assert outcome.code == 2
    assert "can't make the run directory" in outcome.err
    assert (tiny.parent / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["eval", "predict"])
@pytest.mark.parametrize("content", [None, b"", b"no checkpoint at all", b"PK\x03\x04 half a zip"])
def test_bad_checkpoints(command, content, cnntrain, tmp_path):
    path = tmp_path / "x.pt"
    if content is not None:
        path.write_bytes(content)
    outcome = cnntrain(command, path, *(["image.png"] if command == "predict" else []))
    assert outcome.code == 2
    assert "x.pt" in outcome.err
    assert outcome.out == ""


def test_unknown_device(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "--device", "abacus", "--run-dir", tiny.parent / "run")
    assert outcome.code == 2
    assert "--device auto" in outcome.err
    assert not (tiny.parent / "run").exists()
