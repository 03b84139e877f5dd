"""What plugins may do, and what is said where they may not."""

import math
import sys

import numpy as np
import pytest
import torch

from cnntrain import registry
from cnntrain.app.configure import import_plugins, load_config
from cnntrain.app.train import train_run
from cnntrain.app.where import Where
from cnntrain.data.images import Dataset, Images, OnDisk
from cnntrain.errors import DataError, UsageError
from cnntrain.network.stack import output_shape
from cnntrain.run import checkpoint
from cnntrain.training.probe import probe

HEAD = """
import math
import numpy as np
import torch
from torch import nn
from cnntrain import registry
from cnntrain.config.spec import LayerSpec
from cnntrain.strict import PositiveInt
from cnntrain.training.schedules import Fixed
"""
TWICE = """
@registry.layers.register("twice")
def twice(given, /, layers: list[LayerSpec]):
    inner, _ = given.build(layers, "twice", "layers")
    return nn.Sequential(inner, inner)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a plugin; what it registers is forgotten after the test."""
    for kind in registry.ALL.values():
        monkeypatch.setattr(kind, "_entries", dict(kind._entries))

    def write(code):
        path = tmp_path / "mine.py"
        path.write_text(HEAD + code)
        return path

    yield write
    for name in [name for name in sys.modules if name.startswith("cnntrain_plugin_mine_")]:
        del sys.modules[name]


def test_a_layer_that_is_used_twice_learns_from_both(plugin, tiny, tmp_path):
    where = Where(device="cpu", plugins=[plugin(TWICE)])
    tiny.write_text(
        "network: [flatten, {twice: {layers: [{dense: {units: 64, activation: tanh}}]}}, softmax]\n"
        "training: {epochs: 1, batch_size: 10, optimizer: {sgd: {learning_rate: 0.5}}}\n"
    )
    weights = []
    for name, overrides in (("auto", []), ("gradients", ["training.clip_grad_norm=1e9"])):
        train_run(load_config(tiny, overrides, where.plugins), tmp_path / name, where)
        weights.append(checkpoint.load(tmp_path / name / "checkpoints" / "last.pt").weights)
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name])


def test_numbers_of_numpy_in_a_schedule(plugin, tiny, tmp_path, cnntrain):
    path = plugin(
        "@registry.schedules.register('rounded')\n"
        "def rounded(epochs, /):\n    return Fixed(lambda time: np.cos(time / epochs))\n"
    )
    words = ("training.epochs=1", "training.schedule=rounded", "--plugin", path, "--run-dir", tmp_path / "run")
    assert cnntrain("train", tiny, *words).code == 0
    assert cnntrain("doctor", tmp_path / "run", "--plugin", path).code == 0


def test_what_can_not_be_read_again_is_told_when_it_is_first_saved(plugin, tiny, tmp_path, cnntrain):
    path = plugin(
        "class Counting(nn.Identity):\n"
        "    def get_extra_state(self):\n        return np.float64(3)\n"
        "    def set_extra_state(self, state):\n        pass\n"
        "@registry.layers.register('counting')\ndef counting(given, /):\n    return Counting()\n"
    )
    tiny.write_text(tiny.read_text().replace("  - batch_norm\n", "  - counting\n"))
    outcome = cnntrain("train", tiny, "training.epochs=3", "--plugin", path, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "what a plugin's parts keep must be tensors, Python's own numbers, text, lists and dicts" in outcome.err
    assert "epoch 2/3" not in outcome.err


@pytest.mark.parametrize("default", ["size: int = None", "size: tuple[int, int] = (3, 3)", "size: float = math.inf"])
def test_a_default_that_no_config_holds_is_refused_before_training(plugin, tiny, cnntrain, default):
    path = plugin(f"@registry.layers.register('odd')\ndef odd(given, /, {default}):\n    return nn.Identity()\n")
    tiny.write_text(tiny.read_text().replace("  - batch_norm\n", "  - odd\n"))
    outcome = cnntrain("check", tiny, "--plugin", path)
    assert outcome.code == 2 and "can't be written into a config, perhaps a default of theirs" in outcome.err


def test_a_factory_can_not_change_the_config(plugin, tiny, tmp_path, cnntrain):
    path = plugin(
        "@registry.layers.register('mlp')\n"
        "def mlp(given, /, hidden: list[PositiveInt]):\n"
        "    hidden.append(given.classes)\n"
        "    sizes = [math.prod(given.shape), *hidden]\n"
        "    return nn.Sequential(nn.Flatten(), *[nn.Linear(*pair) for pair in zip(sizes, sizes[1:])])\n"
    )
    tiny.write_text("network: [{mlp: [32]}]\ntraining: {epochs: 1}\n")
    words = ("--plugin", path)
    assert cnntrain("train", tiny, "--run-dir", tmp_path / "run", *words).code == 0
    assert "hidden: [32]\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert cnntrain("eval", tmp_path / "run", *words).code == 0


def test_a_plugin_that_failed_can_be_mended(plugin):
    layer = "@registry.layers.register('mended')\ndef mended(given, /):\n    return nn.Identity()\n"
    with pytest.raises(UsageError, match="NameError"):
        import_plugins([plugin(layer + "nonsense\n")])
    assert "mended" not in registry.layers
    import_plugins([plugin(layer)])
    assert "mended" in registry.layers


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (
            "given, size: int = 3",
            r"its function first takes what the program gives it, before a `/`: `\(given, /",
        ),
        ("given, /, *sizes: int", r"a config can't give `\*sizes`; name each"),
        ("given, /, **others: int", r"a config can't give `\*others`; name each"),
    ],
)
def test_signatures_that_can_not_be(plugin, signature, expected):
    with pytest.raises(UsageError, match=f"the layer `bad`: {expected}"):
        import_plugins([plugin(f"@registry.layers.register('bad')\ndef bad({signature}):\n    return nn.Identity()\n")])


def test_the_random_numbers_of_the_caller_go_on(tiny, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    found = [torch.rand(2)]
    train_run(load_config(tiny, ["training.epochs=1"]), tmp_path / "run", Where(device="cpu"))
    found.append(torch.rand(2))
    assert torch.equal(torch.cat(found), expected)


PIXELS, LABELS = np.zeros((6, 1, 2, 2), np.uint8), np.arange(6) % 2


@pytest.mark.parametrize(
    ("pixels", "labels", "expected"),
    [
        (torch.zeros(6, 1, 2, 2), LABELS, "are not a NumPy array"),
        (PIXELS.astype(np.float64), LABELS, "in uint8 or float32"),
        (PIXELS[:, 0], LABELS, r"of \(images, channels, height, width\)"),
        (PIXELS, LABELS[:5], "are 6, but their labels are not a NumPy array of as many int64"),
        (PIXELS, LABELS.astype(np.int32), "of as many int64"),
        (PIXELS, LABELS.tolist(), "of as many int64"),
        (PIXELS, LABELS + 1, "have labels from 1 to 2; there are 2 classes"),
        (PIXELS, LABELS - 1, "have labels from -1 to 0"),
        (PIXELS.astype(np.float32) + 255, LABELS, "have pixels that are not in 0..1"),
        (PIXELS.astype(np.float32) - 1, LABELS, "have pixels that are not in 0..1"),
        (PIXELS.astype(np.float32) + np.float32(math.nan), LABELS, "have pixels that are not in 0..1"),
    ],
)
def test_data_is_looked_at(pixels, labels, expected):
    with pytest.raises(DataError, match=f"the training images {expected}|the training images .*{expected}"):
        Dataset(("a", "b"), Images(pixels, labels))
    with pytest.raises(DataError, match="the test images"):
        Dataset(("a", "b"), Images(PIXELS, LABELS), test=Images(pixels, labels))


def test_data_as_it_should_be():
    on_disk = OnDisk(PIXELS, np.zeros((6, 16), np.uint8), np.arange(6))
    for pixels in (PIXELS, PIXELS.astype(np.float32), PIXELS.astype(np.float32) + 1, on_disk):
        assert len(Dataset(("a", "b"), Images(pixels, LABELS)).train) == 6


class Flattening(torch.nn.Module):
    def forward(self, images):
        return images.view(len(images), -1)


class Mixing(torch.nn.Module):
    def forward(self, images):
        return images.reshape(-1, 4)


def test_a_layer_is_tried_with_what_it_gets_in_training():
    with pytest.raises(RuntimeError, match="view"):
        output_shape(Flattening(), (3, 4, 4))
    assert output_shape(torch.nn.Flatten(), (3, 4, 4)) == (48,)
    with pytest.raises(ValueError, match=r"of one image it makes \(12, 4\); the first dimension is that of the images"):
        output_shape(Mixing(), (3, 4, 4))


def test_what_works_in_place_does_not_change_the_figures_of_what_came_before():
    torch.manual_seed(0)
    layers = [torch.nn.BatchNorm2d(3), torch.nn.ReLU(inplace=True), torch.nn.Flatten(), torch.nn.Linear(48, 2)]
    images, labels = torch.rand(64, 3, 4, 4), torch.arange(64) % 2
    normalized = probe(torch.nn.Sequential(*layers), images, labels)[0]
    assert normalized.mean == pytest.approx(0, abs=1e-3) and normalized.std == pytest.approx(1, abs=1e-2)
