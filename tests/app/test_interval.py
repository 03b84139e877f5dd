"""Checkpoints within an epoch are due after so many steps, or minutes."""

import pytest

from cnntrain.app import interval
from cnntrain.app.interval import Interval
from cnntrain.config.schema import CheckpointEveryConfig


@pytest.fixture
def clock(monkeypatch):
    """A clock that shows what is put into it, in seconds."""
    shown = [1000.0]
    monkeypatch.setattr(interval, "monotonic", lambda: shown[0])
    return shown


def test_so_many_steps(clock):
    every = Interval(CheckpointEveryConfig(steps=3), 5)
    assert [every.is_over(step) for step in (5, 6, 7, 8, 9)] == [False, False, False, True, True]
    every.begin(9)
    assert [every.is_over(step) for step in (9, 11, 12)] == [False, False, True]


def test_so_many_minutes(clock):
    every = Interval(CheckpointEveryConfig(minutes=2), 5)
    clock[0] += 119
    assert not every.is_over(100)
    clock[0] += 1
    assert every.is_over(100) and every.is_over(6)
    # Nothing has been done since, that could be saved.
    assert not every.is_over(5)
    every.begin(100)
    assert not every.is_over(101)


def test_whichever_comes_first_or_never(clock):
    both, never = Interval(CheckpointEveryConfig(minutes=1, steps=10), 0), Interval(None, 0)
    assert both.is_over(10) and not both.is_over(9)
    clock[0] += 60
    assert both.is_over(9)
    assert not never.is_over(10**9)
