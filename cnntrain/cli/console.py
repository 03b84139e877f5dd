"""Drawing on a terminal: lines, and a progress bar where somebody is there to see it."""

from __future__ import annotations

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnntrain.text import printable

REFRESH_SECONDS = 0.1


class Terminal:
    """A display on stderr; the bar is drawn only when stderr is a terminal."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.drawn = 0.0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        """Tell a line, unless asked to be quiet."""
        if not self.quiet:
            self.console.print(printable(line), markup=False)

    def warn(self, line: str) -> None:
        """Tell a line in any case."""
        self.console.print(f"warning: {printable(line)}", markup=False, style="yellow")

    def progress(self, done: int, total: int, what: str) -> None:
        """Move the bar; often enough for the eye, not for every call."""
        if self.bar.disable or (monotonic() - self.drawn < REFRESH_SECONDS and done < total):
            return
        self.drawn = monotonic()
        if not self.bar.tasks:
            self.bar.add_task(what)
            self.bar.start()
        self.bar.update(self.bar.tasks[0].id, completed=done, total=total, description=what)


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    import json

    print(json.dumps(value))  # noqa: T201
