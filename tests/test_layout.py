"""Images lie as their device takes them."""

import pytest
import torch

from cnntrain.data import preprocess
from cnntrain.data.preprocess import Preprocessing
from cnntrain.layout import layout
from cnntrain.network import modules


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cpu", torch.channels_last), ("cuda", torch.channels_last), ("mps", torch.contiguous_format)],
)
def test_each_device_has_its_layout(name, expected):
    assert layout(torch.device(name)) is expected


@pytest.mark.parametrize("expected", [torch.channels_last, torch.contiguous_format])
def test_images_and_gradients_have_it(monkeypatch, expected):
    for module in (preprocess, modules):
        monkeypatch.setattr(module, "layout", lambda device: expected)
    images = torch.rand(4, 2, 5, 6).to(memory_format=torch.channels_last)
    given = Preprocessing((2, 5, 6), (0.5, 0.5), (0.5, 0.25)).normalize(images)
    assert given.is_contiguous(memory_format=expected)
    seen = []
    product = images.requires_grad_() * 1
    product.register_hook(seen.append)
    (modules.Flatten()(product) ** 2).sum().backward()
    assert seen[0].is_contiguous(memory_format=expected)
