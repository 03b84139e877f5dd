"""A network out of a checkpoint: as it was saved, and nothing else in the process is as it was not."""

import pytest
import torch
from PIL import Image
from torch import nn

from cnntrain import registry
from cnntrain.app.model import load_model
from cnntrain.app.predict import predict_images
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved, resolved
from cnntrain.errors import CheckpointError
from cnntrain.network import build as building
from cnntrain.network.build import build
from cnntrain.run import checkpoint
from cnntrain.run.content import Checkpoint

CPU = Where(device="cpu")
EVERY_LAYER = [
    {"whitened_conv": {"kernel_size": 2, "activation": "gelu"}},
    {"conv_pool": {"filters": 6, "kernel_size": 3, "pool_size": 1}},
    {"conv": {"filters": 6, "kernel_size": 1, "stride": 2, "init": "orthogonal"}},
    "batch_norm",
    {"depthwise_conv": {"padding": "same", "bias": False}},
    {"residual": {"layers": [{"conv": {"filters": 8, "padding": 1}}, {"group_norm": 2}], "activation": "relu"}},
    {"branches": {"branches": [[{"max_pool": 2}], [{"avg_pool": 2}, {"scale": 0.5}]]}},
    {"repeat": {"times": 2, "layers": ["layer_norm", {"dropout": 0.5}]}},
    "flatten",
    {"residual": {"layers": [{"dense": {"units": 9, "init": "lecun"}}]}},
    {"fully_connected": {"units": 7, "init": "book"}},
    {"activation": "silu"},
    "softmax",
]


def saved(path, layers, changed=lambda weights: weights):
    """A checkpoint with other weights than its seed draws, and the network that has them."""
    config, shape = from_resolved({"network": layers}), (3, 12, 12)
    network = build(config, shape, 4)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.2, 0.6)
    preprocessing = {"shape": [*shape], "mean": [0.0] * 3, "std": [1.0] * 3}
    weights = changed(dict(network.state_dict()))
    checkpoint.save(path, Checkpoint(resolved(config), [*"abcd"], preprocessing, weights, None, {}, {}))
    return network.eval()


def described(network):
    state = network.state_dict(keep_vars=True)
    return {name: (tensor.dtype, tensor.stride(), tensor.requires_grad, type(tensor)) for name, tensor in state.items()}


def outputs(network):
    images = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network(images.contiguous(memory_format=torch.channels_last))


def test_a_network_is_what_was_saved(tmp_path):
    expected, found = saved(tmp_path / "x.pt", EVERY_LAYER), load_model(tmp_path / "x.pt", CPU).network
    assert str(found) == str(expected) and described(found) == described(expected)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
    assert torch.equal(outputs(found), outputs(expected))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda weights: {**weights, "12_softmax.linear.bias": torch.zeros(3)}, "size mismatch"),
        (lambda weights: {name: weights[name] for name in list(weights)[:-1]}, "Missing key"),
        (lambda weights: {**weights, "more": torch.zeros(1)}, "Unexpected key"),
    ],
)
def test_other_weights_do_not_fit(tmp_path, changed, why):
    saved(tmp_path / "x.pt", EVERY_LAYER, changed)
    with pytest.raises(CheckpointError, match=rf"do not fit this program: (.|\n)*{why}"):
        load_model(tmp_path / "x.pt", CPU)


def test_random_numbers_are_left_alone_while_a_network_is_loaded(tmp_path, monkeypatch):
    saved(tmp_path / "x.pt", EVERY_LAYER)
    before, stack, during = torch.get_rng_state(), building._stack, []

    def looked_at(*arguments, **options):
        during.append(torch.get_rng_state())
        try:
            return stack(*arguments, **options)
        finally:
            during.append(torch.get_rng_state())

    monkeypatch.setattr(building, "_stack", looked_at)
    load_model(tmp_path / "x.pt", CPU)
    # What is put back at the end would be put back too late for other threads.
    assert len(during) == 2 and all(torch.equal(before, state) for state in (*during, torch.get_rng_state()))


def test_a_network_that_is_drawn_seeds_no_gpu(monkeypatch):
    config = from_resolved({"seed": 3, "network": EVERY_LAYER})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = building._stack(config, (3, 12, 12), 4, building.Budget()).state_dict()
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    found = build(config, (3, 12, 12), 4).state_dict()
    assert seeds == [] and all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_another_kind_of_numbers_by_default(trained, tmp_path, kind):
    Image.linear_gradient("L").resize((8, 8)).save(tmp_path / "x.png")
    expected = list(predict_images(trained, [str(tmp_path / "x.png")], CPU, 10))
    torch.set_default_dtype(kind)
    try:
        found = list(predict_images(trained, [str(tmp_path / "x.png")], CPU, 10))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == expected


@pytest.fixture
def keeper(monkeypatch):
    """A layer of somebody else's, which keeps what it draws where no checkpoint has it."""
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))

    class Keeper(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.kept = torch.rand(channels, 1, 1)
            self.tied = nn.Conv2d(channels, channels, 1)
            self.also = nn.Conv2d(channels, channels, 1)
            self.also.weight = self.tied.weight
            self.register_buffer("mask", torch.ones(channels, 1, 1).tril(), persistent=False)

        def forward(self, images):
            return self.also(self.tied(images * self.kept * self.mask))

    @registry.layers.register("keeper")
    def keeper(given, /):
        """Keeps."""
        return Keeper(given.channels)

    return [{"repeat": {"times": 1, "layers": [{"conv": 6}, "keeper"]}}, "softmax"]


def test_what_a_layer_of_a_plugin_draws_is_drawn_again(tmp_path, keeper):
    expected, found = saved(tmp_path / "x.pt", keeper), load_model(tmp_path / "x.pt", CPU).network
    assert torch.equal(outputs(found), outputs(expected)) and described(found) == described(expected)
    (layer,) = [module for module in found.modules() if hasattr(module, "kept")]
    assert layer.tied.weight is layer.also.weight and layer.kept.min() != layer.kept.max()


def test_an_initializer_of_a_plugin_is_not_asked_for_weights_that_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.initializers, "_entries", dict(registry.initializers._entries))
    asked = []

    @registry.initializers.register("mine")
    def mine(weight, bias, fans, /):
        """Asks."""
        asked.append(weight)

    expected = saved(tmp_path / "x.pt", [{"conv": {"filters": 4, "init": "mine"}}, "softmax"])
    count = len(asked)
    assert torch.equal(outputs(load_model(tmp_path / "x.pt", CPU).network), outputs(expected))
    assert len(asked) == count > 0
