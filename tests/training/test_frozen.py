"""`training.freeze`: the first layers stay what they are, the others are trained as torch would train them."""

import copy
import csv
import json

import pytest
import torch
from test_step import SHAPE
from torch import nn
from torch.nn import functional

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.preparation import prepared
from cnntrain.app.ranks import joined
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved
from cnntrain.errors import ConfigError
from cnntrain.network.build import build
from cnntrain.run import checkpoint
from cnntrain.training.frozen import freeze, set_training
from tests.faults.cases import assert_same

CPU = Where(device="cpu")
# In the order of the images, without dropout and augmentation.
PLAIN = ["data.augment=[]", "training.shuffle=never", "network.3.fully_connected.dropout=0", "training.epochs=1"]
SGD = "training.optimizer={sgd: {learning_rate: 0.1%s}}"


def last(run):
    return checkpoint.load(run / "checkpoints" / "last.pt")


def begun(tiny, overrides):
    with joined("cpu") as alone:
        return prepared(load_config(tiny, overrides), CPU, alone, Silent())


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "rmsprop"])
def test_the_first_layers_stay_and_the_others_are_trained(tiny, tmp_path, optimizer):
    settings = {"sgd": SGD % "", "momentum": SGD % ", momentum: 0.9"}.get(optimizer, f"training.optimizer={optimizer}")
    options = ["training.freeze=2", "training.epochs=2", settings]
    before = copy.deepcopy(begun(tiny, options).state.network.state_dict())
    train_run(load_config(tiny, options), tmp_path / "run", CPU)
    after = last(tmp_path / "run").weights
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if name[0] in "01"} and len(kept) == 7
    with (tmp_path / "run" / "diagnostics.csv").open() as file:
        assert {row["layer"] for row in csv.DictReader(file)} == {"3_fully_connected.linear", "4_softmax.linear"}


@pytest.mark.parametrize("options", [[SGD % ", momentum: 0.9"], [SGD % "", "training.l2=0.5"], [SGD % ""]])
def test_the_same_updates_as_torch(tiny, tmp_path, options):
    options = [*PLAIN, *options, "training.freeze=2", "training.schedule=constant"]
    given = begun(tiny, options)
    network, images = copy.deepcopy(given.state.network).double(), given.plan.feeds.train
    batches = -(-len(images) // 32)
    l2 = given.config.training.l2
    network.train()
    network[0].requires_grad_(False)
    network[1].requires_grad_(False).eval()
    momentum = given.config.training.optimizer.arguments.momentum
    decaying = [parameter for name, parameter in network.named_parameters() if name.endswith("linear.weight")]
    others = [parameter for name, parameter in network.named_parameters() if name.endswith("linear.bias")]
    groups = [{"params": decaying, "weight_decay": l2 / batches}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=momentum)
    for inputs, labels in images.batches(32):
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs.double()), labels).backward()
        optimizer.step()
    train_run(given.config, tmp_path / "run", CPU)
    ours, theirs = last(tmp_path / "run").weights, network.state_dict()
    a, b = (torch.cat([weights[name].double().flatten() for name in theirs]) for weights in (ours, theirs))
    assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("options", [[SGD % ""], [SGD % ", momentum: 0.9"], ["training.optimizer=adam"]])
def test_steps_as_bare_operations_are_plain_steps(tiny, tmp_path, options):
    options = [*options, "training.freeze=1", "training.batch_size=4", "training.epochs=1", "data.limit=400"]
    for name, engine in (("auto", "auto"), ("plain", "eager")):
        train_run(load_config(tiny, [*options, f"training.engine={engine}"]), tmp_path / name, CPU)
    assert_same(last(tmp_path / "auto").weights, last(tmp_path / "plain").weights)


def test_frozen_layers_neither_drop_values_nor_take_statistics():
    layers = ["flatten", {"dropout": 0.5}, {"dense": 8}, {"dropout": 0.5}, "softmax"]
    network = build(from_resolved({"network": layers}), SHAPE, 10)
    for count in (0, 2, 4, 9):
        set_training(network, count)
        assert [layer.training for layer in network] == [number >= count for number in range(5)]


@pytest.mark.parametrize("optimizer", [SGD % ", momentum: 0.9", SGD % "", "training.optimizer=adam"])
def test_layers_are_let_go_of_later_and_the_others_go_on_as_they_were(tiny, tmp_path, optimizer):
    options = [*PLAIN, optimizer, "training.freeze=2", "training.schedule=constant"]
    train_run(load_config(tiny, options), tmp_path / "run", CPU)
    frozen = last(tmp_path / "run")
    summary = resume_run(tmp_path / "run", ["training.epochs=2", "training.freeze=0"], CPU)
    assert summary["changes"] == ["after epoch 1, batch 0: training.epochs=2 training.freeze=0"]
    free = last(tmp_path / "run")
    assert all(not torch.equal(free.weights[name], frozen.weights[name]) for name in frozen.weights)
    assert free.config["training"]["freeze"] == 0
    # And frozen again, also where the optimizer knows of them.
    resume_run(tmp_path / "run", ["training.epochs=3", "training.freeze=4"], CPU)
    again = last(tmp_path / "run").weights
    assert all(torch.equal(again[name], free.weights[name]) == (name[0] != "4") for name in again)


def test_the_momentum_of_layers_that_are_let_go_of_begins_at_zero(tiny, tmp_path):
    """The first step after it is one without momentum for them, and with it for the others."""
    options = [*PLAIN, SGD % ", momentum: 0.9", "training.freeze=2", "training.schedule=constant", "data.limit=32"]
    train_run(load_config(tiny, options), tmp_path / "run", CPU)
    before = last(tmp_path / "run")
    given = begun(tiny, [*options, "training.freeze=0"])
    given.state.restore(copy.deepcopy(before.training))
    network, (inputs, labels) = given.state.network, next(given.plan.feeds.train.batches(32))
    set_training(network, 0)
    functional.cross_entropy(network(inputs), labels).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    resume_run(tmp_path / "run", ["training.epochs=2", "training.freeze=0"], CPU)
    after = last(tmp_path / "run").weights
    for name in ("0_conv.0.weight", "0_conv.0.bias", "1_batch_norm.weight"):
        torch.testing.assert_close(before.weights[name] - after[name], 0.1 * gradients[name], rtol=1e-3, atol=1e-6)
    head = "4_softmax.linear.bias"
    # The very first step had the gradient that its momentum is now.
    step = before.weights[head] - after[head]
    assert not torch.allclose(step, 0.1 * gradients[head], rtol=1e-3, atol=1e-6)


def test_an_average_of_what_does_not_change_is_what_it_is(tiny, tmp_path):
    options = ["training.freeze=3", "training.epochs=1", "training.ema_decay=0.9"]
    before = copy.deepcopy(begun(tiny, options).state.network[:3].state_dict())
    train_run(load_config(tiny, options), tmp_path / "run", CPU)
    for name in ("best.pt", "last.pt"):
        after = checkpoint.load(tmp_path / "run" / "checkpoints" / name).weights
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_rollback_lets_them_be_too(tiny, tmp_path):
    options = [*PLAIN, "training.freeze=2", SGD % "", "training.on_divergence=rollback"]
    before = copy.deepcopy(begun(tiny, options).state.network[:2].state_dict())
    summary = train_run(
        load_config(tiny, [*options, "training.optimizer.sgd.learning_rate=1e10"]), tmp_path / "run", CPU
    )
    assert any("rolled back" in line for line in summary["remarks"])
    assert all(
        torch.equal(before[name], value) for name, value in last(tmp_path / "run").weights.items() if name in before
    )


@pytest.mark.parametrize("count", [5, 6, 100])
def test_something_must_be_left_to_train(tiny, count):
    with pytest.raises(ConfigError, match=f"the network has 5 layers, and none with weights after the first {count}"):
        begun(tiny, [f"training.freeze={count}"])
    begun(tiny, ["training.freeze=4"])


def test_none_is_frozen_by_default():
    network = nn.Sequential(nn.Linear(1, 1))
    freeze(network, 0)
    assert network[0].weight.requires_grad


def test_the_last_batch_may_be_of_one_image_for_a_normalization_that_is_frozen(tiny):
    # 1,294 images are three batches, and one image.
    options = ["network=[flatten, {dense: 8}, batch_norm, {dense: 8}, softmax]", "training.batch_size=431"]
    with pytest.raises(ConfigError, match="the last batch has one"):
        begun(tiny, [*options, "training.freeze=2"])
    begun(tiny, [*options, "training.freeze=3"])


def test_what_is_trained_is_counted(cnntrain, tiny, tmp_path):
    outcome = cnntrain("train", tiny, "training.epochs=1", "training.freeze=2", "--run-dir", tmp_path / "r")
    assert "; 2,762 parameters, 2,666 of them trained; " in outcome.err
    said = "`training.freeze` without `init_from` keeps layers as random as they begin"
    assert f"warning: {said}" in outcome.err
    assert said in json.loads((tmp_path / "r" / "summary.json").read_text())["remarks"]
    outcome = cnntrain("train", tiny, "training.epochs=1", "--run-dir", tmp_path / "s")
    assert "; 2,762 parameters; " in outcome.err
