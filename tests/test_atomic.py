"""Files that are whole or absent, under the name and with the rights that they are to have."""

import errno
import os
import stat
from pathlib import Path

import pytest

from cnntrain import atomic
from cnntrain.run.directory import RunDirectory


@pytest.fixture
def mask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_rights_are_those_of_any_other_new_file(tmp_path, mask):
    atomic.write(tmp_path / "x", "content")
    assert mode(tmp_path / "x") == 0o640
    RunDirectory.create(tmp_path / "run", "seed: 0\n").close()
    assert mode(tmp_path / "run") == 0o750
    assert atomic.umask() == atomic.umask() == mask


def test_a_file_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def noted(handle):
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), (tmp_path / "x").exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    atomic.write(tmp_path / "x", "content")
    assert synced == [(False, False), (True, True)]


def test_what_is_kept_outlives_what_is_written_anew(tmp_path):
    last, previous = tmp_path / "last", tmp_path / "previous"
    for content in ("one", "two", "three"):
        atomic.write(last, content)
        atomic.link(last, previous)
        # Twice changes nothing.
        atomic.link(last, previous)
        assert (last.read_text(), previous.read_text()) == (content, content)
    atomic.write(last, "four")
    assert (last.read_text(), previous.read_text()) == ("four", "three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]


def test_what_is_kept_where_files_have_one_name_only(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    atomic.write(tmp_path / "last", "one")
    atomic.link(tmp_path / "last", tmp_path / "previous")
    atomic.write(tmp_path / "last", "two")
    assert (tmp_path / "previous").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "previous"]


def test_a_file_system_without_modes_and_folders_to_be_synced(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def unable(handle, sync=os.fsync):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fsync", unable)
    RunDirectory.create(tmp_path / "run", "seed: 0\n").close()
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\n"


def test_a_folder_that_fails_to_be_synced_is_told_of(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        atomic.sync_folder(tmp_path)


@pytest.mark.parametrize(
    ("is_windows", "refusals", "is_written"),
    [(True, 3, True), (True, 1000, False), (False, 1, False), (False, 0, True)],
)
def test_who_reads_a_file_on_windows_is_waited_for(tmp_path, monkeypatch, is_windows, refusals, is_written):
    asked, replace = [], Path.replace

    def refuse(path, other):
        asked.append(path)
        if len(asked) <= refusals:
            raise PermissionError(errno.EACCES, "Access is denied")
        return replace(path, other)

    monkeypatch.setattr(atomic, "IS_WINDOWS", is_windows)
    monkeypatch.setattr(atomic, "PAUSE", 0)
    monkeypatch.setattr(Path, "replace", refuse)
    (tmp_path / "x").write_text("old")
    if is_written:
        atomic.write(tmp_path / "x", "new")
    else:
        with pytest.raises(PermissionError, match="x"):
            atomic.write(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == ("new" if is_written else "old")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
