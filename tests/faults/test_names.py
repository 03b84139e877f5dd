"""Names made to act where they are shown: in a terminal, in a page, in a table that others read."""

import csv
import io
import json
import os
import shutil

import pytest
from PIL import Image

SCRIPT = "<script>alert(1)<&script>"
FORMULA = '=cmd|"C calc",a'
ESCAPES = "\x1b[2J\x1b]0;owned\x07\nerror: no"


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "test"):
        for name, grey in ((SCRIPT, 0), (FORMULA, 255)):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for index in range(20):
                Image.new("L", (8, 8), abs(grey - index)).save(tmp_path / "pets" / split / name / f"{index}.png")
    return tmp_path / "pets"


def test_class_names_are_text_in_page_and_tables(cnntrain, pets, tmp_path):
    (tmp_path / "c.yaml").write_text("network: [softmax]\ntraining: {epochs: 1}\n")
    source = f"data.source={{image_folder: {{path: {pets}}}}}"
    options = ("data.validation={size: 0.2, seed: 0}", "--run-dir", tmp_path / "run")
    assert cnntrain("train", tmp_path / "c.yaml", source, *options).code == 0
    assert cnntrain("report", tmp_path / "run").code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    picture = pets / "test" / FORMULA / "0.png"
    rows = list(csv.DictReader(io.StringIO(cnntrain("predict", tmp_path / "run", picture, "--format", "csv").out)))
    assert [row["path"] for row in rows] == [str(picture)]
    assert rows[0]["class"] in (SCRIPT, FORMULA)
    assert FORMULA in cnntrain("eval", tmp_path / "run", "-q").out


def test_a_run_whose_name_is_no_text_is_reported(cnntrain, tiny, tmp_path):
    run = tmp_path / os.fsdecode(b"\xff")
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", run)
    assert outcome.code == 0
    assert r"/\udcff/config.yaml" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [ESCAPES, "two\nlines", os.fsdecode(b"\xff\xfe"), "\u202egnp"])
def test_a_class_name_that_acts_is_refused(cnntrain, pets, tiny, name):
    shutil.copytree(pets / "train" / SCRIPT, pets / "train" / name)
    outcome = cnntrain("show", tiny, f"data.source={{image_folder: {{path: {pets}}}}}")
    assert outcome.code == 1
    assert "rename it" in outcome.err
    assert outcome.err.count("\n") == 1
    assert "\x1b" not in outcome.err


@pytest.mark.parametrize("name", [ESCAPES, os.fsdecode(b"\xff\xfe"), "\u202egnp"])
@pytest.mark.parametrize("content", [None, b"junk"])
def test_names_of_files_are_shown_escaped(cnntrain, trained, tmp_path, name, content):
    path = tmp_path / f"{name}.png"
    if content:
        path.write_bytes(content)
    else:
        Image.new("L", (8, 8)).save(path)
    for kind in ("table", "csv", "jsonl"):
        outcome = cnntrain("predict", trained, path, "--format", kind)
        assert outcome.code == (1 if content else 0)
        assert "\x1b" not in outcome.err
        assert kind == "csv" or "\x1b" not in outcome.out
        if kind == "jsonl" and not content:
            assert json.loads(outcome.out)["path"] == str(path)


def test_paths_on_stdin_may_be_anything(cnntrain, trained, monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    junk = b"\xff\xfe\0\x1b[2J\n" + bytes(tmp_path / "pipe.png") + b"\n/dev/zero\n/\n" + b"x" * 10_000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(junk), errors="surrogateescape"))
    outcome = cnntrain("predict", trained, "-")
    assert outcome.code == 1
    assert outcome.err.count("error: ") == 5
    assert "\x1b" not in outcome.err


@pytest.mark.parametrize(
    "data", ["", "[", "a: &a [*a]", "!!python/name:os.system", "\x1b[2J", "x" * 5_000, "a\nb", "{csv: /dev/zero}", "{}"]
)
def test_hostile_text_for_data(cnntrain, trained, data):
    outcome = cnntrain("eval", trained, "--data", data)
    assert outcome.code in (1, 2)
    assert "error: " in outcome.err
    assert "\x1b" not in outcome.err
    assert len(outcome.err) < 10_000
