"""A stream that nobody reads any more, or that is closed, is told of where somebody may read it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "cnntrain"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("kind", ["a full disk", "a pipe that nobody reads"])
def test_training_whose_lines_can_not_be_shown_tells_the_log(tiny, tmp_path, kind):
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full:
        stream = full if kind == "a full disk" else writer
        done = subprocess.run([*COMMAND, "train", str(tiny), "--run-dir", str(tmp_path / "run")], stderr=stream)
    os.close(writer)
    assert done.returncode == 1
    log = (tmp_path / "run" / "log.txt").read_text()
    why = "No space left on device" if kind == "a full disk" else "Broken pipe"
    # What could not be shown stands there too.
    assert log.startswith(f"run directory: {tmp_path / 'run'}\nstandard error: {why}; ")
    assert f"cnntrain train --resume {tmp_path / 'run'}" in log
    assert subprocess.run([*COMMAND, "train", "--resume", str(tmp_path / "run"), "-q"]).returncode == 0


@pytest.mark.parametrize("command", ["predict", "eval"])
def test_a_closed_output_is_refused_before_anything_is_done(trained, tmp_path, command):
    words = " ".join([*COMMAND, command, str(trained), *([str(tmp_path)] if command == "predict" else [])])
    done = subprocess.run(["sh", "-c", f"{words} >&-"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: standard output is closed; if you don't need it, redirect it to /dev/null\n"
