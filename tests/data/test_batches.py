"""Batches: each image once an epoch, orders that are functions of the seed, and the book's five shifts."""

import numpy as np
import pytest
import torch

from cnntrain.data.batches import Resident, Shifted, Streamed, derived_seed, epoch_order
from cnntrain.data.images import Images
from cnntrain.data.preprocess import Preprocessing

RANDOM = np.random.default_rng(0)
IMAGES = Images(RANDOM.integers(0, 256, (7, 2, 5, 4), dtype=np.uint8), np.arange(7) % 3)
CPU = torch.device("cpu")


def test_gather_is_the_stored_pixels_in_0_to_1():
    resident = Resident.of(IMAGES, Preprocessing.of(IMAGES, normalize=False), CPU)
    images, labels = resident.gather(torch.tensor([3, 0, 3]))
    assert np.allclose(images.numpy(), IMAGES.pixels[[3, 0, 3]] / 255)
    assert labels.tolist() == [0, 0, 0]


def test_a_stream_gives_what_is_resident():
    preprocessing = Preprocessing.of(IMAGES, normalize=True)
    resident, streamed = (kind.of(IMAGES, preprocessing, CPU) for kind in (Resident, Streamed))
    batches = [torch.tensor(batch) for batch in ([3, 0, 3], [1], [6, 5, 4, 2], [0], [1, 2])]
    # Asked without notice, in the order announced, from the middle on, and announced anew before the end.
    streamed.gather(batches[0])
    for start, stop in ((0, 5), (2, 3), (3, 5)):
        streamed.expect(iter(batches[start:]))
        for batch in batches[start:stop]:
            for one, other in zip(resident.gather(batch), streamed.gather(batch), strict=True):
                assert torch.equal(one, other)
    for one, other in zip(resident.batches(3), streamed.batches(3), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_normalized_images_have_mean_0_and_deviation_1():
    preprocessing = Preprocessing.of(IMAGES, normalize=True)
    [(images, _)] = Resident.of(IMAGES, preprocessing, CPU).batches(100)
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(images.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


def moved(image, down, right):
    """A NumPy restatement: pixels that come in are black."""
    result = np.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


@pytest.mark.parametrize("kind", [Resident, Streamed])
def test_the_expanded_set_is_five_one_pixel_shifts(kind):
    shifted = Shifted.around(kind.of(IMAGES, Preprocessing.of(IMAGES, normalize=False), CPU))
    assert len(shifted) == 35
    images, labels = shifted.gather(torch.arange(35))
    expected = [moved(image, *by) for by in [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)] for image in IMAGES.pixels]
    assert np.allclose(images.numpy(), np.stack(expected) / 255)
    assert labels.tolist() == IMAGES.labels.tolist() * 5


@pytest.mark.parametrize("shuffle", ["always", "once"])
def test_each_image_once_an_epoch(shuffle):
    for epoch in range(3):
        assert sorted(epoch_order(50, shuffle, 0, epoch).tolist()) == list(range(50))


def test_orders():
    def order(*arguments):
        return epoch_order(50, *arguments).tolist()

    assert order("never", 3, 7) == list(range(50))
    assert order("once", 3, 7) == order("once", 3, 0)
    assert order("always", 3, 7) != order("always", 3, 0)
    assert order("always", 3, 7) == order("always", 3, 7)
    assert order("always", 3, 7) != order("always", 4, 7)


def test_seeds_for_different_purposes_differ():
    assert len({derived_seed(seed, purpose) for seed in range(20) for purpose in ("a", "b", "order/1")}) == 60
