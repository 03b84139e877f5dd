"""What a run stands in: memory, data, other processes, Python's warnings; and the same bits again."""

import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnntrain import registry
from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import Interrupted, OutOfMemory, UsageError, is_out_of_memory
from cnntrain.run import checkpoint

from .cases import CONFIG, assert_same_runs, config_of, start, wait_for, whole
from .test_interruption import Killed, Killing

CPU = Where(device="cpu")

# --- memory

BIG = ("network.0.conv.filters=512", "training.batch_size=10", "training.checkpoint_every={steps: 2}")


class TakeMemoryAway(Silent):
    """No new memory after so many batches."""

    def progress(self, done, total, what):
        if done == 5:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))


def _train_without_memory(run: Path) -> None:
    try:
        train_run(config_of(CONFIG, *BIG), run, CPU, TakeMemoryAway())
    except OutOfMemory as error:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        (run / "said").write_text(str(error))


def test_out_of_memory_says_what_to_lower_and_keeps_the_state(tmp_path):
    run = tmp_path / "run"
    process = start(_train_without_memory, run)
    process.join(120)
    said = (run / "said").read_text()
    assert said.startswith("out of memory; lower `training.batch_size`")
    assert f"the last good state is kept in {run}" in said
    (run / "said").unlink()
    resume_run(run, [], CPU)
    assert_same_runs(whole(CONFIG, *BIG), run)


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MPS backend out of memory (MPS allocated: 1.00 GB, other allocations: 1.00 GB, max allowed: 2.00 GB)",
    ],
)
def test_memory_may_run_out_in_other_words(said):
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def _usual_address_space() -> int:
    """Of a process that is about to train: several times as much with a build of torch for CUDA."""
    code = "import cnntrain.app.report, cnntrain.app.train; print(open('/proc/self/statm').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0]) * resource.getpagesize()


def test_a_network_that_is_too_large_is_one_message(tmp_path):
    (tmp_path / "c.yaml").write_text("network: [{fully_connected: 400000}, {fully_connected: 2000}, softmax]")
    command = [sys.executable, "-m", "cnntrain", "train", "c.yaml"]
    # Enough for the first layer, 0.1 GB, and not for the second, 3.2 GB.
    limit = _usual_address_space() + (2 << 30)
    limited = partial(resource.setrlimit, resource.RLIMIT_AS, (limit, limit))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: c.yaml:1:38: layer `fully_connected`") and "too little memory" in done.stderr
    assert "Traceback" not in done.stderr


# --- data


@pytest.fixture
def data(tmp_path):
    """Writes a small data set."""

    def write(seed=0, size=5):
        pixels = np.random.default_rng(seed).integers(0, 256, (90, size, size), np.uint8)
        np.savez(tmp_path / "d.npz", x_train=pixels, y_train=np.arange(90) % 3)

    write()
    return write


@pytest.fixture
def begun(data, tmp_path):
    """A run that was interrupted in the middle of its first epoch."""
    config = config_of(
        f"data: {{source: {{npz: {tmp_path / 'd.npz'}}}, normalize: true}}\n"
        "network: [{fully_connected: {units: 9, activation: relu}}, softmax]\n"
        "training: {epochs: 2, batch_size: 10}\n"
    )
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "run", CPU, Interrupting())
    return tmp_path / "run"


class Interrupting(Silent):
    """Sends a signal after three batches."""

    def progress(self, done, total, what):
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_changed_data_is_refused_unless_forced(cnntrain, begun, data):
    last = begun / "checkpoints" / "last.pt"
    before = last.read_bytes()
    data(seed=1)
    refused = cnntrain("train", "--resume", begun)
    assert refused.code == 1
    assert "the train and validation and test images or labels have changed since this run began" in refused.err
    assert "`--force`" in refused.err
    assert last.read_bytes() == before
    mean = checkpoint.load(last).preprocessing["mean"]
    forced = cnntrain("train", "--resume", begun, "--force")
    assert forced.code == 0
    assert "have changed since this run began; continuing because of `--force`" in forced.err
    [change] = json.loads((begun / "summary.json").read_text())["changes"]
    assert "have changed since this run began" in change
    after = checkpoint.load(last)
    # Preprocessed as the network knows it; the epoch that had begun was begun again.
    assert after.preprocessing["mean"] == mean
    assert after.training["step"] == 3 + 2 * 7
    assert cnntrain("doctor", begun).code == 0
    assert cnntrain("train", "--resume", begun).code == 0


def test_data_that_was_forced_once_is_known_from_then_on(begun, data):
    data(seed=1)
    with pytest.raises(Killed):
        resume_run(begun, [], CPU, Killing(), force=True)
    [change] = resume_run(begun, [], CPU)["changes"]
    assert change.startswith("after epoch 0, batch 3: ") and "have changed since this run began" in change


def test_other_shapes_are_refused_even_when_forced(cnntrain, begun, data):
    data(size=6)
    outcome = cnntrain("train", "--resume", begun, "--force")
    assert outcome.code == 1
    assert "and so has the images' shape" in outcome.err


def test_other_classes_are_refused_even_when_forced(cnntrain, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for number in range(30):
            Image.new("L", (4, 4), number * 8).save(tmp_path / "d" / name / f"{number}.png")
    config = tmp_path / "c.yaml"
    source = f"data: {{source: {{image_folder: {tmp_path / 'd'}}}}}"
    config.write_text(f"{source}\nnetwork: [softmax]\ntraining: {{epochs: 1}}\n")
    assert cnntrain("train", config, "--run-dir", tmp_path / "run", "-q").code == 0
    (tmp_path / "d" / "dog").rename(tmp_path / "d" / "eel")
    outcome = cnntrain("train", "--resume", tmp_path / "run", "training.epochs=2", "--force")
    assert outcome.code == 1
    assert "the classes were cat, dog, and are cat, eel now" in outcome.err


def test_force_alone(cnntrain):
    assert "`--force` can only be used with `--resume`" in cnntrain("train", "c.yaml", "--force").err


# --- the same bits again


def _train(run: Path, *overrides: str) -> None:
    train_run(config_of(CONFIG, *overrides), run, CPU)


@pytest.mark.parametrize("overrides", [(), ("training.deterministic=true",)])
def test_two_processes_come_to_the_same_bits(tmp_path, overrides):
    for name in ("one", "two"):
        process = start(_train, tmp_path / name, *overrides)
        process.join(120)
    assert_same_runs(tmp_path / "one", tmp_path / "two")


class Looking(Silent):
    """Notes what torch was asked for while it trains."""

    def __init__(self):
        self.seen = set()

    def progress(self, done, total, what):
        self.seen.add((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))


def test_deterministic_holds_while_training_only(tmp_path):
    looking = Looking()
    train_run(config_of(CONFIG, "training.deterministic=true"), tmp_path / "run", CPU, looking)
    assert looking.seen == {(True, ":4096:8")}
    assert not torch.are_deterministic_algorithms_enabled()


PUTTING = """
import torch

from cnntrain.registry import layers


class Putting(torch.nn.Module):
    def forward(self, values):
        torch.zeros(2).put_(torch.zeros(1, dtype=torch.int64), torch.ones(1))
        return values


@layers.register("putting")
def putting(given, /):
    return Putting()
"""


def test_a_layer_without_a_deterministic_algorithm_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    plugin, config = tmp_path / "putting.py", tmp_path / "c.yaml"
    plugin.write_text(PUTTING)
    config.write_text("network: [putting, softmax]\ntraining: {epochs: 1, deterministic: true}\n")
    with pytest.raises(UsageError, match=r"`training\.deterministic`: put_.*turn it off, or use another layer"):
        train_run(load_config(config, plugins=[plugin]), tmp_path / "run", Where(device="cpu", plugins=[plugin]))


# --- other processes


def _owner(run: Path) -> int:
    return int((run / ".owner").read_text().split()[0])


def test_a_worker_that_is_killed_is_reported_and_the_others_go_on(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)
    words = ["train", "c.yaml", "training.epochs=60", "--seeds", "0-2", "--jobs", "2"]
    command = [sys.executable, "-m", "cnntrain", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "runs" / "c" / "seed-0"
    wait_for((run / "metrics.csv").exists)
    os.kill(_owner(run), signal.SIGKILL)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "error: seed 0: its process was ended by SIGKILL; repeat the command to continue" in err
    assert all((run.with_name(f"seed-{number}") / "summary.json").exists() for number in (1, 2))
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert again.returncode == 0, again.stderr
    assert_same_runs(whole(CONFIG, "training.epochs=60"), run)


def test_a_parent_that_is_killed_takes_its_workers_with_it_and_loses_nothing(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)
    words = ["train", "c.yaml", "training.epochs=100000", "--seeds", "0"]
    command = [sys.executable, "-m", "cnntrain", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "runs" / "c" / "seed-0"
    wait_for((run / "metrics.csv").exists)
    worker = _owner(run)
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), 60)
    assert "interrupted by SIGTERM; resume with" in (run / "log.txt").read_text()
    assert not (run / ".owner").exists()


# --- Python's warnings


# torch remarks that it copies the images then.
EVEN = "network=[{conv: {filters: 2, kernel_size: 4, padding: same}}, softmax]"


@pytest.mark.parametrize(
    "commands",
    [
        [["train", "c.yaml", "training.epochs=2", "--run-dir", "run"], ["eval", "run", "--json"], ["doctor", "run"]],
        [["train", "c.yaml", "training.epochs=1", "--seeds", "0"]],
        [["train", "c.yaml", EVEN, "training.epochs=1", "--run-dir", "even"]],
    ],
)
def test_no_warning_of_ours(tmp_path, commands):
    (tmp_path / "c.yaml").write_text(CONFIG)
    for words in commands:
        command, environment = [sys.executable, "-m", "cnntrain", *words], {**os.environ, "PYTHONWARNINGS": "error"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
