"""One run among several: how it begins, and how it tells of itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from cnntrain.app.display import Display
from cnntrain.app.signals import Listening
from cnntrain.app.train import Training, resume_stepwise, train_stepwise
from cnntrain.app.where import Where
from cnntrain.config.schema import Config
from cnntrain.errors import CnntrainError, Interrupted, as_ours

REPORT_SECONDS = 0.2


class Failure(NamedTuple):
    """Why a run has failed, and the exit code that it would end with alone."""

    why: str
    exit_code: int = CnntrainError.exit_code


@dataclass
class SeedRuns:
    """What is known of so many runs: how far each is, what they gave, what went wrong."""

    display: Display
    count: int
    done: dict[int, tuple[int, int]] = field(default_factory=dict)
    summaries: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    # Who is to go on in another process.
    paused: set[int] = field(default_factory=set)

    def hear(self, kind: str, seed: int, *content: Any) -> None:
        """Take a message of a run."""
        if kind == "progress":
            self.done[seed] = (content[0], content[1])
            done, total = (sum(column) for column in zip(*self.done.values(), strict=True))
            self.display.progress(done, total, f"seeds {', '.join(map(str, self.done))}")
        elif kind == "summary":
            self.summaries[seed] = content[0]
        elif kind == "failed":
            self.failures[seed] = Failure(*content)
            if len(self.summaries) + len(self.failures) < self.count:
                # The others may go on for hours.
                self.display.warn(f"seed {seed}: {content[0]}")
        elif kind == "interrupted":
            self.failures[seed] = Failure("interrupted; repeat the command to continue", Interrupted.exit_code)
        elif kind == "paused":
            self.paused.add(seed)
            self.display.say(f"seed {seed}: saved; it goes on in another process")
        elif kind == "warn":
            self._warn(seed, content[0])
        else:
            self.display.say(f"seed {seed}: {content[0]}")

    def _warn(self, seed: int, line: str) -> None:
        """Tell what several runs have in common once."""
        if line not in self.warned:
            self.warned.add(line)
            self.display.warn(f"seed {seed}: {line}")


@dataclass
class Relay:
    """A display that tells everything under the seed's number."""

    seed: int
    hear: Callable[..., None]
    sent: float = -math.inf

    def say(self, line: str) -> None:
        """A line for people."""
        self.hear("say", self.seed, line)

    def warn(self, line: str) -> None:
        """What is not as it should be."""
        self.hear("warn", self.seed, line)

    def progress(self, done: int, total: int, what: str) -> None:
        """How far the run is; not each time, but where it has ended, with fewer epochs than it might have had too."""
        if done >= total or monotonic() - self.sent >= REPORT_SECONDS:
            self.sent = monotonic()
            self.hear("progress", self.seed, done, total)


def begin_or_resume(config: Config, run_dir: Path, where: Where, display: Display, listened: Listening) -> Training:
    """A run from its beginning, or from where it stopped."""
    if (run_dir / "config.yaml").is_file():
        return resume_stepwise(run_dir, (), where, display, listened=listened)
    return train_stepwise(config, run_dir, where, display, listened)


@contextmanager
def reported(seed: int, hear: Callable[..., None]) -> Iterator[None]:
    """Tell why a run failed, and go on."""
    try:
        yield
    except Interrupted:
        hear("interrupted", seed)
    except Exception as error:
        ours = as_ours(error)
        if ours is None:
            raise
        hear("failed", seed, str(ours), ours.exit_code)
