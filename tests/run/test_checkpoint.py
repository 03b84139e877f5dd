"""Checkpoints: whole or refused, never executed."""

import os
import pickle
import random
from dataclasses import replace

import pytest
import torch

from cnntrain import atomic
from cnntrain.errors import CheckpointError
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint


def example():
    return Checkpoint(
        config={"network": ["softmax"]},
        classes=["a", "b"],
        preprocessing={"shape": [1, 2, 2], "mean": [0.0], "std": [1.0]},
        weights={"w": torch.arange(6.0).view(2, 3)},
        result={"epoch": 1},
        data={"train": "0"},
        plugins={},
    )


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def test_round_trip_and_plain_torch_reads_it_too(tmp_path):
    checkpoint.save(tmp_path / "x.pt", example())
    loaded = checkpoint.load(tmp_path / "x.pt")
    assert torch.equal(loaded.weights["w"], example().weights["w"])
    assert loaded.classes == ["a", "b"]
    plain = torch.load(tmp_path / "x.pt", weights_only=True)
    assert torch.equal(plain["weights"]["w"], example().weights["w"])


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        checkpoint.load(tmp_path / "none.pt")


def test_a_folder_without_a_best_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 100, 500, -1])
def test_truncated(tmp_path, keep):
    checkpoint.save(tmp_path / "x.pt", example())
    data = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(data[:keep])
    with pytest.raises(CheckpointError, match="damaged|not a checkpoint"):
        checkpoint.load(tmp_path / "x.pt")


def test_a_flipped_bit_anywhere_is_found(tmp_path):
    checkpoint.save(tmp_path / "x.pt", example())
    data = (tmp_path / "x.pt").read_bytes()
    for position in random.Random(0).sample(range(len(data)), 200):
        broken = bytearray(data)
        broken[position] ^= 1 << (position % 8)
        (tmp_path / "x.pt").write_bytes(broken)
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path / "x.pt")


def test_another_programs_checkpoint(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(2)}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize("protocol", ["plain pickle", "torch.save"])
def test_hostile_pickle_is_refused_and_nothing_runs(tmp_path, protocol):
    canary = tmp_path / "canary"
    if protocol == "plain pickle":
        (tmp_path / "x.pt").write_bytes(pickle.dumps(Evil(canary)))
    else:
        torch.save({"format": checkpoint.FORMAT, "weights": Evil(canary)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="refused|damaged"):
        checkpoint.load(tmp_path / "x.pt")
    assert not canary.exists()


def test_hostile_pickle_under_a_true_seal(tmp_path):
    canary = tmp_path / "canary"
    torch.save({"format": checkpoint.FORMAT, "weights": Evil(canary)}, tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(checkpoint._sealed((tmp_path / "x.pt").read_bytes()))
    with pytest.raises(CheckpointError, match="refused"):
        checkpoint.load(tmp_path / "x.pt")
    assert not canary.exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    atomic.write(tmp_path / "x", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a\nb", "b"]},
        {"classes": ["a\x1b", "b"]},
        {"classes": ("a", "b")},
        {"weights": {"w": torch.zeros(2).to_sparse()}},
        {"weights": {"w": torch.zeros(2, dtype=torch.complex64)}},
        {"weights": {"w": [0.0]}},
        {"weights": {"w": torch.zeros(1).expand(10**6, 10**6)}},
        {"weights": {"w": torch.zeros(2, requires_grad=True)}},
        {"weights": {"w": torch.zeros(2).to(torch.float8_e5m2)}},
        {"config": {"network": b"softmax"}},
        {"preprocessing": {"shape": torch.zeros(3)}},
        {"config": {1: 2}},
        {"plugins": {1: ""}},
        {"data": ["train"]},
        {"result": "x"},
        {"training": [1]},
        {"training": {"epoch": 1}},
        {"result": {"x": 1}},
    ],
)
def test_what_is_sealed_but_not_of_its_kind(tmp_path, change):
    checkpoint.save(tmp_path / "x.pt", replace(example(), **change))
    with pytest.raises(CheckpointError, match=r"x\.pt: not a whole checkpoint of this program$"):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "change",
    [
        *({name: -1} for name in ("epoch", "batch", "step", "rollbacks")),
        *({name: "1"} for name in ("epoch", "step", "seconds", "learning_rate", "history")),
        {"stopping": {"best": "high", "epochs": 0}},
        {"stopping": None},
        {"history": []},
        {"history": [{"epoch": 1}]},
        {"health": [{"epoch": 1, "layer": "a", "weight_norm": torch.zeros(1), "gradient_norm": 0.0}]},
        {"best_weights": {"w": torch.zeros(1).expand(10**6, 10**6)}},
        {"changes": (1,)},
    ],
)
def test_a_sealed_state_that_is_none(trained, tmp_path, change):
    saved = checkpoint.load(trained / "checkpoints" / "last.pt")
    checkpoint.save(tmp_path / "x.pt", saved)
    assert checkpoint.load(tmp_path / "x.pt").training["epoch"] > 0
    checkpoint.save(tmp_path / "x.pt", replace(saved, training={**saved.training, **change}))
    with pytest.raises(CheckpointError, match=r"x\.pt: not a whole checkpoint of this program$"):
        checkpoint.load(tmp_path / "x.pt")


def test_one_of_another_version(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", "cnntrain checkpoint 2")
    checkpoint.save(tmp_path / "x.pt", example())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"x\.pt: not a checkpoint of this program$"):
        checkpoint.load(tmp_path / "x.pt")


def test_a_folder_in_the_place_of_one(tmp_path):
    (tmp_path / "checkpoints" / "best.pt").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"best\.pt: no checkpoint here \(not a file\)$"):
        checkpoint.load(tmp_path)
    (tmp_path / "checkpoints" / "best.pt").rmdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"best\.pt: .* \(no such file\), but there is .*last\.pt$"):
        checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"none\.pt: no checkpoint here \(no such file\)$"):
        checkpoint.load(tmp_path / "none.pt")
