"""What can go wrong, said so that a person can act on it; each error knows its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnntrain.text import shortened

# However large a file is, and however much is wrong with it, what is said of it can be read.
PROBLEMS_SHOWN, MESSAGE_LENGTH, LINE_LENGTH = 50, 2000, 160


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a config: `line` and `column` count from 1, `text` is the whole line."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config: what, and where if that is known."""

    message: str
    position: Position | None = None

    def __str__(self) -> str:
        message = shortened(self.message, MESSAGE_LENGTH)
        if self.position is None:
            return message
        where = self.position
        # Of a long line, the part around the column.
        start = max(0, min(where.column - LINE_LENGTH // 2, len(where.text) - LINE_LENGTH))
        margin = f"{where.line:>5} | "
        pointer = " " * (len(margin) - 2) + "| " + " " * (where.column - 1 - start) + "^"
        return f"{where}: {message}\n{margin}{where.text[start : start + LINE_LENGTH]}\n{pointer}"


class CnntrainError(Exception):
    """The base of all errors that a user can cause or meet; shown without a traceback."""

    exit_code: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # Out of a process that works for another it comes as it is: what it says is not always what it was made of.
        return _revived, (type(self), self.args, vars(self))


def _revived(kind: type[CnntrainError], args: tuple[Any, ...], state: dict[str, Any]) -> CnntrainError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class UsageError(CnntrainError):
    """The request itself can't be carried out: a bad path, option or combination."""

    exit_code = 2


class ConfigError(UsageError):
    """A config that can't be used, with every problem that was found in it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:PROBLEMS_SHOWN]]
        if len(self.problems) > PROBLEMS_SHOWN:
            lines.append(f"and {len(self.problems) - PROBLEMS_SHOWN:,} more")
        super().__init__("\n".join(lines))


class CheckpointError(UsageError):
    """A checkpoint that is missing, damaged, or not one of ours."""


class DataError(CnntrainError):
    """Data that is missing, damaged, or does not fit what is asked of it."""


class HostileDataError(DataError):
    """Data that could run code when it is read, and is not read for that reason."""

    exit_code = 2


class Diverged(CnntrainError):
    """Training met a value that is not finite."""


class OutOfMemory(CnntrainError):
    """The computer's or the device's memory did not suffice."""

    def __init__(self, kept: str = "") -> None:
        super().__init__(
            f"out of memory; lower `training.batch_size` or `data.limit`, or make the network smaller{kept}"
        )


class ClaimNotMet(CnntrainError):
    """A figure that was claimed or asked for was not reached."""

    exit_code = 3


class Interrupted(CnntrainError):
    """A signal stopped the run after its state was saved."""

    exit_code = 130


class Signalled(BaseException):
    """A signal asks for an end at once; like KeyboardInterrupt no `Exception`, so that nothing holds it up."""


class Paused(Exception):
    """A run is to be saved, for another process goes on with it."""


def said_by_system(error: OSError) -> str:
    """What the system said, after the file that it said it of."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def first_line(error: BaseException) -> str:
    """What an error says in its first line, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# What torch says where it raises no error of a kind of its own.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, torch's CPU allocator or a device ran out of memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY))
    )


def as_ours(error: Exception) -> CnntrainError | None:
    """The error as people are told of it; None for one that nobody foresaw."""
    if isinstance(error, CnntrainError):
        return error
    if isinstance(error, OSError):
        return CnntrainError(said_by_system(error))
    return OutOfMemory() if is_out_of_memory(error) else None
