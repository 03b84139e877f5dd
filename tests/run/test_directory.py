"""Run directories: new or resumed, never shared, never overwritten."""

import errno

import pytest

from cnntrain.errors import UsageError
from cnntrain.run import atomic
from cnntrain.run.directory import RunDirectory, default_path


def test_an_existing_one_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(UsageError, match="exists already.*--resume"):
        RunDirectory.create(tmp_path / "run", "seed: 0\n")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_second_writer_is_refused(tmp_path):
    first = RunDirectory.create(tmp_path / "run", "seed: 0\n")
    first.last.touch()
    with pytest.raises(UsageError, match="another process"):
        RunDirectory.open(tmp_path / "run")
    first.close()
    RunDirectory.open(tmp_path / "run").close()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"no run directory to resume: it has no `config\.yaml`"):
        RunDirectory.open(tmp_path)


def test_names_do_not_collide_within_a_second(tmp_path):
    path = default_path("x", tmp_path)
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
