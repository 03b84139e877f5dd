"""Pickles that would run something: refused with exit code 2, and a canary that stays away."""

import gzip
import io
import os
import pickle

import numpy as np
import pytest
import torch

from cnntrain.run import checkpoint


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def objects(evil):
    file = io.BytesIO()
    np.savez(file, images=np.array([evil], dtype=object), labels=np.zeros(1, int))
    return file.getvalue()


DATA = {
    "mnist.pkl.gz": lambda evil: gzip.compress(pickle.dumps((evil, evil, evil), 2)),
    "objects.npz": objects,
    "pickle.npz": lambda evil: pickle.dumps(evil),
}


@pytest.mark.parametrize("name", DATA)
def test_data(cnntrain, tmp_path, tiny, name):
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(DATA[name](Evil(canary)))
    source = "nielsen_pickle" if name.endswith("gz") else "npz"
    given = f"data.source={{{source}: {name}}}"
    outcome = cnntrain("train", tiny, given, "--data-dir", tmp_path, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert f"{name}: refused" in outcome.err
    assert not canary.exists()


@pytest.mark.parametrize("command", ["eval", "predict", "export", "ensemble"])
@pytest.mark.parametrize("kind", ["pickle", "torch", "sealed", "safetensors", "npz"])
def test_checkpoints(cnntrain, tmp_path, command, kind):
    canary = tmp_path / "canary"
    path = tmp_path / "x.pt"
    torch.save({"format": checkpoint.FORMAT, "weights": Evil(canary)}, path)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(canary)))
    elif kind == "sealed":
        path.write_bytes(checkpoint._sealed(path.read_bytes()))
    elif kind == "safetensors":
        path.write_bytes((8).to_bytes(8, "little") + b'{"a":{}}')
    elif kind == "npz":
        path.write_bytes(objects(Evil(canary)))
    outcome = cnntrain(command, path, *(["image.png"] if command == "predict" else []))
    assert outcome.code == 2
    assert "x.pt" in outcome.err
    assert not canary.exists()


def shared(depth):
    value = ["softmax"]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"network": shared(60)}},
        {"config": {"network": [{"dense": 10**5000}]}},
        {"config": {"network": [{"conv": 2_000_000_000}, "softmax"]}},
        {"config": {"extends": "/etc/passwd", "network": ["softmax"]}},
        {"config": {"network": ["softmax"], "plugins": ["evil.py"]}},
        {"config": None},
        {"classes": ["\x1b[2J", "b"]},
        {"classes": [1, 2]},
        {"classes": 10**9},
        {"preprocessing": {"shape": [1, 10**9, 10**9], "mean": [0.0], "std": [1.0]}},
        {"preprocessing": {"shape": [1, 2, 2], "mean": [], "std": [0.0]}},
        {"preprocessing": {}},
        {"weights": {"w": 3}},
        {"weights": {}},
        {"weights": {"0_softmax.linear.weight": torch.zeros(1).expand(10**12)}},
        {"training": 3},
        {"result": "x"},
    ],
)
def test_what_is_no_pickle_but_no_checkpoint_either(cnntrain, tmp_path, change):
    content = {
        "format": checkpoint.FORMAT,
        "config": {"network": ["softmax"]},
        "classes": ["a", "b"],
        "preprocessing": {"shape": [1, 2, 2], "mean": [0.0], "std": [1.0]},
        "weights": {},
        "result": None,
        "data": {},
        "plugins": {},
        "training": None,
    }
    file = io.BytesIO()
    torch.save(content | change, file)
    (tmp_path / "x.pt").write_bytes(checkpoint._sealed(file.getvalue()))
    outcome = cnntrain("eval", tmp_path / "x.pt")
    assert outcome.code == 2
    assert "x.pt" in outcome.err
    assert len(outcome.err) < 5_000
