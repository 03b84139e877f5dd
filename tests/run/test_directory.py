"""Run directories: new or resumed, never shared, never overwritten."""

import errno
import os
import shutil
import socket
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from cnntrain import atomic
from cnntrain.errors import UsageError
from cnntrain.run.directory import RunDirectory, default_path
from cnntrain.run.owner import left_by, writer_of

RESUME, ANOTHER = "go on with `--resume ", "name another `--run-dir`"


@pytest.mark.parametrize("what", ["removed", "replaced", "moved"])
def test_a_folder_that_is_another_by_now_is_not_written_to(tmp_path, monkeypatch, what):
    path = tmp_path / "run"
    with closing(RunDirectory.create(path, "a: 1\n")) as old:
        if what == "moved":
            path.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(path)
        with monkeypatch.context() as other:
            other.setattr(socket, "gethostname", lambda: "elsewhere")
            new = None if what == "removed" else RunDirectory.create(path, "a: 2\n")
        for write in (
            lambda: old.save_last(None),
            lambda: old.save_best(None),
            lambda: old.write_rows("metrics.csv", []),
            lambda: old.write_summary({}),
            lambda: old.log("a line"),
            lambda: old.write_config("a: 3\n"),
            lambda: old.write("report.html", "a page"),
            lambda: old.go_back_to(path / "x.pt"),
            old.forget_summary,
        ):
            with pytest.raises(UsageError, match="was removed or replaced while this run was writing to it"):
                write()
    # Nor is it taken for closed.
    if new is not None:
        assert writer_of(path) == f"{os.getpid()} on elsewhere"
        new.log("mine")
        new.close()
        assert (path / "log.txt").read_text() == "mine\n"
        assert (path / "config.yaml").read_text() == "a: 2\n"


@pytest.mark.parametrize(
    ("content", "hint"),
    [("config.yaml", RESUME), ("checkpoints/last.pt", RESUME), ("checkpoints/best.pt", ANOTHER), ("x.txt", ANOTHER)],
)
def test_an_existing_one_is_refused(tmp_path, content, hint):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / content).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=f"exists already; {hint}"):
        RunDirectory.create(tmp_path / "run", "seed: 0\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("left", [[], [".lock", ".owner", f".config.yaml.1{atomic.PART}"]])
@pytest.mark.parametrize("given", ["run", ".", "link"])
def test_an_empty_folder_becomes_a_run_and_stays_what_it_is(tmp_path, monkeypatch, given, left):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(run)
    for name in left:  # of one that ended before it had its config
        (run / name).touch()
        (run / "checkpoints").mkdir(exist_ok=True)
    monkeypatch.chdir(run if given == "." else tmp_path)
    before = run.stat()
    RunDirectory.create(Path(given), "seed: 0\n").close()
    assert (run / "config.yaml").read_text() == "seed: 0\n"
    assert (run.stat().st_ino, run.stat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(path.name for path in run.iterdir()) == [".lock", "checkpoints", "config.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run"]


def test_an_empty_folder_is_taken_once(tmp_path):
    (tmp_path / "run").mkdir()
    first = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    with pytest.raises(UsageError, match=RESUME):
        RunDirectory.create(tmp_path / "run", "seed: 1\n")
    first.close()
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\n"


@pytest.mark.parametrize("command", [RunDirectory.create, RunDirectory.open])
def test_a_folder_that_can_not_be_searched_is_no_failure(tmp_path, monkeypatch, command):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "run").mkdir()
    for name in ("stat", "is_file"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UsageError):
        command(tmp_path / "run", *["seed: 0\n"] * (command == RunDirectory.create))


def test_a_second_writer_is_refused(tmp_path):
    first = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    first.last.touch()
    with pytest.raises(UsageError, match="another process"):
        RunDirectory.open(tmp_path / "run")
    first.close()
    RunDirectory.open(tmp_path / "run").close()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"not a run directory: it has no `config\.yaml`"):
        RunDirectory.open(tmp_path)


def test_names_do_not_collide_within_a_second(tmp_path):
    path = tmp_path / default_path("x").name
    made = [RunDirectory.create(path, "seed: 0\n", or_beside=True) for _ in range(3)]
    assert [directory.path.name for directory in made] == [path.name, f"{path.name}-2", f"{path.name}-3"]


def test_a_file_in_the_way_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't make the run directory"):
        RunDirectory.create(tmp_path / "file" / "run", "seed: 0\n")


def test_a_folder_whose_names_can_not_be_synced(tmp_path, monkeypatch):
    def refuse(folder):
        if folder == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(atomic, "sync_folder", refuse)
    made = RunDirectory.create(tmp_path / "run", "seed: 0\n", or_beside=True)
    assert made.path == tmp_path / "run"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_names_are_the_time():
    before = datetime.now().replace(microsecond=0)
    path = default_path("x")
    assert path.parent == Path("runs") / "x"
    assert before <= datetime.strptime(path.name, "%Y%m%d-%H%M%S") <= datetime.now()


@dataclass
class Row:
    """A row as a run writes them."""

    epoch: int
    best: bool
    test_accuracy: float | None


def test_rows_are_written_whole_or_not_at_all(tmp_path):
    with closing(RunDirectory.create(tmp_path / "run", "seed: 0\n")) as directory:
        directory.write_rows("metrics.csv", [Row(1, True, 0.5), Row(2, False, None)])
        assert (tmp_path / "run" / "metrics.csv").read_bytes() == b"epoch,best,test_accuracy\n1,true,0.5\n2,false,\n"
        directory.write_rows("metrics.csv", [])
        assert not (tmp_path / "run" / "metrics.csv").exists()


def test_what_was_half_written_is_cleared_away(tmp_path):
    RunDirectory.create(tmp_path / "run", "seed: 0\n").close()
    for folder in ("", "checkpoints", "plots"):
        (tmp_path / "run" / folder).mkdir(exist_ok=True)
        (tmp_path / "run" / folder / ".x.abc.part").touch()
    RunDirectory.open(tmp_path / "run").close()
    assert not list((tmp_path / "run").rglob("*.part"))


def test_half_made_runs_are_cleared_away(tmp_path):
    (tmp_path / ".run.abc.part" / "checkpoints").mkdir(parents=True)
    RunDirectory.create(tmp_path / "run", "seed: 0\n").close()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_log_takes_any_name(tmp_path):
    with closing(RunDirectory.create(tmp_path / "run", "seed: 0\n")) as directory:
        directory.log("a\udcffb")
    assert (tmp_path / "run" / "log.txt").read_text() == "a?b\n"


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_too_long(length, tmp_path):
    with pytest.raises(UsageError, match="File name too long"):
        RunDirectory.create(tmp_path / ("x" * length), "seed: 0\n")


def test_who_closes_it_leaves_no_trace(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    assert directory.left_by is None and left_by(tmp_path / "run").startswith(f"{os.getpid()} on ")
    directory.close()
    with closing(RunDirectory.open(tmp_path / "run")) as again:
        assert again.left_by is None


def test_one_that_can_not_be_opened_is_not_held(tmp_path):
    RunDirectory.create(tmp_path / "run", "seed: 0\n").close()
    (tmp_path / "run" / ".owner" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        RunDirectory.open(tmp_path / "run")
    assert caught.value.filename == str(tmp_path / "run" / ".owner")
    shutil.rmtree(tmp_path / "run" / ".owner")
    RunDirectory.open(tmp_path / "run").close()
