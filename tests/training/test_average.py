"""The average of the weights is what its formula says, and what a run is judged and kept by."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_step import CPU, step_of

from cnntrain.app.configure import load_config
from cnntrain.app.evaluate import evaluate_checkpoint
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import CheckpointError, ConfigError, UsageError
from cnntrain.run import checkpoint
from cnntrain.training.average import Average
from cnntrain.training.engine import choose
from cnntrain.training.step import Totals
from tests.faults.cases import rows

DECAY = 0.8
AVERAGED = ["training.epochs=3", f"training.ema_decay={DECAY}"]


def floats(network):
    return {name: value.clone() for name, value in network.state_dict().items() if value.is_floating_point()}


def expected(seen, decay=DECAY):
    """The weighted mean, each step counting `decay` times as much as the next, in float64."""
    counts = decay ** np.arange(len(seen))[::-1]
    return {
        name: np.average([weights[name].double().numpy() for weights in seen], axis=0, weights=counts)
        for name in seen[0]
    }


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_it_is_the_weighted_mean_of_what_was_seen(steps):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    average, seen = Average(network, DECAY), []
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for value in network.state_dict().values():
            value.copy_(torch.randint(-9, 9, value.shape, generator=random))
        average.add()
        seen.append(floats(network))
    before = copy.deepcopy(network.state_dict())
    with average.in_place(steps):
        for name, value in expected(seen).items():
            torch.testing.assert_close(network.state_dict()[name].double().numpy(), value, rtol=1e-5, atol=1e-5)
        # A count is no weight.
        assert torch.equal(network.state_dict()["1.num_batches_tracked"], before["1.num_batches_tracked"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_can_begin_at_the_weights():
    network = torch.nn.Linear(3, 2)
    average, before = Average(network, DECAY), floats(network)
    average.begin_at_weights(2)
    for name, value in average.after(2).items():
        torch.testing.assert_close(value, before[name])
    # Another step counts as it would have.
    network.weight.data.fill_(1)
    average.add()
    seen = 1 - DECAY**2
    expected = (DECAY * seen * before["weight"] + (1 - DECAY)) / (1 - DECAY**3)
    torch.testing.assert_close(average.after(3)["weight"], expected)


def test_the_network_is_put_back_where_something_fails():
    network = torch.nn.Linear(2, 2)
    before, average = copy.deepcopy(network.state_dict()), Average(network, DECAY)
    with pytest.raises(ZeroDivisionError), average.in_place(1):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_is_of_another_network_is_refused():
    average = Average(torch.nn.Linear(2, 2), DECAY)
    for sums in ({}, Average(torch.nn.Linear(2, 3), DECAY).sums, Average(torch.nn.Linear(2, 2, bias=False), 0.5).sums):
        with pytest.raises(ValueError, match="of other weights"):
            average.restore(sums)


@pytest.mark.parametrize("name", ["eager", "auto"])
def test_each_engine_counts_the_weights_after_each_step(name):
    step = step_of()
    engine = choose(name, replace(step, updates={}, average=Average(step.network, DECAY)), CPU)
    seen, taken = [], 0
    plain = choose("auto", replace(step_of(), updates={}), CPU)
    for one in (engine, plain):
        for group in one.step.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    batches = torch.arange(64).repeat(20).split(8)
    while taken < 100:
        count = engine.at_once(taken, 100 - taken, 1000)
        engine.run(batches[taken : taken + count], [0.1] * count, Totals.zero(CPU), keeps_gradients=taken == 99)
        for _ in range(count):
            plain.run(batches[taken : taken + 1], [0.1], Totals.zero(CPU), keeps_gradients=taken == 99)
            seen.append(floats(plain.step.network))
            taken += 1
    weights = floats(engine.step.network)
    for place, value in weights.items():
        torch.testing.assert_close(value, seen[-1][place])
    with engine.step.average.in_place(100):
        averaged = floats(engine.step.network)
    for place, value in expected(seen).items():
        torch.testing.assert_close(averaged[place].double().numpy(), value, rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(averaged[place], value, atol=1e-3) for place, value in weights.items())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that is judged by the average."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("averaged")
    (folder / "tiny.yaml").write_text(TINY)
    train_run(load_config(folder / "tiny.yaml", AVERAGED), folder / "run", Where(device="cpu"))
    return folder / "run"


def test_a_run_keeps_what_it_was_judged_by(run):
    best, last = (checkpoint.load(run / "checkpoints" / f"{name}.pt") for name in ("best", "last"))
    found = evaluate_checkpoint(run, Where(device="cpu"))
    row = next(row for row in reversed(rows(run)) if row["best"] == "true")
    assert found["accuracy"] == float(row["test_accuracy"])
    validated = evaluate_checkpoint(run, Where(device="cpu"), split="validation")
    assert validated["loss"] == pytest.approx(float(row["validation_loss"]))
    sums, live, steps = last.training["average"], last.training["weights"], last.training["step"]
    for name, total in sums.items():
        torch.testing.assert_close(last.weights[name], total / (1 - DECAY**steps))
    assert any(not torch.equal(value, live[name]) for name, value in last.weights.items())
    if best.result["epoch"] == 3:
        assert all(torch.equal(value, last.weights[name]) for name, value in best.weights.items())


def test_training_itself_is_as_without_it(run, tmp_path):
    train_run(load_config(run / "config.yaml", ["training.ema_decay=null"]), tmp_path / "plain", Where(device="cpu"))
    plain = checkpoint.load(tmp_path / "plain" / "checkpoints" / "last.pt")
    averaged = checkpoint.load(run / "checkpoints" / "last.pt")
    assert all(torch.equal(value, averaged.training["weights"][name]) for name, value in plain.weights.items())
    for name in ("train_loss", "train_accuracy"):
        assert [row[name] for row in rows(run)] == [row[name] for row in rows(tmp_path / "plain")]
    assert [row["validation_loss"] for row in rows(run)] != [row["validation_loss"] for row in rows(tmp_path / "plain")]


def test_a_run_that_ends_with_its_best_weights_goes_on_from_them(run, tmp_path):
    stop = ["training.early_stopping={patience: 2, restore_best: true}", "training.epochs=9"]
    fast = ["training.optimizer.sgd.learning_rate=0.5", "training.schedule=constant"]
    config = load_config(run / "config.yaml", [*stop, *fast])
    summary = train_run(config, tmp_path / "run", Where(device="cpu"))
    assert summary["best"]["epoch"] < summary["epochs"]
    best, last = (checkpoint.load(tmp_path / "run" / "checkpoints" / f"{name}.pt") for name in ("best", "last"))
    for name, value in best.weights.items():
        assert torch.equal(last.weights[name], value)
        assert torch.equal(last.training["weights"][name], value)
    resume_run(tmp_path / "run", ["training.early_stopping=null", "training.epochs=9"], Where(device="cpu"))
    assert len(rows(tmp_path / "run")) == 9


def test_a_run_of_an_earlier_version_goes_on(tiny, tmp_path):
    train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where(device="cpu"))
    file = tmp_path / "run" / "checkpoints" / "last.pt"
    saved = checkpoint.load(file)
    del saved.training["average"]
    checkpoint.save(file, saved)
    assert resume_run(tmp_path / "run", ["training.epochs=2"], Where(device="cpu"))["epochs"] == 2


def test_an_average_that_is_more_than_what_is_stored_is_refused(run, tmp_path):
    saved = checkpoint.load(run / "checkpoints" / "last.pt")
    saved.training["average"]["made up"] = torch.zeros(1).expand(10**6)
    checkpoint.save(tmp_path / "last.pt", saved)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "last.pt")


@pytest.mark.parametrize("change", ["training.ema_decay=0.9", "training.ema_decay=null"])
def test_it_can_not_change_when_a_run_is_resumed(run, change):
    with pytest.raises(UsageError, match=r"^training\.ema_decay can't change when a run is resumed"):
        resume_run(run, [change, "training.epochs=4"], Where(device="cpu"))


@pytest.mark.parametrize("decay", ["0", "1", "-0.5", "true"])
def test_a_decay_lies_between_0_and_1(tiny, decay):
    with pytest.raises(ConfigError, match="`ema_decay` should"):
        load_config(tiny, [f"training.ema_decay={decay}"])
