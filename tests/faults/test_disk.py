"""A disk that is full, or not to be written to: the last good checkpoint stays, and later all goes on."""

import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from cnntrain.app.display import Silent
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.errors import CnntrainError
from cnntrain.run import checkpoint

from .cases import Row, assert_same_runs, config_of, go_on, repeat, whole

SIZE = 4 << 20


@contextmanager
def small_disk(folder: Path, options: str = f"size={SIZE}"):
    """A disk of its own in memory; skips where it can't be mounted."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Filler(Silent):
    """Fills a disk up to a rest when so many batches are done."""

    def __init__(self, disk: Path, at: int, rest: int):
        self.filler, self.at, self.rest = disk / "filler", at, rest

    def progress(self, done, total, what):
        if done == self.at:
            free = os.statvfs(self.filler.parent)
            self.filler.write_bytes(bytes(max(free.f_bavail * free.f_frsize - self.rest, 0)))


def case(random: Random, disk: Path) -> None:
    """Full at some batch up to some rest; what was good stays, and the run ends with the same bits."""
    run = disk / "run"
    shutil.rmtree(run, ignore_errors=True)
    filler = Filler(disk, random.randrange(1, 36), random.choice([0, 4096, 8192, 12288, 20480, 40960, 65536]))
    try:
        train_run(config_of(), run, Where(device="cpu"), filler)
    except CnntrainError as error:
        said = str(error)
        assert error.exit_code == 1
        assert f"{run}/" in said.partition(": ")[0] and ": No space left on device" in said, said
        assert f"cnntrain train --resume {run}" in said
        if (run / "checkpoints" / "last.pt").exists():
            checkpoint.load(run / "checkpoints" / "last.pt")
    filler.filler.unlink(missing_ok=True)
    go_on(run, config_of())
    assert_same_runs(whole(), run)


def soak(random: Random, deadline: float):
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as disk:
        return repeat(lambda r: case(r, disk), random, deadline)


def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        for seed in range(8):
            case(Random(seed), disk)


class Limit(Silent):
    """Lets no file grow beyond a size any more, once so many batches are done."""

    def __init__(self, at: int, size: int):
        self.at, self.size = at, size

    def progress(self, done, total, what):
        if done == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


@pytest.mark.parametrize(("size", "file"), [(5000, "last.pt"), (600, None), (0, None)])
def test_a_file_that_may_not_grow(tmp_path, size, file):
    run = tmp_path / "run"
    try:
        with pytest.raises(CnntrainError) as caught:
            train_run(config_of(), run, Where(device="cpu"), Limit(14, size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    said = str(caught.value)
    assert caught.value.exit_code == 1
    assert "File too large" in said and f"the last good state is kept in {run}/checkpoints/last.pt" in said
    if file:
        assert said.startswith(f"{run / 'checkpoints' / file}: ")
    assert "Free space, and resume with:" in said
    go_on(run, config_of())
    assert_same_runs(whole(), run)


def test_a_report_that_finds_no_space_loses_nothing(cnntrain, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("network: [softmax]\ntraining: {epochs: 1}\n")
    run = tmp_path / "run"
    try:
        # Checkpoints of this network are smaller, plots are larger.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        outcome = cnntrain("train", config, "--run-dir", run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # The run is there, and whoever asked for its name has it.
    assert (outcome.code, outcome.out) == (1, f"{run}\n")
    assert f"no report: {run}/plots/" in outcome.err and "File too large; the training is done" in outcome.err
    command = outcome.err.splitlines()[-1].split()
    assert command == ["cnntrain", "report", str(run)]
    assert cnntrain("doctor", run).code == 0
    assert cnntrain(*command[1:]).code == 0
    assert (run / "report.html").is_file()


def test_a_read_only_disk_says_so(cnntrain, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        shutil.copytree(whole(), disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for command in (
            ["train", "--resume", disk / "run"],
            ["report", disk / "run"],
            ["train", tmp_path / "c.yaml", "--run-dir", disk / "other"],
        ):
            (tmp_path / "c.yaml").write_text("network: [softmax]\n")
            outcome = cnntrain(*command)
            assert outcome.code == 2, outcome
            assert "Read-only file system" in outcome.err and str(disk) in outcome.err
        assert cnntrain("eval", disk / "run", "-q").code == 0
        assert cnntrain("doctor", disk / "run").code == 0


def test_a_folder_that_only_others_may_write_to(cnntrain, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "c.yaml").write_text("network: [softmax]\n")
    (tmp_path / "locked").mkdir(mode=0o555)
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "locked" / "run")
    assert (outcome.code, "Permission denied" in outcome.err) == (2, True)


def test_spaces_unicode_relative_paths_and_files_from_the_future(cnntrain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mein Versuch é.yaml").write_text("network: [softmax]\ntraining: {epochs: 2, checkpoint_every: {steps: 3}}\n")
    run = Path("läufe hier/erster 试验")
    assert cnntrain("train", "mein Versuch é.yaml", "--run-dir", run).code == 0
    for path in [run, *run.rglob("*")]:
        os.utime(path, (4e9, 4e9))
    assert cnntrain("train", "--resume", run, "training.epochs=3").code == 0
    assert cnntrain("doctor", f"{run}/").code == 0
    assert "läufe hier/erster 试验" in (run / "report.html").read_text(encoding="utf-8")


ROWS: list[Row] = [("disk full at any file", soak)]
