"""Every layer of the vocabulary: its shapes against torch's own modules, its names, seeds, and what does not fit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from cnntrain import registry
from cnntrain.app.configure import load_config
from cnntrain.config.load import from_resolved, load
from cnntrain.data.preprocess import channels_last
from cnntrain.errors import ConfigError
from cnntrain.layout import moved
from cnntrain.network.activations import NAMES, make_activation
from cnntrain.network.build import build, check
from cnntrain.network.stack import Budget, Input, stack
from cnntrain.network.summary import summarize

IMAGE = (4, 11, 8)
FLAT = (12,)
END = ["flatten", {"dense": 3}]


def network(layers, shape=IMAGE, classes=3, **others):
    return build(from_resolved({"network": layers, **others}), shape, classes)


def first(layer, shape=IMAGE, **others):
    """The module of one layer, with something behind it that makes a network of it."""
    return network([layer, *END], shape, **others)[0]


def sent_through(module, shape):
    with torch.no_grad():
        return tuple(module.eval()(torch.zeros(2, *shape)).shape[1:])


# --- shapes

AGAINST_TORCH = [
    ({"conv": 5}, IMAGE, lambda: nn.Conv2d(4, 5, 3)),
    ({"conv": {"filters": 5, "kernel_size": [3, 2]}}, IMAGE, lambda: nn.Conv2d(4, 5, (3, 2))),
    ({"conv": {"filters": 5, "stride": 2, "padding": 1}}, IMAGE, lambda: nn.Conv2d(4, 5, 3, 2, 1)),
    (
        {"conv": {"filters": 6, "stride": [2, 3], "padding": [1, 2], "dilation": [2, 1], "groups": 2, "bias": False}},
        IMAGE,
        lambda: nn.Conv2d(4, 6, 3, (2, 3), (1, 2), (2, 1), 2, bias=False),
    ),
    ({"conv": {"filters": 5, "padding": "same"}}, IMAGE, lambda: nn.Conv2d(4, 5, 3, padding="same")),
    (
        {"conv": {"filters": 5, "kernel_size": [5, 3], "padding": "same", "dilation": 2}},
        IMAGE,
        lambda: nn.Conv2d(4, 5, (5, 3), padding="same", dilation=2),
    ),
    (
        {"conv": {"filters": 5, "kernel_size": [4, 3], "padding": "same"}},
        IMAGE,
        lambda: nn.Conv2d(4, 5, (4, 3), padding="same"),
    ),
    (
        {"conv": {"filters": 5, "kernel_size": 15, "padding": "same"}},
        IMAGE,
        lambda: nn.Conv2d(4, 5, 15, padding="same"),
    ),
    ({"conv": {"filters": 5, "kernel_size": [13, 10], "padding": 1}}, IMAGE, lambda: nn.Conv2d(4, 5, (13, 10), 1, 1)),
    ("depthwise_conv", IMAGE, lambda: nn.Conv2d(4, 4, 3, groups=4)),
    (
        {"depthwise_conv": {"kernel_size": 5, "stride": 2, "padding": 2, "bias": False}},
        IMAGE,
        lambda: nn.Conv2d(4, 4, 5, 2, 2, groups=4, bias=False),
    ),
    ("max_pool", IMAGE, lambda: nn.MaxPool2d((2, 2), (2, 2), (0, 0))),
    ({"max_pool": {"kernel_size": 3, "stride": 2, "padding": 1}}, IMAGE, lambda: nn.MaxPool2d((3, 3), (2, 2), (1, 1))),
    ({"max_pool": {"kernel_size": [13, 10], "padding": 1}}, IMAGE, lambda: nn.MaxPool2d((13, 10), (13, 10), (1, 1))),
    ({"max_pool": [3, 2]}, IMAGE, lambda: nn.MaxPool2d((3, 2), (3, 2), (0, 0))),
    ("avg_pool", IMAGE, lambda: nn.AvgPool2d((2, 2), (2, 2), (0, 0))),
    (
        {"avg_pool": {"kernel_size": [2, 4], "stride": 1, "padding": [1, 2]}},
        IMAGE,
        lambda: nn.AvgPool2d((2, 4), (1, 1), (1, 2)),
    ),
    ("flatten", IMAGE, lambda: nn.Flatten()),
    ("flatten", FLAT, lambda: nn.Flatten()),
    ({"dense": 7}, FLAT, lambda: nn.Linear(12, 7)),
    ({"dense": {"units": 7, "bias": False}}, FLAT, lambda: nn.Linear(12, 7, bias=False)),
    ("batch_norm", IMAGE, lambda: nn.BatchNorm2d(4)),
    ({"batch_norm": {"momentum": 0.5, "eps": 0.25}}, IMAGE, lambda: nn.BatchNorm2d(4, eps=0.25, momentum=0.5)),
    ("batch_norm", FLAT, lambda: nn.BatchNorm1d(12)),
    ({"group_norm": 2}, IMAGE, lambda: nn.GroupNorm(2, 4)),
    ({"group_norm": {"groups": 3, "eps": 0.25}}, FLAT, lambda: nn.GroupNorm(3, 12, eps=0.25)),
    ("layer_norm", IMAGE, lambda: nn.LayerNorm((4, 11, 8))),
    ({"layer_norm": 0.25}, FLAT, lambda: nn.LayerNorm(12, eps=0.25)),
    ("dropout", IMAGE, lambda: nn.Dropout(0.5)),
    ({"dropout": 0.25}, FLAT, lambda: nn.Dropout(0.25)),
    ({"activation": "gelu"}, IMAGE, lambda: nn.GELU()),
]


@pytest.mark.parametrize(
    ("layer", "shape", "theirs"), AGAINST_TORCH, ids=lambda value: "" if callable(value) else str(value)
)
def test_as_torch(layer, shape, theirs):
    ours, theirs = first(layer, shape), theirs()
    assert repr(ours) == repr(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert sent_through(ours, shape) == sent_through(theirs, shape)
    # In another layout the same sums are added up in another order.
    theirs.to(memory_format=torch.channels_last).load_state_dict(ours.state_dict())
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))


BY_HAND = [
    ({"conv_pool": 6}, IMAGE, (6, 3, 2)),
    ({"conv_pool": {"filters": 6, "kernel_size": [2, 3], "pool_size": [3, 1]}}, IMAGE, (6, 3, 6)),
    ({"conv_pool": {"filters": 6, "kernel_size": 11, "pool_size": 1}}, (4, 11, 11), (6, 1, 1)),
    ({"fully_connected": 9}, IMAGE, (9,)),
    ({"fully_connected": {"units": 9, "dropout": 0.5}}, FLAT, (9,)),
    ("global_avg_pool", IMAGE, (4,)),
    ("whitened_conv", IMAGE, (32, 10, 7)),
    ({"whitened_conv": {"kernel_size": [3, 1], "activation": "gelu"}}, IMAGE, (24, 9, 8)),
    ({"scale": 0.5}, IMAGE, IMAGE),
    ({"scale": -2}, FLAT, FLAT),
    ({"repeat": {"times": 3, "layers": [{"conv": 4}, "batch_norm"]}}, IMAGE, (4, 5, 2)),
    ({"repeat": {"times": 1, "layers": [{"repeat": {"times": 2, "layers": ["max_pool"]}}]}}, IMAGE, (4, 2, 2)),
    ({"residual": [{"conv": {"filters": 4, "padding": "same"}}]}, IMAGE, IMAGE),
    ({"residual": [{"conv": {"filters": 9, "padding": 1, "stride": 2}}]}, IMAGE, (9, 6, 4)),
    ({"residual": {"layers": [{"dense": 5}]}}, FLAT, (5,)),
    ({"branches": [[{"conv": 2}], [{"conv": {"filters": 3}}, "batch_norm"], [{"conv": 4}]]}, IMAGE, (9, 9, 6)),
    ({"branches": [[{"dense": 2}], [{"dense": 3}]]}, FLAT, (5,)),
]


@pytest.mark.parametrize(("layer", "shape", "expected"), BY_HAND, ids=str)
def test_shapes_by_hand(layer, shape, expected):
    assert sent_through(first(layer, shape), shape) == expected
    config = from_resolved({"network": [layer, *END]})
    assert summarize(check(config, shape, 3), shape)[0].output == expected


def test_softmax():
    net = network(["softmax"], classes=6)
    assert sent_through(net, IMAGE) == (6,)
    # It gives logits: nothing normalises them.
    with torch.no_grad():
        net[0].linear.bias.fill_(5.0)
        net[0].linear.weight.zero_()
        assert torch.equal(net(torch.zeros(1, *IMAGE)), torch.full((1, 6), 5.0))


def test_every_layer_is_tested_here():
    tested = {layer if isinstance(layer, str) else next(iter(layer)) for layer, *_ in (*AGAINST_TORCH, *BY_HAND)}
    assert tested | {"softmax"} == set(registry.layers)


@pytest.mark.parametrize("name", NAMES)
def test_activations(name):
    module = first({"activation": name})
    by_name = {module.lower(): module for module in dir(nn)}
    expected = "Identity" if name == "linear" else by_name[name.replace("_", "")]
    assert type(module).__name__ == expected
    inside = first({"dense": {"units": 3, "activation": name}}, FLAT)
    if name == "linear":
        assert isinstance(inside, nn.Linear)
    else:
        assert type(inside[1]) is type(module)


def test_values_by_hand():
    images = torch.randn(3, *IMAGE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first({"scale": -0.5})(images), images * -0.5)
    assert torch.equal(first({"dropout": 0.25}, dropout_scaling="book").eval()(images), images * 0.75)
    torch.testing.assert_close(first("global_avg_pool")(images), images.flatten(2).mean(2))
    branches = first({"branches": [[{"conv": 2}], [{"conv": 3}]]})
    one, other = branches.branches
    assert torch.equal(branches(images), torch.cat([one(images), other(images)], 1))


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_residual_adds(activation):
    images = torch.randn(3, *IMAGE, generator=torch.Generator().manual_seed(0))
    layers = [{"conv": {"filters": 7, "padding": 1, "stride": 2}}, "batch_norm"]
    residual = first({"residual": {"layers": layers, "activation": activation}}).eval()
    expected = residual.layers(images) + residual.shortcut(images)
    assert torch.equal(residual(images), make_activation(activation)(expected))


@pytest.mark.parametrize(
    ("shortcut", "filters", "kind"),
    [
        ("auto", 4, nn.Identity),
        ("identity", 4, nn.Identity),
        ("projection", 4, nn.Conv2d),
        ("auto", 5, nn.Conv2d),
        ("projection", 5, nn.Conv2d),
    ],
)
def test_shortcuts(shortcut, filters, kind):
    layers = [{"conv": {"filters": filters, "padding": "same"}}]
    residual = first({"residual": {"layers": layers, "shortcut": shortcut}})
    assert type(residual.shortcut) is kind
    if kind is nn.Conv2d:
        assert repr(residual.shortcut) == repr(nn.Conv2d(4, filters, 1, bias=False))


@pytest.mark.parametrize("stride", [1, 2, 3, [2, 1], [3, 2]])
@pytest.mark.parametrize("size", [6, 7, 8, 9])
def test_projections_of_all_strides(stride, size):
    layers = [{"conv": {"filters": 5, "padding": 1, "stride": stride}}]
    residual = first({"residual": layers}, (2, size, size + 1))
    if isinstance(residual.shortcut, nn.Conv2d):
        assert residual.shortcut.kernel_size == (1, 1)
        assert sent_through(residual.shortcut, (2, size, size + 1)) == sent_through(
            residual.layers, (2, size, size + 1)
        )


def test_a_projection_of_features():
    assert repr(first({"residual": [{"dense": 5}]}, FLAT).shortcut) == repr(nn.Linear(12, 5, bias=False))


def test_repeat_has_weights_of_its_own():
    one, other = first({"repeat": {"times": 2, "layers": [{"dense": 12}]}}, FLAT)
    assert not torch.equal(one[0].weight, other[0].weight)


# --- names


def names(layers, shape=IMAGE):
    return list(network(layers, shape).state_dict())


@pytest.mark.parametrize(
    ("layers", "shape", "expected"),
    [
        (["softmax"], IMAGE, ["0_softmax.linear.weight", "0_softmax.linear.bias"]),
        (
            [{"conv_pool": 2}, {"fully_connected": {"units": 5, "dropout": 0.5}}, "softmax"],
            IMAGE,
            [
                "0_conv_pool.weight",
                "0_conv_pool.bias",
                "1_fully_connected.linear.weight",
                "1_fully_connected.linear.bias",
                "2_softmax.linear.weight",
                "2_softmax.linear.bias",
            ],
        ),
        (
            [
                {"conv": {"filters": 2, "activation": "relu", "bias": False}},
                "max_pool",
                "global_avg_pool",
                {"dense": 3},
            ],
            IMAGE,
            ["0_conv.0.weight", "3_dense.weight", "3_dense.bias"],
        ),
        (
            [{"residual": [{"dense": 5}]}, {"repeat": {"times": 2, "layers": [{"dense": 3}]}}],
            FLAT,
            [
                "0_residual.layers.0_dense.weight",
                "0_residual.layers.0_dense.bias",
                "0_residual.shortcut.weight",
                "1_repeat.0.0_dense.weight",
                "1_repeat.0.0_dense.bias",
                "1_repeat.1.0_dense.weight",
                "1_repeat.1.0_dense.bias",
            ],
        ),
        (
            [
                {
                    "branches": [
                        ["dropout", {"dense": {"units": 1, "bias": False}}],
                        [{"dense": {"units": 2, "bias": False}}],
                    ]
                }
            ],
            FLAT,
            ["0_branches.branches.0.1_dense.weight", "0_branches.branches.1.0_dense.weight"],
        ),
        (
            ["batch_norm", "softmax"],
            FLAT,
            [
                "0_batch_norm.weight",
                "0_batch_norm.bias",
                "0_batch_norm.running_mean",
                "0_batch_norm.running_var",
                "0_batch_norm.num_batches_tracked",
                "1_softmax.linear.weight",
                "1_softmax.linear.bias",
            ],
        ),
    ],
)
def test_names_in_a_checkpoint(layers, shape, expected):
    assert names(layers, shape) == expected


def test_summary():
    config = from_resolved({"network": [{"conv": 5}, "max_pool", {"fully_connected": 10}, "softmax"]})
    rows = summarize(check(config, (1, 8, 8), 3), (1, 8, 8))
    assert [(row.name, row.output, row.parameters, row.macs) for row in rows] == [
        ("0_conv", (5, 6, 6), 5 * 9 + 5, 5 * 9 * 36),
        ("1_max_pool", (5, 3, 3), 0, 0),
        ("2_fully_connected", (10,), 450 + 10, 450),
        ("3_softmax", (3,), 30 + 3, 30),
    ]


def test_memory_is_that_of_training():
    flat = [["flatten", {"dense": units}] for units in (2, 3)]
    config = from_resolved({"network": ["dropout", {"branches": flat}, {"activation": "tanh"}, "softmax"]})
    rows = summarize(check(config, (1, 8, 8), 3), (1, 8, 8))
    # No mask, since images need no gradient; one image for both branches; the outputs of tanh, which are what meets the
    # last weights too: four bytes each.
    assert [row.memory // 4 for row in rows] == [0, 64, 5, 0]


@pytest.mark.parametrize("name", ["digits", "book/02-conv", "cifar10/residual", "cifar10/whitened", "mnist/accurate"])
def test_memory_is_what_a_pass_over_many_images_keeps(name):
    config = load_config(Path(__file__).parent.parent.parent / "configs" / f"{name}.yaml")
    shape = {"cifar10": (3, 32, 32), "digits": (1, 8, 8)}.get(name.partition("/")[0], (1, 28, 28))
    network, kept = moved(build(config, shape, 10), torch.device("cpu")).train(), []
    for images in (160, 200):
        found = {}

        def pack(tensor, found=found):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(channels_last(torch.rand(images, *shape)))
        kept.append(sum(found.values()))
        del output
    assert sum(row.memory for row in summarize(check(config, shape, 10), shape)) == (kept[1] - kept[0]) / 40


def test_what_print_shows():
    assert repr(first({"dropout": 0.25}, dropout_scaling="book")) == "BookDropout(p=0.25)"
    assert repr(first({"conv_pool": 6})).startswith("ConvPool(\n  (6, 4, 5, 5), pool=(2, 2)")


# --- misfits

MISFITS = [
    (
        ["{conv: {filters: 3, kernel_size: 9}}"],
        2,
        "conv",
        IMAGE,
        "the kernel of 9x9 is larger than the 11x8 it slides over",
    ),
    (
        ["{conv: {filters: 3, kernel_size: 9, padding: [0, 0]}}"],
        2,
        "conv",
        IMAGE,
        "the kernel of 9x9 is larger than the 11x8 it slides over",
    ),
    (
        ["{conv: {filters: 3, dilation: 4}}"],
        2,
        "conv",
        IMAGE,
        "the kernel of 9x9 is larger than the 11x8 it slides over",
    ),
    (
        ["max_pool", "{conv: {filters: 3, kernel_size: 5}}"],
        3,
        "conv",
        (4, 5, 4),
        "the kernel of 5x5 is larger than the 5x4",
    ),
    (["{depthwise_conv: 9}"], 2, "depthwise_conv", IMAGE, "the kernel of 9x9 is larger than the 11x8 it slides over"),
    (["{whitened_conv: 9}"], 2, "whitened_conv", IMAGE, "the kernel of 9x9 is larger than the 11x8 it slides over"),
    (["flatten", "whitened_conv"], 3, "whitened_conv", (352,), "it takes (channels, height, width), but gets (352,)"),
    (["{max_pool: 9}"], 2, "max_pool", IMAGE, "the pooling window of 9x9 is larger than the 11x8 it slides over"),
    (
        ["{avg_pool: [12, 1]}"],
        2,
        "avg_pool",
        IMAGE,
        "the pooling window of 12x1 is larger than the 11x8 it slides over",
    ),
    (
        ["{max_pool: {kernel_size: 2, padding: 2}}"],
        2,
        "max_pool",
        IMAGE,
        "pad should be at most half of effective kernel",
    ),
    (["{conv_pool: {filters: 3, kernel_size: 9}}"], 2, "conv_pool", IMAGE, "the kernel of 9x9 is larger than the 11x8"),
    (
        ["{conv_pool: {filters: 3, pool_size: 5}}"],
        2,
        "conv_pool",
        IMAGE,
        "the pooling window of 5x5 is larger than the 7x4",
    ),
    (
        ["{conv: {filters: 4, groups: 3}}"],
        2,
        "conv",
        IMAGE,
        "`groups: 3` must divide its 4 input channels and its 4 filters",
    ),
    (
        ["{conv: {filters: 5, groups: 2}}"],
        2,
        "conv",
        IMAGE,
        "`groups: 2` must divide its 4 input channels and its 5 filters",
    ),
    (
        ["{conv: {filters: 4, padding: same, stride: 2}}"],
        2,
        "conv",
        IMAGE,
        "`padding: same` goes with `stride: 1` only",
    ),
    (["{group_norm: 3}"], 2, "group_norm", IMAGE, "`groups: 3` must divide its 4 channels"),
    (["{dense: 3}"], 2, "dense", IMAGE, "it takes (features,), but gets (4, 11, 8); put `flatten` before it"),
    (["flatten", "{conv: 3}"], 3, "conv", (352,), "it takes (channels, height, width), but gets (352,)"),
    (["flatten", "{conv_pool: 3}"], 3, "conv_pool", (352,), "it takes (channels, height, width), but gets (352,)"),
    (["flatten", "depthwise_conv"], 3, "depthwise_conv", (352,), "it takes (channels, height, width), but gets (352,)"),
    (["flatten", "max_pool"], 3, "max_pool", (352,), "it takes (channels, height, width), but gets (352,)"),
    (["flatten", "avg_pool"], 3, "avg_pool", (352,), "it takes (channels, height, width), but gets (352,)"),
    (
        ["flatten", "global_avg_pool"],
        3,
        "global_avg_pool",
        (352,),
        "it takes (channels, height, width), but gets (352,)",
    ),
    (["softmax", "{dense: 3}"], 2, "softmax", IMAGE, "`softmax` is the last layer of a network; use `dense` or"),
    (
        ["{residual: {layers: [{conv: 4}], shortcut: identity}}"],
        2,
        "residual",
        IMAGE,
        "its layers turn (4, 11, 8) into (4, 9, 6), but an identity shortcut needs equal shapes",
    ),
    (
        ["{residual: {layers: [{conv: 4}]}}"],
        2,
        "residual",
        IMAGE,
        "its layers turn (4, 11, 8) into (4, 9, 6), which no strided 1x1 convolution can match",
    ),
    (
        ["{residual: {layers: [flatten]}}"],
        2,
        "residual",
        IMAGE,
        "its layers turn (4, 11, 8) into (352,), which no shortcut can match",
    ),
    (
        ["{branches: [[{conv: 2}], [max_pool], [flatten]]}"],
        2,
        "branches",
        IMAGE,
        "its branches end in (2, 9, 6) and (4, 5, 4) and (352,): only the channels may differ",
    ),
]


def refusal(tmp_path, text, shape=IMAGE, classes=3):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    config = load(path)
    with pytest.raises(ConfigError) as caught:
        build(config, shape, classes)
    [problem] = caught.value.problems
    assert problem.position.text == text.splitlines()[problem.position.line - 1]
    return problem


@pytest.mark.parametrize(("layers", "line", "name", "given", "reason"), MISFITS, ids=lambda value: str(value)[:50])
def test_misfits(tmp_path, layers, line, name, given, reason):
    text = "network:\n" + "".join(f"  - {layer}\n" for layer in [*layers, "softmax"])
    problem = refusal(tmp_path, text)
    assert (problem.position.line, problem.position.column) == (line, 5)
    assert problem.message.startswith(f"layer `{name}` does not fit its input {given}: {reason}")


@pytest.mark.parametrize(
    ("layer", "column", "name", "given"),
    [
        ("{residual: {layers: [max_pool, {conv: {filters: 4, kernel_size: 9}}]}}", 36, "conv", (4, 5, 4)),
        ("{residual: [max_pool, {conv: {filters: 4, kernel_size: 9}}]}", 27, "conv", (4, 5, 4)),
        ("{repeat: {times: 3, layers: [max_pool, {group_norm: 3}]}}", 44, "group_norm", (4, 5, 4)),
        ("{repeat: {times: 5, layers: [max_pool]}}", 34, "max_pool", (4, 1, 1)),
        ("{repeat: {times: 1, layers: [softmax]}}", 34, "softmax", IMAGE),
        ("{branches: [[max_pool], [max_pool, {dense: 3}]]}", 40, "dense", (4, 5, 4)),
        ("{branches: {branches: [[max_pool], [max_pool, {dense: 3}]]}}", 51, "dense", (4, 5, 4)),
        ("{residual: [{branches: [[max_pool], [{residual: [{dense: 3}]}]]}]}", 54, "dense", IMAGE),
    ],
)
def test_misfits_inside_blocks(tmp_path, layer, column, name, given):
    problem = refusal(tmp_path, f"network:\n  - {layer}\n  - softmax\n")
    assert (problem.position.line, problem.position.column) == (2, column)
    assert problem.message.startswith(f"layer `{name}` does not fit its input {given}: ")


@pytest.mark.parametrize("block", ["{residual: {layers: [softmax]}}", "{repeat: {times: 1, layers: [softmax]}}"])
def test_no_layer_within_a_last_block_is_the_last(tmp_path, block):
    problem = refusal(tmp_path, f"network: [{block}]\n", (3,))
    assert problem.message.startswith("layer `softmax` does not fit its input (3,): `softmax` is the last layer of")


@pytest.mark.parametrize(
    ("layers", "line", "output"),
    [
        (["flatten", "{dense: 5}"], 3, (5,)),
        (["flatten", "{dense: 3}", "{dense: 4}"], 4, (4,)),
        (["{conv: 3}"], 2, (3, 9, 6)),
        (["flatten"], 2, (352,)),
    ],
)
def test_a_last_layer_without_the_classes(tmp_path, layers, line, output):
    problem = refusal(tmp_path, "network:\n" + "".join(f"  - {layer}\n" for layer in layers))
    assert (problem.position.line, problem.position.column) == (line, 5)
    assert problem.message == (
        f"the network ends with shape {output}, but the data has 3 classes; end it with `softmax`"
    )


def test_a_last_layer_of_another_kind_with_the_classes():
    assert sent_through(network(["flatten", {"dense": 3}]), IMAGE) == (3,)
    assert sent_through(network([{"conv": 3}, "global_avg_pool"]), IMAGE) == (3,)
    linear = {"fully_connected": {"units": 3, "activation": "linear"}}
    assert sent_through(network([linear]), IMAGE) == (3,)


@pytest.mark.parametrize(
    ("last", "name"),
    [
        ({"fully_connected": 3}, "Sigmoid"),
        ({"dense": {"units": 3, "activation": "relu"}}, "ReLU"),
        ({"activation": "log_sigmoid"}, "LogSigmoid"),
    ],
)
def test_logits_have_no_activation(last, name):
    said = rf"network\.2: the network ends with {name}, but the loss takes logits, .*; end it with `softmax`"
    with pytest.raises(ConfigError, match=said):
        network(["flatten", {"dense": 3}, last])


def test_a_misfit_of_the_base_points_into_it(tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 1\nnetwork:\n  - dense: 3\n  - softmax\n")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nseed: 2\n")
    with pytest.raises(ConfigError) as caught:
        build(load(tmp_path / "top.yaml"), IMAGE, 3)
    assert str(caught.value).startswith(f"{tmp_path / 'base.yaml'}:3:5: layer `dense` does not fit")


def test_a_misfit_made_by_an_override_points_to_it(tmp_path):
    (tmp_path / "c.yaml").write_text("network:\n  - conv: {filters: 3}\n  - softmax\n")
    with pytest.raises(ConfigError) as caught:
        build(load(tmp_path / "c.yaml", ["network.0={dense: 3}"]), IMAGE, 3)
    assert str(caught.value).startswith("override:1:11: layer `dense` does not fit its input (4, 11, 8)")


def test_a_misfit_of_a_resolved_config_names_its_place():
    with pytest.raises(ConfigError, match=r"^network\.1: layer `dense` does not fit its input \(4, 5, 4\)"):
        network(["max_pool", {"dense": 3}, "softmax"])


def test_sizes_beyond_measure():
    config = from_resolved(
        {"network": [{"conv": {"filters": 2**31 - 1, "kernel_size": 2**31 - 1, "padding": "same"}}, "softmax"]}
    )
    with pytest.raises(ConfigError, match="layer `conv` does not fit its input"):
        check(config, IMAGE, 3)


def test_what_a_network_spends():
    layers = [
        {"conv": {"filters": 6, "groups": 2}},
        {"max_pool": {"kernel_size": 3, "stride": 2, "padding": 1}},
        {"residual": [{"conv": {"filters": 8, "kernel_size": 1}}]},
        {"conv_pool": {"filters": 2, "kernel_size": [3, 2], "pool_size": [3, 1]}},
        "flatten",
        {"dense": 5},
        "softmax",
    ]
    config, budget = from_resolved({"network": layers}), Budget()
    given = Input(IMAGE, 3, config.init, config.dropout_scaling, ("network",), is_last=True, budget=budget)
    assert stack(config.network, given)[1] == (3,)
    # Weights and outputs of each, before pooling where it is a part of the layer; a residual's shortcut has weights.
    spent = 6 * (2 * 9 + 9 * 6) + 6 * 5 * 3 + 8 * (6 + 5 * 3) + 6 * 8 + 2 * (8 * 6 + 3 * 2) + 4 * 5 + 5 * 3
    assert (budget.layers, budget.numbers) == (4_000 - 8, 2**30 - spent)
    with pytest.raises(ValueError, match="with its weights and outputs, the network has more than 1,073,741,824 of"):
        budget.spend(numbers=2**30)
    with pytest.raises(ValueError, match="with 1,073,741,825 weights and outputs, the network has more than"):
        Budget().spend(numbers=2**30 + 1)
    with pytest.raises(ValueError, match="with it, the network has more than 4,000 layers; repeat fewer"):
        Budget().spend(layers=4_001)


def test_check_takes_no_memory():
    config = from_resolved({"network": [{"fully_connected": 10**7}, {"fully_connected": 10**7}, "softmax"]})
    assert all(p.is_meta for p in check(config, IMAGE, 3).parameters())


# --- seeds

SEEDED = [
    {"conv": {"filters": 4, "activation": "relu"}},
    "batch_norm",
    {"residual": [{"conv": {"filters": 6, "padding": 1}}]},
    {"fully_connected": {"units": 5, "dropout": 0.5}},
    "softmax",
]


def weights(seed, **others):
    return network(SEEDED, seed=seed, **others).state_dict()


@pytest.mark.parametrize("init", ["auto", "book", "orthogonal", {"he": "uniform"}])
def test_the_same_seed_gives_the_same_weights(init):
    torch.manual_seed(1)
    one = weights(3, init=init)
    torch.manual_seed(2)
    other = weights(3, init=init)
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_seed_gives_other_weights():
    one, other = weights(3), weights(4)
    drawn = [name for name in one if name.endswith("weight") and one[name].dim() > 1]
    assert len(drawn) == 5
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


@pytest.mark.parametrize("padding", [0, 1, [1, 0]])
@pytest.mark.parametrize("stride", [2, 3, [1, 2]])
@pytest.mark.parametrize("channels", [1, 3])
def test_strided_1x1_convolutions_are_torchs(channels, stride, padding):
    # Some of these end the process in torch's own backward pass on a CPU, in channels_last.
    layer = {"conv": {"filters": 2, "kernel_size": 1, "stride": stride, "padding": padding}}
    ours = network([layer, "flatten", "softmax"], (channels, 8, 9))
    theirs = nn.Conv2d(channels, 2, 1, stride, padding).double()
    theirs.load_state_dict(ours[0].state_dict())
    for _ in range(20):
        images = torch.rand(8, channels, 8, 9)
        weights = torch.rand_like(theirs(images.double()).float())
        ours.zero_grad()
        theirs.zero_grad()
        (ours[0](channels_last(images)) * weights).sum().backward()
        (theirs(images.double()) * weights).sum().backward()
        for parameter, other in zip(ours[0].parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_group_norm_of_the_images_themselves(channels):
    # In channels_last torch's own backward pass ends the process.
    ours = network([{"group_norm": 1}, "flatten", "softmax"], (channels, 6, 6))
    images = torch.rand(5, channels, 6, 6)
    (ours[0](channels_last(images)) * images).sum().backward()
    normed = (images - images.mean((1, 2, 3), keepdim=True)) / images.var((1, 2, 3), correction=0, keepdim=True).add(
        1e-5
    ).sqrt()
    torch.testing.assert_close(ours[0].weight.grad, (normed * images).sum((0, 2, 3)))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: 5, "its function returns int, not a torch module"),
        (lambda: nn.LSTM(8, 8), "it returns tuple, not a tensor"),
        (lambda: nn.MultiheadAttention(8, 3), "embed_dim must be divisible by num_heads"),
    ],
)
def test_what_is_no_layer_is_told_at_its_place(monkeypatch, made, said):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    registry.layers.register("odd")(lambda given, /: made())
    with pytest.raises(ConfigError, match=rf"network\.1: layer `odd` does not fit its input \(8,\): {said}$"):
        network([{"dense": 8}, "odd", "softmax"], (8,))


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    network(SEEDED)
    assert torch.equal(torch.get_rng_state(), state)


def test_building_leaves_the_default_device_alone():
    network(SEEDED)
    assert torch.get_default_device().type == "cpu"
    assert torch.empty(1).device.type == "cpu"


def test_a_built_network_is_ready_to_train():
    net = network(SEEDED)
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad and not p.is_meta for p in net.parameters())
    norm = net[1]
    # Finding shapes sends zeros through, which must leave no trace.
    assert norm.num_batches_tracked == 0
    assert not norm.running_mean.any()
    assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
