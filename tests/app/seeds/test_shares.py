"""Runs divided among processes end together; no run is in two at once, and each is the run alone to the bit."""

import json
from fractions import Fraction
from itertools import pairwise

import pytest

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.seeds.shares import Share, divided
from cnntrain.app.seeds.train import train_seeds
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from tests.faults.cases import assert_same_runs


def times(queues):
    """When each part of each run begins and ends, where every run takes a time of 1."""
    found = {}
    for queue in queues:
        now, taken = Fraction(0), {}
        for share in queue:
            before = (
                0
                if share.until < 1
                else max((s.until for q in queues for s in q if s.seed == share.seed and s.until < 1), default=0)
            )
            taken[share.seed] = (now, now + share.until - before)
            now += share.until - before
        for seed, (begin, end) in taken.items():
            found.setdefault(seed, []).append((begin, end))
    return found


@pytest.mark.parametrize(("runs", "processes"), [(5, 2), (5, 4), (7, 3), (10, 8), (4, 2), (3, 8), (1, 1), (9, 2)])
def test_all_end_together_and_none_is_in_two_at_once(runs, processes):
    found = times(divided(range(runs), processes))
    assert sorted(found) == list(range(runs))
    for parts in found.values():
        assert sum(end - begin for begin, end in parts) == 1
        parts.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(parts))
    assert max(end for parts in found.values() for _, end in parts) == max(1, Fraction(runs, processes))


def test_runs_that_divide_evenly_stay_whole():
    assert divided([3, 5, 7, 9], 2) == [[Share(3, 1), Share(5, 1)], [Share(7, 1), Share(9, 1)]]
    assert divided([], 2) == [[], []]


def test_a_run_that_moves_is_begun_as_the_first_work_of_one_and_ended_as_the_last_of_another():
    half = Fraction(1, 2)
    assert divided([3, 5, 7, 8, 9], 2) == [
        [Share(3, Fraction(1)), Share(5, Fraction(1)), Share(7, Fraction(1))],
        [Share(7, half), Share(8, Fraction(1)), Share(9, Fraction(1))],
    ]


class Heard(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_a_run_that_moves_is_the_run_that_it_would_be_alone(tiny, tmp_path):
    config, display = load_config(tiny), Heard()
    summaries = train_seeds(config, [0, 1, 2], tmp_path / "runs", Where(), 2, display)
    assert [summary["seed"] for summary in summaries] == [0, 1, 2]
    resumed = [line for line in display.lines if "resuming after epoch 1, batch" in line]
    assert [line.split(":")[0] for line in resumed] == ["seed 1"]
    for seed in (0, 1, 2):
        train_run(load_config(tiny, [f"seed={seed}"]), tmp_path / f"alone-{seed}", Where())
        assert_same_runs(tmp_path / f"alone-{seed}", tmp_path / "runs" / f"seed-{seed}")


def test_a_run_that_stops_early_in_its_first_share_is_done(tiny, tmp_path):
    stopping = "training.early_stopping={patience: 1, min_delta: 1.0}"
    config = load_config(tiny, [stopping, "training.epochs=8"])
    summaries = train_seeds(config, [0, 1, 2], tmp_path / "runs", Where(), 2, Silent())
    assert [summary["epochs"] for summary in summaries] == [2, 2, 2]
    kept = json.loads((tmp_path / "runs" / "seed-1" / "summary.json").read_text())
    assert kept == summaries[1]
