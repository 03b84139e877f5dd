"""Whatever ends the training of a run is told in full, with what is kept and how to go on, and is logged so."""

import errno
import os
from contextlib import closing

import pytest

from cnntrain.app.failures import explained
from cnntrain.errors import CnntrainError, Diverged, Interrupted, OutOfMemory, Signalled, UsageError
from cnntrain.run.directory import RunDirectory

RESUME = "cnntrain train --resume run"
LOWER = "out of memory; lower `training.batch_size` or `data.limit`, or make the network smaller"
ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"


@pytest.fixture
def directory(tmp_path):
    with closing(RunDirectory.create(tmp_path / "run", "seed: 0\n")) as made:
        yield made


def ended(directory, error):
    """What comes out of a training that is ended so."""
    with pytest.raises(BaseException) as caught, explained(directory, RESUME):
        raise error
    return caught.value


def system_error(number):
    return OSError(number, os.strerror(number), "metrics.csv")


ENDS = [
    (Signalled("SIGHUP"), Interrupted, f"interrupted by SIGHUP%s. Resume with:\n  {RESUME}"),
    (Diverged("the loss is nan"), Diverged, "the loss is nan%s"),
    *(
        (
            system_error(number),
            CnntrainError,
            f"metrics.csv: {os.strerror(number)}%s. {mended}, and resume with:\n  {RESUME}",
        )
        for number, mended in (
            (errno.ENOSPC, "Free space"),
            (errno.EDQUOT, "Free space"),
            (errno.EFBIG, "Free space"),
            (errno.EIO, "Fix this"),
        )
    ),
    (MemoryError(), OutOfMemory, f"{LOWER}%s"),
    (RuntimeError(ALLOCATOR), OutOfMemory, f"{LOWER}%s"),
]


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize(("error", "kind", "said"), ENDS, ids=[repr(error) for error, *_ in ENDS])
def test_an_end_is_told_and_logged_with_what_is_kept(directory, error, kind, said, is_kept):
    if is_kept:
        directory.last.write_bytes(b"")
    told = ended(directory, error)
    kept = f"the last good state is kept in {directory.last}" if is_kept else "no checkpoint was written yet"
    assert (type(told), str(told), told.__cause__) == (kind, said % f"; {kept}", error)
    # In one line, the last of which `doctor` and `report` repeat.
    assert (directory.path / "log.txt").read_text() == f"{' '.join(str(told).split())}\n"


def test_a_log_that_can_not_be_written_hides_no_end(directory):
    (directory.path / "log.txt").mkdir()
    assert type(ended(directory, Diverged("the loss is nan"))) is Diverged


def test_what_torch_says_of_an_algorithm_is_said_of_the_setting(directory):
    error = RuntimeError(
        "put_ does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
    )
    told, setting = ended(directory, error), "`training.deterministic`"
    advice = "turn it off, or use another layer"
    assert type(told) is UsageError
    assert str(told) == f"{setting}: put_ does not have a deterministic implementation; {advice}"


@pytest.mark.parametrize("error", [RuntimeError("something odd"), ValueError("odd"), UsageError("no")])
def test_what_is_not_known_here_stays_as_it_is(directory, error):
    assert ended(directory, error) is error
    assert not (directory.path / "log.txt").exists()
