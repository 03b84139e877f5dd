"""`whitened_conv`: what it makes of the images that set it, and what training leaves of it."""

import csv

import numpy as np
import pytest
import torch

from cnntrain.app.configure import load_config
from cnntrain.app.initial import initial
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved
from cnntrain.data.batches import Resident
from cnntrain.data.images import Images
from cnntrain.data.preprocess import Preprocessing
from cnntrain.data.splits import Splits
from cnntrain.network.build import build
from cnntrain.network.whitening import fit
from cnntrain.run import checkpoint

EPS = 5e-4
WHITENED = "network=[whitened_conv, {conv: 8}, {whitened_conv: {kernel_size: 1, activation: relu}}, softmax]"
# A cosine ends with the epochs, and is not the same for two as for one.
SLOW = ["training.optimizer={sgd: {learning_rate: 0.01}}", "training.schedule=constant"]


def smooth(count=400, channels=3, side=9):
    """Images whose neighbouring pixels are alike."""
    drawn = torch.randn(count, channels, side + 2, side + 2, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(drawn, 3, 1) + 0.3


def fitted(images, layers=("whitened_conv", "softmax")):
    network = build(from_resolved({"network": list(layers)}), tuple(images.shape[1:]), 10)
    fit(network, images)
    return network


def rows_of(outputs):
    return outputs.detach().double().transpose(0, 1).flatten(1)


@pytest.mark.parametrize("kernel", [1, 2, [3, 1]])
def test_outputs_are_white(kernel):
    images = smooth()
    outputs = rows_of(fitted(images, [{"whitened_conv": {"kernel_size": kernel, "eps": EPS}}, "softmax"])[0](images))
    half, other = outputs.chunk(2)
    assert torch.equal(half, -other)
    assert half.mean(1).abs().max() < 1e-5
    covariance = half.cov(correction=0)
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    windows = images.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, len(half))
    variances = np.linalg.eigvalsh(np.cov(windows.double().numpy().T, bias=True))[::-1]
    expected = torch.tensor(variances / (variances + EPS))
    torch.testing.assert_close(covariance, torch.diag(expected), atol=1e-4, rtol=0)


def test_what_does_not_vary_stays_finite():
    images = smooth(channels=2)
    images[:, 1] = 0.25
    network = fitted(images)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    half = rows_of(network[0](images))[:8]
    assert (half.var(1) > 0.5).sum() == 4 and half.var(1)[4:].max() < 1e-4


def test_deeper_ones_are_set_by_what_reaches_them():
    images = smooth()
    residual = {"residual": [{"whitened_conv": {"kernel_size": 1}}]}
    network = fitted(images, [{"conv": {"filters": 4, "activation": "relu"}}, {"dropout": 0.5}, residual, "softmax"])
    assert all(module.training for module in network.modules())
    inner = network[2].layers[0]
    assert rows_of(inner(network[0](images)))[:4].cov(correction=0).diagonal().min() > 0.5
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_it_is_set_by_images_of_all_classes():
    # Sorted by class; those of the second half alone vary.
    pixels = np.zeros((40, 1, 600, 600), np.float32)
    pixels[20:] = np.random.default_rng(0).random((20, 1, 600, 600))
    images = Images(pixels, np.repeat([0, 1], 20))
    preprocessing = Preprocessing.of(images, normalize=False)
    config = from_resolved({"network": ["whitened_conv", "global_avg_pool", "softmax"]})
    layer = initial(config, Splits(("a", "b"), images, images, images), preprocessing, torch.device("cpu"))[0]
    shown = next(Resident.of(images.take(slice(0, None, 4)), preprocessing, torch.device("cpu")).batches(40))[0]
    expected = build(config, preprocessing.shape, 2)
    fit(expected, shown)
    assert torch.equal(layer.weight, expected[0].weight)
    assert layer.weight.abs().max() > 0


@pytest.mark.parametrize("decay", ["training.l2=0.5", "training.optimizer={adamw: {weight_decay: 0.5}}"])
def test_training_changes_the_bias_alone(tiny, tmp_path, decay):
    config = load_config(tiny, [WHITENED, *SLOW, "training.epochs=1", decay])
    train_run(config, tmp_path / "one", Where(device="cpu"))
    train_run(load_config(tiny, [WHITENED, *SLOW, "training.epochs=2", decay]), tmp_path / "two", Where(device="cpu"))
    one, two = (checkpoint.load(tmp_path / run / "checkpoints" / "last.pt").weights for run in ("one", "two"))
    assert torch.equal(one["0_whitened_conv.weight"], two["0_whitened_conv.weight"])
    assert torch.equal(one["2_whitened_conv.0.weight"], two["2_whitened_conv.0.weight"])
    assert one["0_whitened_conv.weight"].norm() > 1
    assert not torch.equal(one["0_whitened_conv.bias"], two["0_whitened_conv.bias"])
    with open(tmp_path / "two" / "diagnostics.csv") as file:
        assert not {"0_whitened_conv", "2_whitened_conv.0"} & {row["layer"] for row in csv.DictReader(file)}


def test_it_resumes_to_the_same_bits(tiny, tmp_path):
    whole = [WHITENED, *SLOW, "training.epochs=2"]
    train_run(load_config(tiny, whole), tmp_path / "whole", Where(device="cpu"))
    train_run(load_config(tiny, [WHITENED, *SLOW, "training.epochs=1"]), tmp_path / "run", Where(device="cpu"))
    resume_run(tmp_path / "run", ["training.epochs=2"], Where(device="cpu"))
    found, expected = (checkpoint.load(tmp_path / run / "checkpoints" / "last.pt").weights for run in ("run", "whole"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_probe_sees_it_set(cnntrain, tiny):
    outcome = cnntrain("probe", tiny, "network=[whitened_conv, {activation: relu}, softmax]")
    assert outcome.code == 0, outcome.err
    line = next(line for line in outcome.out.splitlines() if "0_whitened_conv" in line)
    assert float(line.split()[2]) > 0.1
