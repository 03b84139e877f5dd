"""`python -m tests.faults.soak --minutes N`: every fault for its share of the time, and a table of what was found."""

import argparse
import sys
from random import Random
from time import monotonic

from . import test_checkpoints, test_disk, test_divergence, test_kill, test_mutated_configs, test_mutated_data
from .cases import Row

# Each module of faults lists its own rows: (name, function(random, deadline) -> Outcome).
MODULES = (test_kill, test_checkpoints, test_disk, test_divergence, test_mutated_configs, test_mutated_data)
ROWS: list[Row] = [row for module in MODULES for row in module.ROWS]


def main() -> int:
    """Run all rows, or those whose name holds `--only`; gives 1 when anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="for all rows together")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    given = parser.parse_args()
    rows = [row for row in ROWS if given.only in row[0]]
    end = monotonic() + 60 * given.minutes
    failures: list[str] = []
    print(f"{'fault':<60} {'cases':>7} {'failures':>9} {'seconds':>8}")
    for number, (name, work) in enumerate(rows):
        started = monotonic()
        # What a row leaves over goes to those behind it.
        outcome = work(Random(f"{given.seed}/{name}"), started + max(end - started, 0) / (len(rows) - number))
        seconds = monotonic() - started
        print(f"{name:<60} {outcome.cases:>7,} {len(outcome.failures):>9} {seconds:>8.1f}", flush=True)
        failures += [f"{name}: {failure}" for failure in outcome.failures]
    print("\n".join(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
