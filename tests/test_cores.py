"""A machine has room for as many processes as there are cores that this one may use."""

import os

import pytest

from cnntrain.cores import as_many_as_cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system allots no cores")
def test_cores_that_are_allotted_to_others_do_not_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert as_many_as_cores() == 3


def test_all_cores_count_where_none_are_allotted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert as_many_as_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert as_many_as_cores() == 1
