"""Whatever a command meets is one message on stderr and an exit code; what nobody foresaw keeps its traceback."""

import os
import subprocess
import sys

import pytest

from cnntrain import registry

MEETING = """
import errno, os, signal

from cnntrain.registry import augmentations


@augmentations.register("meeting")
def meeting():
    '''Meets something where nothing is prepared for it.'''
    def act(images):
        {what}
        return images
    return act
"""
FULL = "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'a\\x1b[2J.png')"
LOWER = "lower `training.batch_size` or `data.limit`, or make the network smaller"


@pytest.fixture
def meet(cnntrain, tiny, tmp_path, monkeypatch):
    """Runs a command that meets something."""
    monkeypatch.setattr(registry.augmentations, "_entries", dict(registry.augmentations._entries))

    def run(what):
        plugin = tmp_path / "meeting.py"
        plugin.write_text(MEETING.format(what=what))
        picture = ["--augment", tmp_path / "x.png", "--plugin", plugin]
        return cnntrain("show", tiny, "data.augment=[meeting]", *picture)

    return run


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", 130, "interrupted by SIGTERM"),
        (FULL, 1, "a\\x1b[2J.png: No space left on device"),
        ("raise MemoryError", 1, f"out of memory; {LOWER}"),
        ("raise RuntimeError('DefaultCPUAllocator: not enough memory')", 1, f"out of memory; {LOWER}"),
    ],
)
def test_what_a_command_meets_is_one_message(meet, what, code, said):
    outcome = meet(what)
    assert (outcome.code, outcome.out, outcome.err.splitlines()[-1]) == (code, "", f"error: {said}")


def test_what_nobody_foresaw_is_raised(meet):
    with pytest.raises(RuntimeError, match="^something odd$"):
        meet("raise RuntimeError('something odd')")


def test_the_exit_code_is_the_same_where_nobody_reads_the_message(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "cnntrain", "check", str(tmp_path / "none.yaml")], stderr=writer)
    os.close(writer)
    assert done.returncode == 2
