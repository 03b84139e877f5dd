"""What in an image speaks for which class, where it is known."""

import numpy as np
import pytest
import torch
from torch import nn

from cnntrain.app.evidence import evidence, squares
from cnntrain.app.model import Model
from cnntrain.config.load import from_resolved
from cnntrain.data.preprocess import Preprocessing


def model_of(shape, weights, mean=0.0, std=1.0):
    """A network whose logits are sums of weighted pixels: weights (classes, channels, height, width)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(weights[0].numel(), len(weights), bias=False))
    network[1].weight.data = weights.flatten(1)
    known = Preprocessing(shape, (mean,) * shape[0], (std,) * shape[0])
    config = from_resolved({"network": ["softmax"]})
    names = [str(number) for number in range(len(weights))]
    return Model(config, network.eval(), names, known, torch.device("cpu"), {})


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (8, 8), (28, 28), (31, 17), (100, 30)])
def test_squares_cover_all_of_an_image(height, width):
    count = np.zeros((height, width), int)
    for rows, columns in squares(height, width):
        count[rows, columns] += 1
        assert 0 <= rows.start < height and 0 <= columns.start < width
    assert count.min() >= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_is_what_the_odds_lose_where_a_square_is_covered(dtype):
    """Restated with NumPy: each square in its turn, the mean over those that cover a pixel."""
    drawn = np.random.default_rng(0)
    shape = (3, 12, 9)
    image = drawn.integers(0, 256, shape).astype(np.uint8) if dtype == np.uint8 else drawn.random(shape, np.float32)
    weights = torch.randn(4, *shape, generator=torch.manual_seed(0))
    found = evidence(model_of(shape, weights, mean=0.25, std=0.5), image, 1, 3)

    def odds(pixels):
        unit = pixels.astype(np.float64) / (255 if dtype == np.uint8 else 1)
        return (((unit - 0.25) / 0.5) * (weights[1] - weights[3]).double().numpy()).sum()

    total, count = np.zeros((2, 12, 9))
    # 0.18 of 12 is a side of 2, moved by 1.
    for top in range(11):
        for left in range(8):
            covered = image.copy()
            covered[:, top : top + 2, left : left + 2] = image.mean((1, 2), keepdims=True)
            total[top : top + 2, left : left + 2] += odds(image) - odds(covered)
            count[top : top + 2, left : left + 2] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-4)


def test_its_sign_says_for_which_class_it_speaks():
    """A bright spot at the left, which one class counts, and one at the right, which the other does."""
    image = np.zeros((1, 10, 20), np.uint8)
    image[0, 3:6, 2:5] = image[0, 3:6, 15:18] = 255
    weights = torch.zeros(2, 1, 10, 20)
    weights[0, :, :, :10] = weights[1, :, :, 10:] = 1
    found = evidence(model_of((1, 10, 20), weights), image, 0, 1)
    assert found[4, 3] > 1 and found[4, 16] < -1
    assert np.abs(found).max() in (abs(found[4, 3]), abs(found[4, 16]))
    assert image[0, 4, 3] == 255, "the image itself stays as it is"
    np.testing.assert_allclose(evidence(model_of((1, 10, 20), weights), image, 1, 0), -found)
