"""The figures of a probe, against what follows from weights that were chosen."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnntrain.network.modules import BookDropout, ConvPool
from cnntrain.training.probe import SCALES, probe, scaling_law

LABELS = torch.tensor([0, 0])


def linear(rows, bias=0.0):
    layer = nn.Linear(len(rows[0]), len(rows))
    layer.weight.data, layer.bias.data = torch.tensor(rows), torch.full((len(rows),), bias)
    return layer


def test_outputs_and_gradients_of_each_layer():
    # Of its three units the first two are each zero for one image, and the last for both.
    rows = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]
    network = nn.Sequential(nn.Flatten(), linear(rows), nn.ReLU(), nn.Dropout(0.0), nn.Linear(3, 2))
    images = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 2.0]]]])
    first, relu, last = probe(network, images, LABELS)
    functional.cross_entropy(network(images), LABELS).backward()
    assert [row.name for row in (first, relu, last)] == ["1", "2", "4"]
    assert (first.mean, relu.mean) == pytest.approx((0.0, 0.5))
    assert relu.std == pytest.approx(math.sqrt((5 * 0.5**2 + 1.5**2) / 5))
    assert (first.dead, relu.dead, last.dead) == (None, pytest.approx(1 / 3), None)
    assert [row.gradient for row in (first, last)] == pytest.approx(
        [network[index].weight.grad.norm().item() for index in (1, 4)]
    )
    assert relu.gradient is None
    assert {row.saturated for row in (first, relu, last)} == {None}


@pytest.mark.parametrize(("activation", "saturated"), [(nn.Sigmoid(), 0.5), (nn.Tanh(), 0.75)])
def test_saturated_at_either_end(activation, saturated):
    # The sigmoid of 3 is 0.953, its hyperbolic tangent 0.995.
    network = nn.Sequential(nn.Flatten(), activation)
    images = torch.tensor([[[[10.0, -10.0, 0.0, 3.0]]]] * 2).requires_grad_()
    [row] = probe(network, images, LABELS)
    assert (row.saturated, row.dead) == (saturated, None)


def test_an_activation_within_a_layer_is_looked_at():
    layer = ConvPool(1, 2, (1, 1), (1, 1), "relu")
    layer.weight.data, layer.bias.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1), torch.zeros(2)
    row, _ = probe(nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 2)), torch.rand(2, 1, 2, 2) + 0.1, LABELS)
    assert row.dead == 0.5


@pytest.mark.parametrize(("dropout", "factor"), [(nn.Dropout(0.9), 1.0), (BookDropout(0.75), 0.25)])
def test_nothing_is_dropped_and_the_network_stays_as_it_is(dropout, factor):
    network = nn.Sequential(nn.BatchNorm1d(3), dropout, nn.Linear(3, 2)).eval()
    before, images = copy.deepcopy(network.state_dict()), torch.randn(2, 3)
    rows = probe(network, images, LABELS)
    assert [row.name for row in rows] == ["0", "2"]
    expected = network[2](factor * functional.batch_norm(images, None, None, training=True))
    assert rows[-1].mean == pytest.approx(expected.mean().item(), abs=1e-5)
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_scaled_logits_their_confidence_and_loss():
    network = nn.Sequential(nn.Dropout(0.9), linear([[1.0, 0.0], [0.0, 1.0]], bias=5.0))
    rows = scaling_law(network, torch.tensor([[1.0, 0.0], [0.0, 3.0]]), LABELS)
    assert SCALES == (0.5, 1.0, 2.0, 3.0)
    for row, factor in zip(rows, SCALES, strict=True):
        sure, wrong = (1 / (1 + math.exp(-factor * margin)) for margin in (1, 3))
        assert (row.factor, row.predicted) == (factor, factor)
        assert row.ratio == pytest.approx(factor)
        assert row.confidence == pytest.approx((sure + wrong) / 2)
        assert row.loss == pytest.approx(-(math.log(sure) + math.log(1 - wrong)) / 2, rel=1e-5)


def test_a_prediction_beyond_all_numbers_is_infinite():
    network = nn.Sequential(*(linear([[1.0, 0.0], [0.0, 1.0]]) for _ in range(700)))
    predicted = [row.predicted for row in scaling_law(network, torch.ones(1, 2), torch.tensor([0]))]
    assert predicted == [0.5**700, 1.0, 2.0**700, math.inf]
