"""A machine has room for as many processes as there are cores that this one may use."""

import os

import pytest

from cnntrain import cgroup
from cnntrain.cores import as_many_as_cores


@pytest.fixture(autouse=True)
def _nothing_is_limited(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup, "GROUPS", tmp_path / "groups")


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


@pytest.mark.parametrize(
    ("own", "whole", "count"),
    [
        ("max 100000", "250000 100000", 2),
        ("50000 100000", "max 100000", 1),
        ("max 100000", "max 100000", 64),
        ("", "max", 64),
        ("5", "1 0", 64),
    ],
)
def test_a_container_has_room_for_what_it_is_granted(monkeypatch, tmp_path, own, whole, count):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    job = tmp_path / "groups" / "jobs" / "7"
    job.mkdir(parents=True)
    (job / "cpu.max").write_text(f"{own}\n")
    (tmp_path / "groups" / "cpu.max").write_text(f"{whole}\n")
    (tmp_path / "cgroup").write_text("0::/jobs/7\n")
    assert as_many_as_cores() == count


@pytest.mark.parametrize(("own", "whole", "count"), [("150000", "250000", 1), ("-1", "250000", 2), ("-1", "-1", 64)])
def test_the_first_version_of_groups(monkeypatch, tmp_path, own, whole, count):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    job = tmp_path / "groups" / "cpu" / "jobs" / "7"
    job.mkdir(parents=True)
    for folder, quota in ((job, own), (tmp_path / "groups" / "cpu", whole)):
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "groups" / "memory").mkdir()
    (tmp_path / "groups" / "memory" / "memory.limit_in_bytes").write_text("5000000\n")
    (tmp_path / "cgroup").write_text("4:memory:/elsewhere\n3:cpu,cpuacct:/jobs/7\n1:name=systemd:/\n")
    assert (as_many_as_cores(), cgroup.memory()) == (count, 5_000_000)
