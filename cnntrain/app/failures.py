"""What ends a run, said together with what is kept of it and how to go on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cnntrain.errors import (
    CnntrainError,
    Diverged,
    Interrupted,
    OutOfMemory,
    Signalled,
    UsageError,
    is_out_of_memory,
    said_by_system,
)
from cnntrain.run.directory import RunDirectory

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explained(directory: RunDirectory, resume: str) -> Iterator[None]:
    """Turn whatever ends the training of a run into one message, which `log.txt` holds too; `resume` is a command."""
    try:
        yield
    except Signalled as error:
        raise _logged(
            directory, Interrupted(f"interrupted by {error}{_kept(directory)}. Resume with:\n  {resume}")
        ) from error
    except Diverged as error:
        raise _logged(directory, Diverged(f"{error}{_kept(directory)}")) from error
    except OSError as error:
        mended = "Free space" if error.errno in FULL else "Fix this"
        said = f"{said_by_system(error)}{_kept(directory)}. {mended}, and resume with:"
        raise _logged(directory, CnntrainError(f"{said}\n  {resume}")) from error
    except (MemoryError, RuntimeError) as error:
        if "use_deterministic_algorithms" in str(error):
            said = str(error).partition(". ")[0].partition(", but ")[0]
            raise UsageError(f"`training.deterministic`: {said}; turn it off, or use another layer") from error
        if not is_out_of_memory(error):
            raise
        raise _logged(directory, OutOfMemory(_kept(directory))) from error


def _kept(directory: RunDirectory) -> str:
    if directory.last.is_file():
        return f"; the last good state is kept in {directory.last}"
    return "; no checkpoint was written yet"


def _logged(directory: RunDirectory, error: CnntrainError) -> CnntrainError:
    # The disk, or another run in this one's place, may be what went wrong.
    with suppress(OSError, UsageError):
        directory.log(" ".join(str(error).split()))
    return error
