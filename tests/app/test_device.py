"""The device as people are told of it."""

import pytest
import torch

from cnntrain import cgroup
from cnntrain.app.device import choose, describe
from cnntrain.errors import UsageError


@pytest.mark.parametrize(("count", "said"), [(1, "cpu (1 thread)"), (3, "cpu (3 threads)")])
def test_a_cpu_has_so_many_threads(count, said):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        assert describe(choose("cpu")) == said
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["abacus", "cpu:x", "", "cuda:99", "meta"])
def test_what_is_not_there(name):
    with pytest.raises(UsageError, match=f"^device `{name}` can't be used here: .*; try `--device auto`$"):
        choose(name)


def test_mps_is_for_who_names_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("cores", "asked", "threads"), [(2.5, None, 2), (0.5, None, 1), (2.5, "4", 4), (64.0, None, 4)]
)
def test_no_more_threads_than_a_container_is_granted(monkeypatch, cores, asked, threads):
    before = torch.get_num_threads()
    monkeypatch.setattr(cgroup, "cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    try:
        torch.set_num_threads(4)
        choose("auto" if cores < 1 else "cpu")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
