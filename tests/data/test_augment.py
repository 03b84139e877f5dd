"""Augmentations: what each does to a known image, one transform an image, reproducible, shapes and range kept."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

import cnntrain.app.configure  # noqa: F401  (the whole vocabulary)
from cnntrain.config.load import from_resolved, load
from cnntrain.data.augment import elastic, geometry
from cnntrain.errors import ConfigError
from cnntrain.registry import augmentations

SETTINGS = {
    "shift": {"pixels": 2},
    "flip": {},
    "affine": {"degrees": 30.0, "shear": 10.0, "translate": 2.0, "scale": 0.2},
    "resized_crop": {},
    "erase": {"size": [3, 5]},
    "elastic": {},
    "brightness": {},
    "contrast": {},
}


def make(name, **options):
    return augmentations[name].factory(**options)


def test_every_augmentation_is_tried_here():
    assert set(SETTINGS) == set(augmentations)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("shape", [(7, 1, 8, 8), (5, 3, 12, 20)])
def test_shape_range_and_one_transform_an_image(name, shape):
    torch.manual_seed(0)
    images = torch.rand(1, *shape[1:]).expand(shape)
    before = images.clone()
    changed = make(name, **SETTINGS[name])(images)
    assert changed.shape == shape
    assert changed.dtype == torch.float32
    assert torch.equal(images, before)
    assert 0 <= changed.min() <= changed.max() <= 1 + 1e-6
    different = {image.numpy().tobytes() for image in changed}
    assert len(different) > 1
    assert name == "flip" or len(different) >= shape[0] - 2


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_from_the_same_seed(name):
    images = torch.rand(6, 1, 9, 9)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(make(name, **SETTINGS[name])(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def drawn(monkeypatch, *numbers):
    """Let torch.rand give these numbers, in 0..1, in the place of random ones."""
    values = torch.tensor(numbers)[:, None]
    monkeypatch.setattr(torch, "rand", lambda *_, **__: values)


@pytest.mark.parametrize("size", [(9, 9), (8, 14)])
def test_a_quarter_turn_is_rot90(monkeypatch, size):
    side = min(size)
    images = torch.zeros(1, 1, *size)
    start = [(whole - side) // 2 for whole in size]
    square = torch.rand(1, 1, side, side)
    images[..., start[0] : start[0] + side, start[1] : start[1] + side] = square
    drawn(monkeypatch, 1.0, 0.5, 0.5, 0.5, 0.5)
    turned = make("affine", degrees=90.0)(images)[..., start[0] : start[0] + side, start[1] : start[1] + side]
    torch.testing.assert_close(turned, torch.rot90(square, 1, (2, 3)), atol=1e-5, rtol=0)


def test_translate_is_in_pixels_and_scale_enlarges(monkeypatch):
    images = torch.rand(1, 1, 6, 10)
    drawn(monkeypatch, 0.5, 0.5, 1.0, 0.5, 0.5)
    moved = make("affine", translate=2.0)(images)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:], atol=1e-5, rtol=0)
    drawn(monkeypatch, 0.5, 0.5, 0.5, 1.0, 0.5)
    moved = make("affine", translate=2.0)(images)
    torch.testing.assert_close(moved[..., :-2, :], images[..., 2:, :], atol=1e-5, rtol=0)
    dot = torch.zeros(1, 1, 11, 11)
    dot[..., 4:7, 4:7] = 1
    drawn(monkeypatch, 0.5, 0.5, 0.5, 0.5, 1.0)
    assert make("affine", scale=0.5)(dot).sum() == pytest.approx(9 * 1.5**2, rel=0.15)


def crop_drawn(monkeypatch, sizes, place):
    """Let these sizes (shares and ratios in 0..1) be drawn, then this place, by the first image."""
    each = torch.tensor([*sizes, *[sizes[-1]] * (geometry.DRAWS - len(sizes))]).t()[:, :, None]
    draws = iter([each, torch.tensor(place)[:, None]])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(draws))


def test_a_crop_is_a_part_enlarged_to_the_size_of_the_whole(monkeypatch):
    images = torch.rand(1, 2, 8, 12)
    ramps = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij"))[None]
    torch.testing.assert_close(make("resized_crop", scale=[1.0, 1.0], ratio=[1.0, 1.0])(images), images)
    # A quarter, at the lower left; at the seams it meets what is beyond.
    crop_drawn(monkeypatch, [(0.5, 0.5)], [0.0, 1.0])
    cut = make("resized_crop", scale=[0.25, 0.25], ratio=[1.0, 1.0])(images)
    expected = functional.interpolate(images[..., 4:, :6], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(cut[..., 1:, :-1], expected[..., 1:, :-1])
    # A share of 0.32, twice as wide as high, at the right.
    crop_drawn(monkeypatch, [(1.0, 1.0)], [1.0, 0.5])
    down, right = make("resized_crop", scale=[0.1, 0.32], ratio=[0.5, 2.0])(ramps)[0]
    steps = [float(right[20, 40] - right[20, 20]) / 20, float(down[30, 20] - down[10, 20]) / 20]
    assert steps == pytest.approx([0.8, 0.4])
    assert right.max() == 59 and down.mean() == pytest.approx(19.5)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # Too wide, too high, then the first that fits; the last is not looked at.
        ([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.5)], [0.8, 0.2]),
        # Never: the first is made smaller, as wide or as high as the whole.
        ([(1.0, 1.0)], [1.0, 0.25]),
        ([(1.0, 0.0)], [0.25, 1.0]),
    ],
)
def test_a_crop_is_drawn_until_it_fits(monkeypatch, sizes, expected):
    crop_drawn(monkeypatch, sizes, [0.5, 0.5])
    ramps = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij"))[None]
    down, right = make("resized_crop", scale=[0.16, 0.5], ratio=[0.25, 4.0])(ramps)[0]
    steps = [float(right[20, 40] - right[20, 20]) / 20, float(down[30, 20] - down[10, 20]) / 20]
    assert steps == pytest.approx(expected, rel=1e-4)


def test_crops_have_shares_and_ratios_of_the_whole_range():
    torch.manual_seed(0)
    ramps = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij"))
    cut = make("resized_crop", scale=[0.2, 0.6], ratio=[0.5, 2.0])(ramps.expand(4000, -1, -1, -1))
    # Away from the border, at which nothing is beyond.
    tall = (cut[:, 0, 20, 20] - cut[:, 0, 12, 20]) / 8
    wide = (cut[:, 1, 15, 30] - cut[:, 1, 15, 18]) / 12
    shares, ratios = tall * wide, (wide / tall).log2()
    assert 0.2 - 1e-4 <= shares.min() < 0.21 and 0.59 < shares.max() <= 0.6 + 1e-4
    assert -1 - 1e-3 <= ratios.min() < -0.97 and 0.97 < ratios.max() <= 1 + 1e-3
    assert abs(float(ratios.mean())) < 0.05
    # Everywhere, and never beyond.
    assert cut[:, 1].min() == 0 and cut[:, 1].max() == 47
    assert abs(float(cut.mean() - ramps.mean())) < 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("scale: [0.5, 0.1]", "`scale` should begin with the smaller number"),
        ("scale: [0.1, 1.5]", "should be less than or equal to 1"),
        ("ratio: [0, 1]", "should be greater than 0"),
        ("ratio: 2", "`ratio` should"),
        ("scale: [0.5]", "`scale` should"),
    ],
)
def test_ranges_of_a_crop_are_checked(tmp_path, given, said):
    (tmp_path / "c.yaml").write_text(f"data: {{augment: [resized_crop: {{{given}}}]}}\nnetwork: [softmax]\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "c.yaml")
    assert said in str(caught.value)


def test_shear_leaves_rows_where_they_are(monkeypatch):
    images = torch.zeros(1, 1, 9, 9)
    images[..., 4] = 1
    drawn(monkeypatch, 0.5, 1.0, 0.5, 0.5, 0.5)
    tilted = make("affine", shear=45.0)(images)[0, 0]
    columns = (tilted * torch.arange(9)).sum(1) / tilted.sum(1)
    assert columns.tolist() == pytest.approx([8, 7, 6, 5, 4, 3, 2, 1, 0], abs=1e-4)


def test_a_tilt_is_made_of_what_was_turned(monkeypatch):
    images = torch.rand(1, 1, 9, 9)
    drawn(monkeypatch, 1.0, 1.0, 0.5, 0.5, 0.5)
    tilted = make("affine", degrees=90.0, shear=45.0)(images)[0, 0]
    turned = torch.rot90(images, 1, (2, 3))[0, 0].tolist()
    for row, values in enumerate(turned):
        expected = [values[place] if 0 <= (place := column + row - 4) < 9 else 0.0 for column in range(9)]
        assert tilted[row].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("size", "pixels"), [((5, 5), 1), ((2, 6), 3)])
def test_shift_moves_by_whole_pixels(size, pixels):
    torch.manual_seed(0)
    (height, width), places = size, range(2 * pixels + 1)
    image = torch.rand(1, 1, *size) + 0.1
    padded = torch.nn.functional.pad(image, [pixels] * 4)[0, 0]
    windows = {padded[i : i + height, j : j + width].numpy().tobytes() for i in places for j in places}
    seen = {moved.numpy().tobytes() for moved in make("shift", pixels=pixels)(image.expand(1000, 1, *size))}
    assert seen == windows


def test_what_is_shifted_by_more_than_its_side_is_gone():
    torch.manual_seed(0)
    assert not make("shift", pixels=10**6)(torch.ones(20, 3, 4, 5)).any()


@pytest.mark.parametrize(("options", "axis", "rate"), [({}, 3, 0.5), ({"p": 0.2, "direction": "vertical"}, 2, 0.2)])
def test_flip_mirrors_at_its_rate(options, axis, rate):
    torch.manual_seed(0)
    image = torch.rand(1, 1, 4, 4)
    flipped = make("flip", **options)(image.expand(1000, 1, 4, 4))
    same = (flipped == image).flatten(1).all(1)
    mirrored = (flipped == image.flip(axis)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert rate - 0.1 < mirrored.float().mean() < rate + 0.1


def test_erase_covers_a_window():
    torch.manual_seed(0)
    images = torch.ones(500, 2, 12, 12)
    erased = 1 - make("erase", size=[3, 4])(images)
    area = erased[:, 0].sum((1, 2))
    assert area.max() == 12
    assert (area > 0).all()
    assert torch.equal(erased[:, 0], erased[:, 1])
    some = make("erase", size=4, p=0.5)(images)
    assert 0.4 < (some == 1).flatten(1).all(1).float().mean() < 0.6


@pytest.mark.parametrize(
    ("number", "rows", "columns"), [(0.0, (0, 1), (0, 3)), (0.5, (4, 7), (7, 13)), (0.99, (10, 12), (17, 20))]
)
def test_erase_draws_the_middle_from_the_whole_image(monkeypatch, number, rows, columns):
    drawn(monkeypatch, number)
    expected = torch.ones(1, 2, 12, 20)
    expected[..., slice(*rows), slice(*columns)] = 0
    assert torch.equal(make("erase", size=[3, 6])(torch.ones(1, 2, 12, 20)), expected)


def test_elastic_smooths_as_scipy_does():
    noise = torch.rand(2, 1, 28, 28) * 2 - 1
    smooth = elastic._smooth(noise, 4.0)
    expected = ndimage.gaussian_filter(noise[0, 0].numpy().astype(np.float64), 4.0, mode="constant", truncate=3.0)
    assert np.abs(smooth[0, 0].numpy() - expected).max() < 1e-6


def test_elastic_moves_by_a_few_pixels():
    torch.manual_seed(0)
    ramp = torch.arange(28.0).expand(50, 1, 28, 28) / 27
    moved = (make("elastic")(ramp) - ramp)[..., 6:-6, 6:-6] * 27
    assert 0.3 < moved.abs().mean() < 3


def test_elastic_moves_by_alpha_pixels(monkeypatch):
    images = torch.rand(1, 1, 20, 28)
    # Noise of nothing but 1 is smoothed to 1, away from the border.
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))
    moved = make("elastic", alpha=2.0, sigma=1.0)(images)
    torch.testing.assert_close(moved[..., 3:-5, 3:-5], images[..., 5:-3, 5:-3], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "amount", "number", "expected"),
    [
        ("brightness", 0.3, 1.0, [0.5, 0.9, 0.7, 1.0]),
        ("brightness", 0.3, 0.0, [0.0, 0.3, 0.1, 0.5]),
        ("contrast", 0.5, 1.0, [0.05, 0.65, 0.35, 0.95]),
        ("contrast", 0.5, 0.0, [0.35, 0.55, 0.45, 0.65]),
        ("contrast", 1.0, 1.0, [0.0, 0.7, 0.3, 1.0]),
    ],
)
def test_brightness_and_contrast(monkeypatch, name, amount, number, expected):
    # Two channels, of which the mean over both is 0.5.
    images = torch.tensor([[[[0.2, 0.6]], [[0.4, 0.8]]]])
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, number))
    assert make(name, amount=amount)(images).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_in_a_config_by_name_and_by_first_argument():
    config = from_resolved({"data": {"augment": [{"affine": 15.0}, "flip", {"erase": 4}]}, "network": ["softmax"]})
    assert [spec.name for spec in config.data.augment] == ["affine", "flip", "erase"]
    assert config.data.augment[0].arguments.degrees == 15.0


@pytest.mark.parametrize("size", [(28, 28), (8, 28), (28, 8)])
def test_elastic_smooths_by_all_of_a_wide_gaussian(size):
    noise = torch.rand(1, 1, *size) * 2 - 1
    expected = ndimage.gaussian_filter(noise[0, 0].numpy().astype(np.float64), 20.0, mode="constant", truncate=3.0)
    assert np.abs(elastic._smooth(noise, 20.0)[0, 0].numpy() - expected).max() < 1e-6
