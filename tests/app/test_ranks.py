"""What each rank makes of an error, and which device it takes."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from cnntrain.app import ranks
from cnntrain.app.ranks import ReadOnlyRunDirectory, directory_of, joined, launch
from cnntrain.errors import Diverged, Interrupted, Signalled, UsageError
from cnntrain.run.directory import RunDirectory
from cnntrain.training.distributed import Ranks
from tests.app.test_launched import WORDS


@pytest.fixture
def rank(monkeypatch):
    """Makes this process the rank of that number; gives how long it has waited."""
    waited = []
    for word, value in WORDS.items():
        monkeypatch.setenv(word, value)

    def become(number):
        monkeypatch.setattr(ranks, "Group", Ranks)
        monkeypatch.setattr(Ranks, "rank", number)
        monkeypatch.setattr(ranks, "sleep", waited.append)
        return waited

    return become


def end_of(error):
    """What comes out of a block of all ranks in which it is raised."""
    with pytest.raises(BaseException) as caught, joined("cpu"):
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error", [Diverged("it diverged"), Interrupted("saved"), Signalled("SIGINT"), UsageError("no")]
)
def test_rank_0_tells_an_error_as_it_is_and_at_once(rank, error):
    waited = rank(0)
    assert end_of(error) is error
    assert waited == []


def test_what_another_rank_meets_alone_is_told_under_its_number_once_rank_0_had_time_to_tell_the_same(rank):
    waited = rank(5)
    told = end_of(UsageError("no disk"))
    assert (type(told), str(told)) == (UsageError, "rank 5: no disk")
    assert waited == [ranks.WAIT_SECONDS]


@pytest.mark.parametrize(("error", "code"), [(Diverged("it diverged"), 1), (Interrupted("saved"), 130)])
def test_what_all_ranks_meet_is_not_told_again(rank, error, code):
    waited = rank(5)
    told = end_of(error)
    assert (type(told), told.code) == (SystemExit, code)
    assert waited == [ranks.WAIT_SECONDS]


def test_a_signal_ends_the_wait_for_rank_0_which_tells_the_same(rank, monkeypatch):
    rank(5)

    monkeypatch.setattr(ranks, "sleep", lambda seconds: signal.raise_signal(signal.SIGTERM))
    # Which would end these tests.
    monkeypatch.setattr(os, "_exit", sys.exit)
    told = end_of(UsageError("no disk"))
    assert (type(told), told.code) == (SystemExit, 2)


def test_a_signal_ends_another_rank_without_a_word_or_a_wait(rank):
    waited = rank(5)
    told = end_of(Signalled("SIGTERM"))
    assert (type(told), told.code) == (SystemExit, 130)
    assert waited == []


LOST = [
    dist.DistBackendError("a peer is gone"),
    RuntimeError("[gloo/transport/tcp/pair.cc:547] closed by peer"),
    RuntimeError("Connection reset by peer"),
    RuntimeError("NCCL error"),
]


@pytest.mark.parametrize("error", LOST)
def test_a_lost_connection_is_told_by_rank_0_alone(rank, error):
    rank(0)
    assert str(end_of(error)).startswith("the connection to another process of this run is lost; ")
    # Who is first to end gives the launcher's exit code: not one that knows only of the connection.
    before, waited = signal.getsignal(signal.SIGTERM), rank(5)
    told = end_of(error)
    assert (type(told), told.code, waited) == (SystemExit, 1, [ranks.WAIT_SECONDS])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [0, 5])
def test_an_error_that_nobody_foresaw_keeps_its_words(rank, number):
    rank(number)
    error = RuntimeError("something odd")
    assert end_of(error) is error


@pytest.mark.parametrize(
    ("chosen", "name", "said"),
    [
        (
            torch.device("cuda", 1),
            "cuda:1",
            "device `cuda:1` can't be shared by several processes; use `--device cuda`",
        ),
        (
            torch.device("mps"),
            "auto",
            "device `auto` can't be shared by several processes; use `--device cuda` or `cpu`",
        ),
        (torch.device("cuda"), "cuda", "process 2 has no GPU: there are 2; start fewer processes"),
    ],
)
def test_a_device_that_is_not_there_for_each_rank_is_refused(rank, monkeypatch, chosen, name, said):
    rank(5)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: pytest.fail(f"there is no GPU {number}"))
    monkeypatch.setattr(ranks.devices, "choose", lambda name: chosen)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match=said), joined(name):
        pass


def test_each_rank_takes_the_gpu_of_its_number_on_its_machine(rank, monkeypatch):
    rank(5)
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(ranks.devices, "choose", lambda name: torch.device(name))
    with joined("cuda") as group:
        assert group.device == torch.device("cuda", 1)
    assert taken == [1]
    with joined("cpu") as group:
        assert group.device == torch.device("cpu")
    assert taken == [1]


def test_rank_0_alone_writes(rank):
    for number, kind in ((0, RunDirectory), (5, ReadOnlyRunDirectory)):
        rank(number)
        with joined("cpu") as group:
            assert directory_of(group) is kind


def test_ranks_meet_in_a_file(monkeypatch):
    def launched(config, *_):
        configs.append(config)
        return lambda *words: None

    configs = []
    monkeypatch.setattr(ranks, "elastic_launch", launched)
    for name in ("OMP_NUM_THREADS", "TORCH_CPP_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")
    assert launch(2, ["train", "c.yaml"]) == 0
    # What listens on a port would unpickle what anybody sends to it.
    assert configs[0].rdzv_configs["store_type"] == "file"
    assert not Path(configs[0].rdzv_endpoint).parent.exists()


def test_windows_has_no_launcher(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="`--devices` can't be had on Windows"):
        launch(2, ["train", "c.yaml"])
