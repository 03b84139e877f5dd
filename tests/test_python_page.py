"""docs/python.md is true: its plugin trains, and its program uses what was trained."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

from cnntrain.app.export import export
from cnntrain.app.predict import predict_images
from cnntrain.app.where import Where

PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PLUGIN, PROGRAM, FOREIGN = (text for language, text in BLOCKS if language == "python")


def test_one_of_each_kind(tmp_path):
    # A process of its own, for names stay registered.
    (tmp_path / "my_names.py").write_text(PLUGIN)
    (tmp_path / "c.yaml").write_text(next(text for language, text in BLOCKS if language == "yaml"))
    words = ["train", "c.yaml", "--plugin", "my_names.py", "--run-dir", "run", "--device", "cpu"]
    command = [sys.executable, "-m", "cnntrain"]
    done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracies = re.findall(r"test accuracy there ([0-9.]+) %", done.stderr)
    assert float(accuracies[-1]) > 90
    told = subprocess.run([*command, "eval", "run"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 2 and "--plugin my_names.py" in told.stderr


def test_the_program(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "runs" / "first")
    (tmp_path / "photos").mkdir()
    Image.new("L", (28, 28), 255).save(tmp_path / "photos" / "blank.png")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("photos/blank.png ['")
    assert len(second.split(", ")) == 5


def test_the_program_that_needs_no_cnntrain(tmp_path, trained):
    pytest.importorskip("onnxruntime")
    (tmp_path / "runs" / "first").mkdir(parents=True)
    export(trained, "onnx", tmp_path / "runs" / "first" / "best.onnx")
    (tmp_path / "photos").mkdir()
    Image.new("L", (28, 28), 200).save(tmp_path / "photos" / "blank.png")
    done = subprocess.run([sys.executable, "-c", FOREIGN], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cnntrain" not in FOREIGN
    (expected,) = predict_images(trained, [str(tmp_path / "photos" / "blank.png")], Where(device="cpu"))
    name, probability = done.stdout.split()
    assert (name, float(probability)) == (expected.classes[0], pytest.approx(expected.probabilities[0], abs=1e-5))
