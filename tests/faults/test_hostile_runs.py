"""Run directories and folders that somebody else has made: nothing outside is read, written or run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnntrain.app.display import Silent
from cnntrain.config.schema import Config
from cnntrain.data import cache
from cnntrain.data.sources.pictures import open_picture
from cnntrain.errors import ConfigError, DataError
from cnntrain.network.build import build
from cnntrain.network.stack import Budget
from cnntrain.run import checkpoint

from .cases import whole

ESCAPES = "1\ntouch stolen\n\x1b]0;x\x07"


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(whole(), tmp_path / "a run")


@pytest.mark.parametrize("name", ["log.txt", "config.yaml", "summary.json", "metrics.csv", "plots", "checkpoints"])
@pytest.mark.parametrize("command", [("train", "--resume"), ("report",), ("doctor",)])
def test_a_link_in_a_run_is_not_followed(cnntrain, run, tmp_path, name, command):
    target = tmp_path / "elsewhere"
    if name in ("plots", "checkpoints"):
        shutil.rmtree(run / name, ignore_errors=True)
        target.mkdir()
        (target / ".other.part").write_text("mine")
    else:
        (run / name).unlink(missing_ok=True)
        target.write_text("mine")
    (run / name).symlink_to(target)
    outcome = cnntrain(*command, run)
    assert outcome.code == 2 and f"{run / name}: is a link" in outcome.err
    assert "mine" not in outcome.out + outcome.err
    kept = target / ".other.part" if target.is_dir() else target
    assert kept.read_text() == "mine"


def test_who_left_a_run_is_told_in_one_line(cnntrain, run):
    (run / ".owner").write_text(ESCAPES)
    told = cnntrain("doctor", run)
    assert "1\\ntouch stolen\\n\\x1b]0;x\\x07" in told.out and "\x1b" not in told.out
    resumed = cnntrain("train", "--resume", run, "training.epochs=5")
    assert resumed.code == 0 and "\x1b" not in resumed.err
    assert "touch stolen" not in (run / "log.txt").read_text().splitlines()


def test_changes_of_settings_stay_in_their_line(cnntrain, run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "changes": ["a\nrm -r b #"]}))
    assert cnntrain("report", run, "--device", "cpu").code == 0
    assert "\nrm -r b" not in (run / "report.html").read_text()


@pytest.mark.parametrize("value", [torch.zeros(1), torch.zeros(1).expand(3, 3), torch.zeros(0)])
def test_moments_of_another_shape_are_refused(cnntrain, tiny, tmp_path, value):
    run = tmp_path / "run"
    assert cnntrain("train", tiny, "training.epochs=1", "training.optimizer=adam", "--run-dir", run, "-q").code == 0
    saved = checkpoint.load(run / "checkpoints" / "last.pt")
    moments = saved.training["optimizer"]["state"]
    moments[0]["exp_avg"] = value
    checkpoint.save(run / "checkpoints" / "last.pt", saved)
    outcome = cnntrain("train", "--resume", run, "training.epochs=2")
    assert outcome.code == 2
    assert f"the optimizer's `exp_avg` has the shape {tuple(value.shape)}, not (" in outcome.err


def test_a_cache_entry_of_objects_is_not_opened(tmp_path):
    def write(file, older):
        np.full((2, 1, 4, 8), 65, np.uint8).tofile(file)
        return cache.Content((2, 1, 4, 1), "|O", np.zeros((2, 16), np.uint8))

    with pytest.raises(DataError, match="can't be read back"):
        cache.entry(tmp_path, "family", "key", write, Silent())


def test_no_picture_within_another_kind_of_file(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "inner.eps")
    inner = (tmp_path / "inner.eps").read_bytes()
    fields = ((3, 60, b"\x01\x00"), (3, 20, b"\x00\x04"), (3, 30, b"\x00\x04"), (3, 120, b"\x01"), (8, 10, inner))
    (tmp_path / "x.png").write_bytes(
        b"".join(bytes([0x1C, a, b]) + len(value).to_bytes(2, "big") + value for a, b, value in fields)
    )
    with pytest.raises(DataError, match="of a kind that Pillow can't read"):
        open_picture(tmp_path / "x.png")


def test_branches_can_not_double_without_end(monkeypatch):
    # Those of a whole budget take gigabytes.
    monkeypatch.setattr("cnntrain.network.build.Budget", lambda: Budget(numbers=2**20))
    layers = [{"branches": {"branches": [[{"dropout": 0.0}], [{"dropout": 0.0}]]}}] * 28
    config = Config.model_validate({"network": [*layers, "softmax"]})
    with pytest.raises(ConfigError, match="the network has more than 1,073,741,824 of them"):
        build(config, (1, 28, 28), 10)


def test_children_look_for_modules_where_the_command_does(tmp_path, tiny):
    (tmp_path / "struct.py").write_text(f"open({str(tmp_path / 'stolen')!r}, 'w').close()\n")
    script = Path(sys.executable).with_name("cnntrain")
    words = [script, "train", tiny, "training.epochs=1", "--seeds", "0,1", "--jobs", "2", "--run-dir", "runs", "-q"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "stolen").exists()
