"""The device as people are told of it."""

import pytest
import torch

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
