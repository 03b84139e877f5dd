"""When the next checkpoint within an epoch is due."""

from __future__ import annotations

from time import monotonic

from cnntrain.config.schema import CheckpointEveryConfig


class Interval:
    """Counts steps and minutes since the last checkpoint; a clock that is set back does not matter."""

    def __init__(self, every: CheckpointEveryConfig | None, step: int) -> None:
        self.every = every
        self.begin(step)

    def begin(self, step: int) -> None:
        """A checkpoint was written at this step."""
        self.step, self.time = step, monotonic()

    def is_over(self, step: int) -> bool:
        """Whether it is time for another one."""
        if self.every is None or step == self.step:
            return False
        steps, minutes = self.every.steps, self.every.minutes
        if steps is not None and step - self.step >= steps:
            return True
        return minutes is not None and monotonic() - self.time >= 60 * minutes
