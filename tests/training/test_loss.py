"""The gradient that is written out is the one that torch finds."""

import pytest
import torch
from torch.nn import functional

from cnntrain.training.loss import gradient_of, losses_of, minus_targets


@pytest.mark.parametrize("smoothing", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("size", [1.0, 50.0])
def test_gradient_is_torchs(smoothing, size):
    random = torch.Generator().manual_seed(0)
    # Three batches of four, seven classes.
    logits = (torch.randn((12, 7), generator=random, dtype=torch.float64) * size).requires_grad_()
    labels = torch.randint(0, 7, (12,), generator=random)
    aims = minus_targets(labels, 7, smoothing, batch_size=4).double()
    assert aims.shape == logits.shape
    for some, truth, aim in zip(logits.split(4), labels.split(4), aims.split(4), strict=True):
        loss = functional.cross_entropy(some, truth, label_smoothing=smoothing)
        (theirs,) = torch.autograd.grad(loss, some)
        torch.testing.assert_close(gradient_of(some.detach(), aim), theirs, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(losses_of(some, truth, smoothing).mean(), loss)


@pytest.mark.parametrize("images", [3, 10, 49])
def test_a_gradient_that_is_scaled_is_nothing_where_nothing_is_wrong(images):
    logits = torch.zeros(images, 10)
    logits[:, 2] = 1000
    labels = torch.full((images,), 2)
    scale = torch.tensor([0.03]) / images
    gradient = gradient_of(logits, minus_targets(labels, 10, 0.0, 1) * scale, scale)
    assert not gradient.any()
    logits[0, 2] = 0
    gradient = gradient_of(logits, minus_targets(labels, 10, 0.0, 1) * scale, scale)
    torch.testing.assert_close(gradient, 0.03 * gradient_of(logits, minus_targets(labels, 10, 0.0, images)))
    assert gradient[0].all()


def test_gradient_of_logits_that_are_not_finite_is_not_finite():
    logits = torch.tensor([[0.0, float("inf")], [0.0, 1.0]])
    gradient = gradient_of(logits, minus_targets(torch.tensor([0, 1]), 2, 0.0, 2))
    assert gradient.isfinite().tolist() == [[False, False], [True, True]]
