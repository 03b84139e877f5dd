"""Whole commands on a pretended GPU: everything is on the device that it is needed on, and no result is another."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

from tests.faults.cases import rows

# No dropout, whose masks a GPU draws otherwise.
CONFIG = """
data: {source: digits, limit: 600, normalize: true, augment: [{shift: 1}, {affine: {degrees: 10}}, {erase: 2}]}
network:
  - conv_pool: {filters: 6, kernel_size: 3, activation: relu}
  - residual: {activation: relu, layers: [{conv: {filters: 8, padding: same}}, batch_norm]}
  - fully_connected: {units: 16, activation: relu}
  - softmax
training:
  epochs: 2
  batch_size: 10
  optimizer: {sgd: {learning_rate: 0.05, momentum: 0.9}}
  clip_grad_norm: 1.0
  label_smoothing: 0.1
  schedule: cosine
"""


def on_gpu(folder, *words):
    """Standard output of a command that has a GPU, and how many graphs it recorded and launched."""
    command = [sys.executable, "-m", "tests.pretended_gpu", *map(str, words), "--device", "cuda"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, counts = done.stderr.splitlines()
    return done.stdout, "\n".join(said), [int(word) for word in counts.split() if word.isdecimal()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config, a run of it on a GPU in `gpu`, and one in plain steps on a CPU in `cpu`."""
    from cnntrain.app.configure import load_config
    from cnntrain.app.train import train_run
    from cnntrain.app.where import Where

    folder = tmp_path_factory.mktemp("on-a-gpu")
    (folder / "c.yaml").write_text(CONFIG)
    _, said, (recorded, launched) = on_gpu(folder, "train", "c.yaml", "--run-dir", "gpu")
    assert "; cuda (a pretended GPU)" in said and "plain steps" not in said
    # The single steps that it leaves over are too few for one of their own.
    assert recorded == 1 and launched == 4
    train_run(load_config(folder / "c.yaml", ["training.engine=eager"]), folder / "cpu", Where(device="cpu"))
    return folder


def assert_same_rows(one, other, name="metrics"):
    assert len(rows(one, name)) == len(rows(other, name)) > 0
    for a, b in zip(rows(one, name), rows(other, name), strict=True):
        for key, value in a.items():
            is_number = value and key not in ("layer", "best")
            if is_number:
                assert float(b[key]) == pytest.approx(float(value), rel=2e-3, abs=1e-5), (key, a, b)
            else:
                assert b[key] == value


def test_graphs_learn_what_plain_steps_learn(folder):
    assert_same_rows(folder / "cpu", folder / "gpu")
    assert_same_rows(folder / "cpu", folder / "gpu", "diagnostics")


def test_a_run_goes_on(folder):
    on_gpu(folder, "train", "c.yaml", "training.epochs=1", "training.schedule=constant", "--run-dir", "begun")
    out, _, (recorded, launched) = on_gpu(folder, "train", "--resume", "begun", "training.epochs=2")
    assert recorded == 1 and launched == 2
    on_gpu(folder, "train", "c.yaml", "training.schedule=constant", "--run-dir", "straight")
    assert_same_rows(folder / "straight", folder / "begun")
    assert out == "begun\n"


def test_plain_sgd_learns_what_it_does_in_plain_steps(folder, cnntrain):
    descent = [
        "training.optimizer={sgd: {learning_rate: 0.1}}",
        "training.clip_grad_norm=null",
        "training.ema_decay=0.9",
    ]
    cnntrain("train", folder / "c.yaml", *descent, "training.engine=eager", "--run-dir", folder / "plain")
    _, _, (recorded, launched) = on_gpu(folder, "train", "c.yaml", *descent, "--run-dir", "descent")
    assert recorded == 1 and launched == 4
    assert_same_rows(folder / "plain", folder / "descent")
    assert_same_rows(folder / "plain", folder / "descent", "diagnostics")


def test_runs_in_turns_are_those_that_were_alone(folder):
    on_gpu(folder, "train", "c.yaml", "--seeds", "0-1", "--jobs", "2", "--run-dir", "seeds")
    assert_same_rows(folder / "gpu", folder / "seeds" / "seed-0")
    assert rows(folder / "seeds" / "seed-1") != rows(folder / "gpu")


def test_images_are_streamed_to_it(folder):
    _, said, (recorded, _) = on_gpu(folder, "train", "c.yaml", "data.memory_budget=1", "--run-dir", "streamed")
    assert recorded == 0 and "plain steps, no CUDA graph: the images are streamed" in said
    assert_same_rows(folder / "cpu", folder / "streamed")


def test_checkpoints_are_used_on_either(folder, cnntrain):
    said = json.loads(on_gpu(folder, "eval", "gpu", "--json")[0])
    there = json.loads(cnntrain("eval", folder / "gpu", "--device", "cpu", "--json").out)
    assert said["confusion_matrix"] == there["confusion_matrix"]
    assert said["loss"] == pytest.approx(there["loss"], rel=1e-5)
    Image.new("L", (8, 8), 90).save(folder / "grey.png")
    assert on_gpu(folder, "predict", "gpu", "grey.png")[0].startswith("path,rank,class,probability\ngrey.png,1,")
    vote = json.loads(on_gpu(folder, "ensemble", "gpu", "cpu", "--json")[0])
    assert vote["alone"]["gpu"] == pytest.approx(said["accuracy"])


def test_layers_are_looked_into(folder, cnntrain):
    there = json.loads(cnntrain("probe", folder / "c.yaml", "--device", "cpu", "--json").out)
    said = json.loads(on_gpu(folder, "probe", "c.yaml", "--json")[0])
    for one, other in zip(said["layers"], there["layers"], strict=True):
        assert one["std"] == pytest.approx(other["std"], rel=1e-4)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("torch.ones(2, device='cuda') + torch.ones(2)", "cuda:0 and cpu"),
        ("nn.Linear(2, 2)(torch.ones(1, 2, device='cuda'))", "cuda:0 and cpu"),
        ("torch.ones(2, device='cuda').numpy()", "to numpy"),
        ("NOW.__setattr__('refuses', True), torch.ones(2, device='cuda').sum().item()", "not permitted"),
        ("NOW.__setattr__('refuses', True), torch.tensor([1.0], device='cuda')", "not permitted"),
        ("NOW.__setattr__('refuses', True), torch.ones(2).to('cuda')", "not permitted"),
    ],
)
def test_what_a_gpu_refuses_is_refused_here(code, said):
    text = f"import torch\nfrom torch import nn\nfrom tests.pretended_gpu import NOW, pretend\npretend()\n{code}\n"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr.splitlines()[-1], done.stderr
