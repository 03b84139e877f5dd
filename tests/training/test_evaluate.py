"""A split in as many images at once as memory has room for: the same answers, in order, and how far they are."""

import numpy as np
import pytest
import torch
from torch import nn

from cnntrain.app import configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.data.batches import Resident
from cnntrain.data.images import Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.network.build import build
from cnntrain.training import evaluate
from cnntrain.training.evaluate import at_once, logits_of
from cnntrain.training.probe import probe

LAYERS = [{"conv": {"filters": 6, "kernel_size": 3, "activation": "relu"}}, "batch_norm", {"max_pool": 2}, "softmax"]
# Of an image of 12x10.
LARGEST = 6 * 10 * 8


def given(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 12, 10), dtype=np.uint8)
    images = Images(pixels, np.zeros(count, np.int64))
    network = build(from_resolved({"network": LAYERS}), (1, 12, 10), 3)
    return network, Resident.of(images, Preprocessing.of(images, normalize=True), torch.device("cpu"))


@pytest.mark.parametrize(
    ("values", "sizes"),
    [(1 << 25, [500, 205]), (LARGEST * 300 + 7, [300, 300, 105]), (LARGEST * 352, [352, 352, 1]), (3, [1] * 705)],
)
def test_large_layers_are_given_few_images_at_once(monkeypatch, values, sizes):
    network, images = given(705)
    monkeypatch.setattr(evaluate, "VALUES", values)
    told, seen = [], []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    logits = logits_of(network.train(), images, told.append)
    assert seen[-len(sizes) :] == sizes and told == np.cumsum(sizes).tolist()
    assert network.training
    monkeypatch.undo()
    torch.testing.assert_close(logits, logits_of(network, images), rtol=1e-5, atol=1e-6)


class Rows(nn.Module):
    """A layer whose own part gives a tuple: (batch, channels, height, width) -> (batch, units)."""

    def __init__(self, width, units):
        super().__init__()
        self.lstm = nn.LSTM(width, units, batch_first=True)

    def forward(self, images):
        return self.lstm(images.flatten(1, 2))[1][0][-1]


def test_modules_may_give_each_other_anything():
    _, images = given(30)
    network = nn.Sequential(Rows(10, 7), nn.Linear(7, 3))
    assert logits_of(network, images).shape == (30, 3)
    pixels, labels = next(images.batches(30))
    assert [one.name for one in probe(network, pixels, labels)] == ["1"]


def test_looking_at_the_sizes_leaves_nothing_behind():
    network, images = given(4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert at_once(network.train(), images) == (1 << 25) // LARGEST
    assert network.training and not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
