"""Training beside other things: in processes that were forked, with configs that were sent, in programs of any type."""

import multiprocessing
import os
import pickle
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from cnntrain.app.configure import load_config
from cnntrain.app.ensemble import ensemble
from cnntrain.app.export import export
from cnntrain.app.predict import predict_images
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.config.load import resolved
from cnntrain.errors import UsageError
from cnntrain.run import checkpoint

NESTED = "network=[{repeat: {times: 2, layers: [{conv: {filters: 4, kernel_size: 3, init: he}}]}}, softmax]"
FORKED = """
import os, sys, torch
from cnntrain.app.configure import load_config
from cnntrain.app.train import train_run
from cnntrain.app.where import Where

torch.set_num_threads(2)
config = load_config(sys.argv[1], ["training.epochs=1", "data.limit=200"])
train_run(config, "parent", Where(device="cpu"))
child = os.fork()
if not child:
    train_run(config, "child", Where(device="cpu"))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


def test_a_config_can_be_sent_to_another_process(tiny):
    config = load_config(tiny, [NESTED, "data.augment=[{shift: 1}, affine]"])
    again = pickle.loads(pickle.dumps(config))
    assert resolved(again) == resolved(config) and again == config
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(resolved, [config]).get(60) == resolved(config)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_was_forked_trains(tiny, tmp_path):
    """Its parent has trained with two threads, of which a fork has one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "7 2\n", done.stderr
    assert "cpu (1 thread)" in (tmp_path / "child" / "summary.json").read_text()


def test_the_type_that_a_program_has_set_changes_nothing(tiny, tmp_path):
    config = load_config(tiny, ["training.epochs=1", "data.limit=200"])
    train_run(config, tmp_path / "one", Where(device="cpu"))
    torch.set_default_dtype(torch.float64)
    try:
        train_run(config, tmp_path / "other", Where(device="cpu"))
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    one, other = (checkpoint.load(tmp_path / name).weights for name in ("one", "other"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_backend_of_a_notebook_is_no_hindrance(tiny, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "module://that_is_not_installed"}
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), "training.epochs=1", "--run-dir", "run", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "run\n"), done.stderr
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("inputs", "what"),
    [("", "an empty text"), ([""], "an empty text"), (torch.zeros(2, 1, 8, 8), "a Tensor"), (3.5, "a float")],
)
def test_images_are_named_by_their_paths(trained, inputs, what):
    with pytest.raises(UsageError, match=f"^images are named by their paths, not by {what};"):
        list(predict_images(trained, inputs, Where(device="cpu")))


def test_what_is_no_choice_is_refused(trained, tmp_path):
    with pytest.raises(UsageError, match="^`avg`: a vote is one of plurality, mean$"):
        ensemble([trained, trained], "avg", Where(device="cpu"))
    with pytest.raises(UsageError, match="^`keras`: a format is one of safetensors, npz, onnx$"):
        export(trained, "keras", tmp_path / "x.keras")
    assert not list(tmp_path.iterdir())
