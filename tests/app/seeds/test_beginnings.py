"""Runs whose weights to begin with, or whose plugins, have changed are no longer taken for runs of the config."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.seeds.train import train_seeds
from cnntrain.app.train import train_run
from cnntrain.app.verify import verify
from cnntrain.app.where import Where
from cnntrain.errors import CheckpointError, DataError, Interrupted, UsageError
from cnntrain.run import checkpoint
from tests.training.test_resume import InterruptAt

CPU = Where(device="cpu")


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def config(trained, tiny, tmp_path):
    """Begins with weights that others may take the place of."""
    source = shutil.copyfile(trained / "checkpoints" / "best.pt", tmp_path / "source.pt")
    return load_config(tiny, [f"init_from={source}", "training.epochs=2", "expect={test_accuracy: {at_least: 1}}"])


def one_of_each(config, root, where=CPU):
    """A finished run, and one that was interrupted."""
    train_run(config, root / "seed-0", where)
    with pytest.raises(Interrupted):
        train_run(config.model_copy(update={"seed": 1}), root / "seed-1", where, InterruptAt("epoch 1/2"))


def change(source):
    saved = checkpoint.load(source)
    checkpoint.save(source, replace(saved, weights={name: 2 * value for name, value in saved.weights.items()}))


def refused(config, root, where, error, said):
    """Whether both commands say so of both runs, and begin no other."""
    mend = "restore them, or move these runs away to train them again"
    whole = re.escape(f"{root}/seed-0, {root}/seed-1: {said}; {mend}")
    with pytest.raises(error, match=whole):
        train_seeds(config, [0, 1], root, where, 1)
    with pytest.raises(error, match=whole):
        verify("c", config, [0, 1, 2], root, where, 1)
    return not (root / "seed-2").exists()


def test_runs_that_began_with_other_weights_are_refused(config, tmp_path):
    source, root = tmp_path / "source.pt", tmp_path / "runs"
    one_of_each(config, root)
    kept = source.read_bytes()
    change(source)
    said = f"the weights of `init_from: {source}` have changed since this run began"
    assert refused(config, root, CPU, DataError, said)
    source.write_bytes(kept)
    # What else a checkpoint holds is not what runs begin with.
    checkpoint.save(source, replace(checkpoint.load(source), result=None))
    assert [one["seed"] for one in train_seeds(config, [0, 1], root, CPU, 1)] == [0, 1]


def test_weights_that_are_gone_are_asked_for_only_where_a_run_has_yet_to_begin(config, tmp_path):
    root = tmp_path / "runs"
    one_of_each(config, root)
    (tmp_path / "source.pt").unlink()
    display = Heard()
    assert [one["seed"] for one in train_seeds(config, [0, 1], root, CPU, 1, display)] == [0, 1]
    assert len([line for line in display.lines if "; runs that have begun are taken as they are" in line]) == 1
    with pytest.raises(CheckpointError, match="`init_from: .*source.pt: no checkpoint here"):
        train_seeds(config, [0, 1, 2], root, CPU, 1)
    assert not (root / "seed-2").exists()


def test_runs_of_earlier_versions_are_taken_as_they_are(config, tmp_path):
    root = tmp_path / "runs"
    train_run(config, root / "seed-0", CPU)
    summary = json.loads((root / "seed-0" / "summary.json").read_text())
    del summary["init_from"]
    (root / "seed-0" / "summary.json").write_text(json.dumps(summary))
    change(tmp_path / "source.pt")
    assert [one["seed"] for one in train_seeds(config, [0], root, CPU, 1)] == [0]


def test_runs_that_were_trained_with_other_plugins_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {name: Where(device="cpu", plugins=[Path(f"{name}.py")]) for name in ("one", "same", "other")}
    for name in places:
        Path(f"{name}.py").write_text(f"x = {name == 'other'}\n")
    root = tmp_path / "runs"
    config = load_config(tiny, ["training.epochs=2", "expect={test_accuracy: {at_least: 1}}"])
    one_of_each(config, root, places["one"])
    said = "the plugins are not those that the network was trained with (one.py)"
    assert refused(config, root, places["other"], UsageError, said)
    assert [one["seed"] for one in train_seeds(config, [0, 1], root, places["same"], 1)] == [0, 1]
