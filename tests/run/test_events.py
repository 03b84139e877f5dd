"""What TensorBoard reads of a run is what its tables say."""

import csv
import sys

import pytest

from cnntrain.app.configure import load_config
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.run import events
from cnntrain.run.directory import RunDirectory
from cnntrain.run.events import Events

pytest.importorskip("tensorboard")


def drawn(folder):
    """By name, the figure at each step that TensorBoard draws."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {name: {one.step: one.value for one in read.Scalars(name)} for name in read.Tags()["scalars"]}


def test_events_are_the_tables(tiny, tmp_path):
    where = Where(device="cpu")
    config, run = load_config(tiny, ["training.epochs=2"]), tmp_path / "run"
    train_run(config, run, where)
    resume_run(run, ["training.epochs=3"], where)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    curves = drawn(run)
    assert set(curves) == set(rows[0]) - {"epoch", "step", "best"}
    for name, curve in curves.items():
        told = {int(row["epoch"]): float(row[name]) for row in rows if row[name]}
        assert curve == pytest.approx(told, rel=1e-6)
    assert len(curves["train_loss"]) == 3
    assert len(list(run.glob("events.*"))) == 2


def test_what_a_dead_process_was_ahead_with_is_dropped(tmp_path):
    for first, figure in ((1, 1.0), (2, 10.0)):
        later = Events(tmp_path)
        for epoch in range(first, first + 3):
            later.add(epoch, {"loss": figure + epoch})
        later.close()
    assert drawn(tmp_path) == {"loss": {1: 2.0, 2: 12.0, 3: 13.0, 4: 14.0}}


def test_figures_are_there_as_soon_as_they_are_added(tmp_path):
    writing = Events(tmp_path)
    writing.add(1, {"loss": 0.5})
    assert drawn(tmp_path) == {"loss": {1: 0.5}}
    writing.close()


def test_nothing_is_written_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    nothing = Events(tmp_path)
    nothing.add(1, {"loss": 1.0})
    nothing.close()
    assert list(tmp_path.iterdir()) == []


def test_a_tensorboard_that_is_broken_is_told_of_once_and_stops_nothing(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard.compat", None)
    directory = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    for epoch in (1, 2):
        directory.add_events(epoch, {"loss": 1.0})
    directory.close()
    (line,) = directory.path.joinpath("log.txt").read_text().splitlines()
    assert line.startswith("nothing for TensorBoard: tensorboard can't be imported: ")
    assert list(directory.path.glob("events.*")) == []


def test_an_event_that_cannot_be_written_names_its_file(tmp_path):
    gone = Events(tmp_path / "gone")
    with pytest.raises(OSError, match=r"events\.out\.tfevents"):
        gone.add(1, {"loss": 1.0})
