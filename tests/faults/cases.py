"""What rows of the soak are made of: a case that raises is a failure, and is repeated with other random numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import monotonic

# A fault that fails everywhere needs no thousand witnesses.
ENOUGH_FAILURES = 20


@dataclass
class Outcome:
    """How many cases were run, and what was wrong with those that failed."""

    cases: int = 0
    failures: list[str] = field(default_factory=list)


# Works on a fault until the deadline (of `time.monotonic`), all choices taken from the generator.
Row = tuple[str, Callable[[Random, float], Outcome]]


def repeat(case: Callable[[Random], None], random: Random, deadline: float) -> Outcome:
    """Run a case again and again, at least once; each has a seed of its own, named where it fails."""
    outcome = Outcome()
    while not outcome.cases or (monotonic() < deadline and len(outcome.failures) < ENOUGH_FAILURES):
        seed = random.getrandbits(32)
        outcome.cases += 1
        try:
            case(Random(seed))
        except Exception as error:
            outcome.failures.append(f"seed {seed}: {type(error).__name__}: {error}")
    return outcome
