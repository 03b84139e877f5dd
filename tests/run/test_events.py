"""What TensorBoard reads of a run is what its tables say."""

import csv
import sys
from pathlib import Path

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
    assert len(list(run.glob("events.*"))) == 1


def test_a_process_that_comes_after_has_the_whole_story(tmp_path):
    rows = [{"loss": 1.0, "accuracy": 0.5}, {"loss": 2.0}, {"loss": 3.0, "accuracy": 0.25}]
    before = Events(tmp_path)
    before.bring_to(rows)
    before.close()
    # It resumes after the first epoch, from which the process before had gone on.
    after = Events(tmp_path)
    after.bring_to([rows[0], {"loss": 20.0}])
    after.close()
    assert drawn(tmp_path) == {"loss": {1: 1.0, 2: 20.0}, "accuracy": {1: 0.5}}
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("events.")


def test_figures_are_there_as_soon_as_they_are_known(tmp_path):
    writing = Events(tmp_path)
    for losses in ([0.5], [0.5, 0.25], [0.5, 0.25], [0.5, 0.25, 0.125, 0.0625]):
        writing.bring_to([{"loss": loss} for loss in losses])
        assert drawn(tmp_path) == {"loss": dict(enumerate(losses, 1))}
    writing.close()


def test_nothing_is_written_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    nothing = Events(tmp_path)
    nothing.bring_to([{"loss": 1.0}])
    nothing.close()
    assert list(tmp_path.iterdir()) == []


def test_a_tensorboard_that_is_broken_is_told_of_once_and_stops_nothing(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard.compat", None)
    directory = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    for epochs in (1, 2):
        directory.write_events([{"loss": 1.0}] * epochs)
    directory.close()
    (line,) = directory.path.joinpath("log.txt").read_text().splitlines()
    assert line.startswith("no TensorBoard files: tensorboard can't be imported: ")
    assert list(directory.path.glob("events.*")) == []


def test_an_event_that_cannot_be_written_names_its_file(tmp_path):
    gone = Events(tmp_path / "gone")
    with pytest.raises(OSError, match=r"events\.out\.tfevents"):
        gone.bring_to([{"loss": 1.0}])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_leaves_the_run_to_others(tmp_path, monkeypatch):
    directory = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    monkeypatch.setattr(directory._events, "_path", Path("/dev/full"))
    with pytest.raises(OSError, match="/dev/full"):
        directory.write_events([{"loss": 1.0}])
    directory.close()
    assert not (tmp_path / "run" / ".owner").exists()
    RunDirectory.open(tmp_path / "run").close()
