"""Batches: each image once an epoch, orders that are functions of the seed, and the book's five shifts."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cnntrain import cgroup
from cnntrain.data.batches import Resident, Shifted, Streamed, balanced_order, derived_seed, epoch_order, exceeds
from cnntrain.data.constant import constant
from cnntrain.data.images import Images
from cnntrain.data.prefetch import DEPTH, memory_of
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


class Asked:
    """Pixels that note which images they were asked for."""

    def __init__(self):
        self.batches = []

    def __getitem__(self, indices):
        if not isinstance(indices, slice):
            self.batches.append(indices.tolist())
        return IMAGES.pixels[indices]


def test_batches_are_read_before_they_are_asked_for():
    pixels = Asked()
    streamed = Streamed.of(Images(pixels, IMAGES.labels), Preprocessing.of(IMAGES, normalize=False), CPU)
    deadline = time.monotonic() + 10
    streamed.expect(torch.arange(6).split(1))
    for number in range(6):
        ahead = [[index] for index in range(min(number + DEPTH, 6))]
        while len(pixels.batches) < len(ahead) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert pixels.batches == ahead
        streamed.gather(torch.tensor([number]))


FLOATS = Images(RANDOM.random((7, 2, 5, 4), dtype=np.float32), IMAGES.labels)
# One channel is of one brightness throughout.
EVEN = Images(np.stack([IMAGES.pixels[:, 0], np.full((7, 5, 4), 9, np.uint8)], axis=1), IMAGES.labels)


@pytest.mark.parametrize(("given", "deviations"), [(IMAGES, [1, 1]), (FLOATS, [1, 1]), (EVEN, [1, 0])])
def test_normalized_images_have_mean_0_and_deviation_1(given, deviations):
    preprocessing = Preprocessing.of(given, normalize=True)
    [(images, _)] = Resident.of(given, preprocessing, CPU).batches(100)
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(images.std((0, 2, 3), correction=0), torch.tensor(deviations).float(), atol=1e-5)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.fixture
def _no_constants():
    """What was computed before, or is computed here, makes no constants for others."""
    constant.cache_clear()
    yield
    torch.set_default_dtype(torch.float32)
    constant.cache_clear()


@pytest.mark.usefixtures("_no_constants")
def test_who_computes_first_leaves_constants_that_serve_the_next():
    preprocessing = Preprocessing((2, 5, 4), (0.1, 0.5), (0.3, 0.7))
    with torch.inference_mode():
        preprocessing.normalize(torch.zeros(1, 2, 5, 4))
    images = torch.ones(1, 2, 5, 4, requires_grad=True)
    preprocessing.normalize(images).sum().backward()
    assert torch.allclose(images.grad[0, :, 0, 0], 1 / torch.tensor(preprocessing.std))


@pytest.mark.usefixtures("_no_constants")
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_constants_are_of_the_kind_of_the_images(kind):
    shifted = Shifted.around(Resident.of(IMAGES, Preprocessing.of(IMAGES, normalize=True), CPU))
    torch.set_default_dtype(kind)
    [(first, _)] = shifted.batches(100)
    torch.set_default_dtype(torch.float32)
    constant.cache_clear()
    [(second, _)] = shifted.batches(100)
    assert first.dtype == torch.float32 and torch.equal(first, second)


def test_many_images_are_summed_exactly():
    images = Images(np.full((1000, 1, 50, 50), 251, np.uint8), np.zeros(1000, np.int64))
    assert Preprocessing.of(images, normalize=True).mean == pytest.approx([251 / 255], rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [5, 4]},
        {"shape": [2, 0, 4]},
        {"shape": [2, 5, 2**16]},
        {"shape": [2, 5.0, 4]},
        {"shape": [3, 5, 4]},
        {"mean": [0.0, math.nan]},
        {"mean": [0.0, "0"]},
        {"std": [1.0, math.inf]},
        {"std": [1.0, 0.0]},
        {"std": [1.0]},
    ],
)
def test_what_is_no_preprocessing_of_images(change):
    known = {"shape": [2, 5, 4], "mean": [0.0, 0.5], "std": [1.0, 2.0]}
    assert Preprocessing.from_dict(known).to_dict() == known
    with pytest.raises(ValueError, match="its preprocessing is not one of images"):
        Preprocessing.from_dict(known | change)


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
    parts, labels_of_parts = zip(*shifted.batches(4), strict=True)
    assert torch.equal(torch.cat(parts), images)
    assert torch.equal(torch.cat(labels_of_parts), labels)


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


@pytest.mark.parametrize("counts", [[90, 9, 3], [5, 5, 5], [100], [1, 97, 3]])
def test_a_balanced_order_has_each_class_equally_often(counts):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[torch.randperm(sum(counts))]
    order = balanced_order(labels, 0, 0)
    share = sum(counts) / len(counts)
    for label in range(len(counts)):
        times = torch.bincount(order[labels[order] == label], minlength=len(labels))[labels == label]
        assert abs(times.sum().item() - share) < 1
        # No image comes twice more often than another of its class.
        assert times.max() - times.min() <= 1
    assert torch.equal(order, balanced_order(labels, 0, 0))
    if share > 5:
        assert not torch.equal(order, balanced_order(labels, 0, 1))
        assert not torch.equal(order, balanced_order(labels, 1, 0))


def test_every_index_of_an_expanded_set_has_its_label():
    shifted = Shifted.around(Resident.of(IMAGES, Preprocessing.of(IMAGES, normalize=False), CPU))
    assert torch.equal(shifted.all_labels, shifted.gather(torch.arange(35))[1])


def test_seeds_for_different_purposes_differ():
    assert len({derived_seed(seed, purpose) for seed in range(20) for purpose in ("a", "b", "order/1")}) == 60


def test_what_takes_more_than_half_of_the_memory_is_streamed(monkeypatch):
    assert [exceeds(size, CPU, 10) for size in (10, 11)] == [False, True]
    monkeypatch.setattr("cnntrain.data.batches.memory_of", lambda device: 100)
    assert [exceeds(size, CPU, None) for size in (50, 51)] == [False, True]


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="reads /proc")
def test_the_memory_of_a_cpu_is_the_computers(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "OWN_GROUP", tmp_path / "none")
    kilobytes = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    assert memory_of(CPU) == pytest.approx(1024 * kilobytes, rel=0.01)


@pytest.mark.parametrize(
    ("own", "whole", "limit"), [("max\n", "5000000\n", 5_000_000), ("70\n", "5000000\n", 70), ("max\n", "max\n", None)]
)
def test_the_memory_that_a_container_or_a_job_is_granted(monkeypatch, tmp_path, own, whole, limit):
    computers = memory_of(CPU)
    job = tmp_path / "groups" / "jobs" / "7"
    job.mkdir(parents=True)
    (job / "memory.max").write_text(own)
    (tmp_path / "groups" / "memory.max").write_text(whole)
    (tmp_path / "cgroup").write_text("9:memory:/x\n0::/jobs/7\n")
    monkeypatch.setattr(cgroup, "OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup, "GROUPS", tmp_path / "groups")
    assert memory_of(CPU) == (limit or computers)


@pytest.mark.parametrize("kind", [Resident, Streamed])
def test_an_expanded_set_is_streamed_where_its_images_are(kind):
    assert Shifted.around(kind.of(IMAGES, Preprocessing.of(IMAGES, normalize=False), CPU)).is_streamed == (
        kind is Streamed
    )
