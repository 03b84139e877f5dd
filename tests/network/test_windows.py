"""Convolution as products of matrices does what torch's conv2d does."""

import pytest
import torch
from torch.nn import functional

from cnntrain.network import windows
from cnntrain.network.modules import ConvPool
from cnntrain.network.windows import convolve

SHAPES = [
    # images, weight
    ((3, 1, 9, 7), (4, 1, 3, 2)),
    ((3, 5, 9, 7), (4, 5, 3, 2)),
    ((2, 3, 5, 5), (6, 3, 5, 5)),
    ((1, 1, 4, 4), (1, 1, 1, 1)),
    ((2, 4, 4, 6), (3, 4, 1, 1)),
]


def drawn(shape, layout, seed=0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.contiguous(memory_format=layout).requires_grad_()


def uses_products(images, weight):
    return "_Convolved" in type(convolve(images, weight).grad_fn).__name__


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("images", "weight"), SHAPES)
def test_values_and_gradients_are_those_of_conv2d(images, weight, layout):
    images, weight = drawn(images, layout), drawn(weight, layout, seed=1)
    expected, got = functional.conv2d(images, weight), convolve(images, weight)
    assert uses_products(images, weight)
    torch.testing.assert_close(got, expected)
    upstream = torch.randn_like(expected)
    for ours, torchs in zip(
        torch.autograd.grad(got, (images, weight), upstream),
        torch.autograd.grad(expected, (images, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_of_a_larger_tensor_is_read_where_it_lies(channels):
    everything = drawn((5, channels, 12, 12), torch.channels_last).detach()
    part, weight = everything[2:4, :, 1:9, 3:10], drawn((2, channels, 3, 3), torch.channels_last, seed=1)
    assert uses_products(part, weight)
    torch.testing.assert_close(convolve(part, weight), functional.conv2d(part, weight))


def test_many_images_are_left_to_torch(monkeypatch):
    images, weight = drawn((2, 3, 8, 8), torch.channels_last), drawn((4, 3, 3, 3), torch.channels_last)
    # Of two images, with 6x6 places and 3x3x3 values at each.
    monkeypatch.setattr(windows, "MOST", 2 * 6 * 6 * 27)
    assert uses_products(images, weight)
    monkeypatch.setattr(windows, "MOST", 2 * 6 * 6 * 27 - 1)
    assert not uses_products(images, weight)


def test_evaluation_and_frozen_weights_and_autocast_are_left_to_torch():
    images, weight = drawn((2, 3, 8, 8), torch.channels_last), drawn((4, 3, 3, 3), torch.channels_last)
    with torch.no_grad():
        assert torch.equal(convolve(images, weight), functional.conv2d(images, weight))
    assert not uses_products(images, weight.detach())
    with torch.autocast("cpu", torch.bfloat16):
        half = convolve(images.float(), weight.float())
        assert not uses_products(images.float(), weight.float())
    assert half.dtype == torch.bfloat16
    half.sum().backward()


def test_the_gradient_of_a_gradient_is_refused_rather_than_wrong():
    images, weight = drawn((2, 1, 6, 6), torch.channels_last), drawn((2, 1, 3, 3), torch.channels_last)
    (gradient,) = torch.autograd.grad(convolve(images, weight).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("channels", [1, 20])
def test_what_pooling_reads_has_the_layout_that_it_is_fast_in(channels):
    layer = ConvPool(channels, 6, (5, 5), (2, 2), "relu").double().to(memory_format=torch.channels_last)
    torch.nn.init.normal_(layer.weight)
    images = drawn((2, channels, 12, 12), torch.channels_last)
    assert uses_products(images, layer.weight)
    convolved = convolve(images, layer.weight)
    assert convolved.is_contiguous(memory_format=torch.channels_last)
    convolved.sum().backward()
    assert layer.weight.grad.is_contiguous(memory_format=torch.channels_last)
