"""Drawing on a terminal: lines, and a progress bar where somebody is there to see it."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnntrain.atomic import naming
from cnntrain.text import printable

REFRESH_SECONDS = 0.1


class _Console(Console):
    """rich's console, without its end of the process where nobody reads any more: whoever works has to save first."""

    def on_broken_pipe(self) -> None:
        """Let the error be one as others."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Terminal:
    """A display on stderr; the bar is drawn only when stderr is a terminal, not `is_shared` with rows on stdout."""

    def __init__(self, quiet: bool, is_shared: bool = False) -> None:
        self.quiet = quiet
        self.console = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            # Whoever forces colours upon a file wants no bar in it.
            disable=quiet or is_shared or not (self.console.is_terminal and self.console.file.isatty()),
            redirect_stdout=False,
        )
        self.drawn = -math.inf

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        """Tell a line, unless asked to be quiet."""
        if not self.quiet:
            self._print(printable(line))

    def warn(self, line: str) -> None:
        """Tell a line in any case."""
        self._print(f"warning: {printable(line)}", "yellow")

    def _print(self, line: str, style: str | None = None) -> None:
        with naming(Path("standard error")):
            self.console.print(line, markup=False, style=style)

    def progress(self, done: int, total: int, what: str) -> None:
        """Move the bar; often enough for the eye, not for every call. When all is done it is taken away."""
        if self.bar.disable:
            return
        is_new = any(task.description != what for task in self.bar.tasks)
        is_due = bool(self.bar.tasks) if done >= total else is_new or monotonic() - self.drawn >= REFRESH_SECONDS
        if not is_due:
            return
        self.drawn = monotonic()
        if not self.bar.tasks:
            self.bar.add_task(what, completed=done, total=total)
            self.bar.start()
        (task,) = self.bar.task_ids
        self.bar.update(task, completed=done, total=total, description=what)
        if done >= total:
            self.bar.stop()
            self.bar.remove_task(task)
