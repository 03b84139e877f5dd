"""Optimizers are torch's own; decay touches weights only."""

import pytest
import torch
from torch import nn

from cnntrain.config.load import from_resolved
from cnntrain.training import optimizers
from cnntrain.training.optimizers import Trainable


def network():
    torch.manual_seed(0)
    # A bias before batch_norm has a gradient of rounding errors only, whose sign Adam would follow.
    return nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2))


WEIGHTS = ("0.weight", "2.weight", "5.weight")


def trained(optimizer, net, steps=3):
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda t: optimizers.sgd(t, 0.1, 0.9, True), lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        (lambda t: optimizers.adam(t, 0.01), lambda p: torch.optim.Adam(p, 0.01)),
        (
            lambda t: optimizers.adam(t, 0.01, [0.5, 0.75], 0.125),
            lambda p: torch.optim.Adam(p, 0.01, (0.5, 0.75), 0.125),
        ),
        (
            lambda t: optimizers.adamw(t, 0.01, [0.5, 0.75], 0.125, 0.0),
            lambda p: torch.optim.AdamW(p, 0.01, (0.5, 0.75), 0.125, 0.0),
        ),
        (
            lambda t: optimizers.rmsprop(t, 0.01, 0.5, 0.125, 0.25),
            lambda p: torch.optim.RMSprop(p, 0.01, 0.5, 0.125, momentum=0.25),
        ),
        (lambda t: optimizers.adamw(t, 0.01, weight_decay=0.0), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0)),
        (lambda t: optimizers.rmsprop(t, 0.01), lambda p: torch.optim.RMSprop(p, 0.01)),
    ],
)
def test_equal_torch(ours, theirs):
    one, other = network(), network()
    for a, b in zip(trained(ours(Trainable(one, 0.0)), one), trained(theirs(other.parameters()), other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "l2"),
    [
        ("sgd", {"weight_decay": 0.25}, 0.5),
        ("adam", {"weight_decay": 0.25, "betas": [0.0, 0.0], "eps": 1.0}, 0.5),
        ("adamw", {"weight_decay": 0.75}, 0.0),
        ("rmsprop", {"weight_decay": 0.25, "alpha": 0.0, "eps": 1.0}, 0.5),
    ],
)
def test_decay_leaves_biases_and_norms_alone(name, options, l2):
    net = nn.Sequential(*network(), nn.Unflatten(1, (1, 2, 1)), nn.LayerNorm((1, 2, 1)), nn.Conv2d(1, 1, 1))
    optimizer = getattr(optimizers, name)(Trainable(net, l2), learning_rate=0.1, **options)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for weight, parameter in net.named_parameters():
        decay = 0.75 * before[weight] if weight in WEIGHTS else torch.zeros_like(parameter)
        # Adam and RMSprop divide what is a gradient to them by its own size, and by 1 more.
        change = decay if name in ("sgd", "adamw") else decay / (decay.abs() + 1)
        torch.testing.assert_close(parameter.detach(), before[weight] - 0.1 * change)


def test_a_state_fits_whether_weights_decay_or_not():
    net = network()
    plain, decaying = (optimizers.sgd(Trainable(net, l2), 0.1, 0.9) for l2 in (0.0, 0.5))
    trained(plain, net)
    groups = decaying.state_dict()["param_groups"]
    decaying.load_state_dict({"state": plain.state_dict()["state"], "param_groups": groups})
    for parameter in net.parameters():
        momentum = decaying.state[parameter]["momentum_buffer"]
        assert torch.equal(momentum, plain.state[parameter]["momentum_buffer"])


def test_momentum_begins_where_there_is_none():
    net = network()
    optimizer = optimizers.rmsprop(Trainable(net, 0.0), 0.01, momentum=0.5)
    trained(optimizer, net)
    buffers = {parameter: optimizer.state[parameter]["momentum_buffer"].clone() for parameter in net.parameters()}
    first = next(net.parameters())
    del optimizer.state[first]["momentum_buffer"]
    optimizers.begin_momentum(optimizer)
    for parameter, before in buffers.items():
        expected = torch.zeros_like(before) if parameter is first else before
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], expected)


def test_adamw_refuses_l2(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.optimizer=adamw", "training.l2=0.1", "--run-dir", tiny.parent / "run")
    assert outcome.code == 2
    assert "weight_decay" in outcome.err
    assert not (tiny.parent / "run").exists()


def test_nesterov_without_momentum_is_refused_at_its_place(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.optimizer={sgd: {nesterov: true}}")
    assert outcome.code == 2
    assert "override:1:" in outcome.err
    assert "omentum" in outcome.err
    assert "`nesterov` needs a `momentum` above 0" in outcome.err


def test_from_resolved_needs_no_file():
    assert from_resolved({"network": ["softmax"]}).training.batch_size == 64
