"""Our book layers against a plain NumPy float64 restatement of `network3.py`'s formulas, forwards and backwards.

The book's convolution is Theano's `conv2d`, a true convolution: it flips the kernel. Ours is a
cross-correlation, as torch's. The two differ by a flip of the (randomly drawn) kernel and by nothing
else, so that the restatement takes the flipped kernel in and the comparison flips it back.
"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import cnntrain.app.configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.network import modules
from cnntrain.network.build import build
from cnntrain.network.modules import BookDropout
from cnntrain.training.optimizers import Trainable

RATE, LAMBDA, BATCHES = 0.3, 0.7, 11

# --- the book in NumPy


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


ACTIVATIONS = {
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}


def convolve(images, kernels):
    """The 'valid' convolution: out[n, f, i, j] = sum of images[n, c, i + a, j + b] * kernels[f, c, -1 - a, -1 - b]."""
    height, width = kernels.shape[2:]
    rows, columns = images.shape[2] - height + 1, images.shape[3] - width + 1
    out = np.zeros((len(images), len(kernels), rows, columns))
    for a in range(height):
        for b in range(width):
            patch = images[:, :, a : a + rows, b : b + columns]
            out += np.einsum("ncij,fc->nfij", patch, kernels[:, :, height - 1 - a, width - 1 - b])
    return out


def convolve_backward(images, kernels, d_out):
    height, width = kernels.shape[2:]
    rows, columns = d_out.shape[2:]
    d_images, d_kernels = np.zeros_like(images), np.zeros_like(kernels)
    for a in range(height):
        for b in range(width):
            kernel = kernels[:, :, height - 1 - a, width - 1 - b]
            patch = images[:, :, a : a + rows, b : b + columns]
            d_images[:, :, a : a + rows, b : b + columns] += np.einsum("nfij,fc->ncij", d_out, kernel)
            d_kernels[:, :, height - 1 - a, width - 1 - b] = np.einsum("nfij,ncij->fc", d_out, patch)
    return d_images, d_kernels


def blocks(images, pool):
    """Each window's values in the last axis; rows and columns that fill no window are dropped."""
    n, c, height, width = images.shape
    rows, columns = height // pool, width // pool
    cut = images[:, :, : rows * pool, : columns * pool].reshape(n, c, rows, pool, columns, pool)
    return cut.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, rows, columns, pool * pool)


def pool_backward(images, pool, d_out):
    """The gradient goes to each window's largest value alone; the border that was dropped gets none."""
    winners = blocks(images, pool).argmax(-1)
    d_images = np.zeros_like(images)
    for index in np.ndindex(*winners.shape):
        n, c, i, j = index
        d_images[n, c, i * pool + winners[index] // pool, j * pool + winners[index] % pool] += d_out[index]
    return d_images


class ConvPool:
    def __init__(self, w, b, pool, activation):
        self.w, self.b, self.pool = w, b, pool
        self.f, self.df = ACTIVATIONS[activation]

    def forward(self, images):
        self.images = images
        self.convolved = convolve(images, self.w)
        self.z = blocks(self.convolved, self.pool).max(-1) + self.b[None, :, None, None]
        return self.f(self.z)

    def backward(self, d_out):
        d_z = d_out * self.df(self.z)
        self.d_b = d_z.sum((0, 2, 3))
        d_images, self.d_w = convolve_backward(self.images, self.w, pool_backward(self.convolved, self.pool, d_z))
        return d_images


class FullyConnected:
    """`mask` is the dropout of the layer's input; the book leaves what is kept as it is."""

    def __init__(self, w, b, activation, mask=None):
        self.w, self.b, self.mask = w, b, mask
        self.f, self.df = ACTIVATIONS[activation]

    def forward(self, images):
        self.shape = images.shape
        self.x = images.reshape(len(images), -1)
        if self.mask is not None:
            self.x = self.x * self.mask
        self.z = self.x @ self.w + self.b
        return self.f(self.z)

    def backward(self, d_out):
        d_z = d_out * self.df(self.z)
        self.d_w, self.d_b = self.x.T @ d_z, d_z.sum(0)
        d_x = d_z @ self.w.T
        return (d_x if self.mask is None else d_x * self.mask).reshape(self.shape)


class Softmax:
    def __init__(self, w, b, mask=None):
        self.w, self.b, self.mask = w, b, mask

    def forward(self, x):
        self.shape = x.shape
        self.x = x.reshape(len(x), -1)
        if self.mask is not None:
            self.x = self.x * self.mask
        z = self.x @ self.w + self.b
        e = np.exp(z - z.max(1, keepdims=True))
        self.p = e / e.sum(1, keepdims=True)
        return self.p

    def cost(self, y):
        return -np.log(self.p[np.arange(len(y)), y]).mean()

    def backward(self, y):
        d_z = self.p.copy()
        d_z[np.arange(len(y)), y] -= 1
        d_z /= len(y)
        self.d_w, self.d_b = self.x.T @ d_z, d_z.sum(0)
        d_x = d_z @ self.w.T
        return (d_x if self.mask is None else d_x * self.mask).reshape(self.shape)


def step(layers, x, y):
    """One step of SGD on the book's cost; gives the cost before it."""
    for layer in layers:
        x = layer.forward(x)
    cost = layers[-1].cost(y) + 0.5 * LAMBDA * sum((layer.w**2).sum() for layer in layers) / BATCHES
    gradient = y
    for layer in reversed(layers):
        gradient = layer.backward(gradient)
    for layer in layers:
        layer.w = layer.w - RATE * (layer.d_w + LAMBDA * layer.w / BATCHES)
        layer.b = layer.b - RATE * layer.d_b
    return cost


# --- ours beside it


def conv_pool(filters, activation, kernel=3, pool=2):
    return {"conv_pool": {"filters": filters, "kernel_size": kernel, "pool_size": pool, "activation": activation}}


def fully(units, activation, dropout=0.0):
    return {"fully_connected": {"units": units, "activation": activation, "dropout": dropout}}


NETWORKS = {
    "softmax": ((1, 4, 5), ["softmax"]),
    "fc": ((1, 4, 5), [fully(7, "sigmoid"), "softmax"]),
    "fc-fc": ((12,), [fully(7, "tanh"), fully(6, "relu"), "softmax"]),
    "cp sigmoid": ((1, 8, 8), [conv_pool(3, "sigmoid"), "softmax"]),
    "cp tanh, ragged": ((2, 10, 9), [conv_pool(3, "tanh", kernel=3, pool=3), "softmax"]),
    "cp relu": ((2, 9, 8), [conv_pool(4, "relu"), fully(5, "relu"), "softmax"]),
    "no pooling": ((1, 6, 6), [conv_pool(3, "sigmoid", pool=1), "softmax"]),
    "cp-cp-fc, even": ((1, 14, 14), [conv_pool(3, "sigmoid"), conv_pool(4, "sigmoid"), fully(9, "sigmoid"), "softmax"]),
    "cp-cp-fc, odd": (
        (3, 17, 15),
        [conv_pool(3, "tanh", 4, 2), conv_pool(4, "relu", 2, 2), fully(9, "sigmoid"), "softmax"],
    ),
    "the book's": (
        (1, 28, 28),
        [conv_pool(4, "relu", 5), conv_pool(5, "relu", 5), fully(12, "relu"), fully(11, "relu"), "softmax"],
    ),
}
CLASSES = 4


def built(shape, network, init="book", **others):
    config = from_resolved({"network": network, "init": init, "training": {"l2": LAMBDA}, **others})
    net = build(config, shape, CLASSES).double()
    with torch.no_grad():
        # The softmax layer begins with zeros, which would hide mistakes in all layers before it.
        net[-1].linear.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
        net[-1].linear.bias.normal_(0, 0.5, generator=torch.Generator().manual_seed(2))
    return net


def restated(net, network, masks=()):
    """The NumPy layers with the weights of `net`."""
    masks, layers = iter(masks), []
    for module, written in zip(net, network, strict=True):
        name, arguments = next(iter(written.items())) if isinstance(written, dict) else (written, {})
        if name == "conv_pool":
            w, b = module.weight.detach().numpy(), module.bias.detach().numpy()
            flipped = w[:, :, ::-1, ::-1].copy()
            layers.append(ConvPool(flipped, b.copy(), arguments["pool_size"], arguments["activation"]))
            continue
        w, b = module.linear.weight.detach().numpy().T.copy(), module.linear.bias.detach().numpy().copy()
        mask = next(masks, None) if arguments.get("dropout") else None
        if name == "softmax":
            layers.append(Softmax(w, b, mask))
        else:
            layers.append(FullyConnected(w, b, arguments["activation"], mask))
    return layers


def weights_in_our_form(layer):
    return layer.w[:, :, ::-1, ::-1] if layer.w.ndim == 4 else layer.w.T


def our_step(net, x, y):
    """One step with the sgd of our registry, and the cost that it descends."""
    optimizer_of = from_resolved({"network": ["softmax"], "training": {"optimizer": {"sgd": RATE}}}).training.optimizer
    optimizer = optimizer_of.make(Trainable(net, LAMBDA / BATCHES))
    weights = [p for p in net.parameters() if p.dim() > 1]
    net.train()
    optimizer.zero_grad()
    loss = functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y))
    cost = loss.item() + 0.5 * LAMBDA / BATCHES * sum(w.detach().square().sum().item() for w in weights)
    loss.backward()
    optimizer.step()
    return cost


def batch(shape, count=7):
    random = np.random.default_rng(5)
    return random.uniform(0, 1, (count, *shape)), random.integers(0, CLASSES, count)


def check_equal(net, layers):
    for module, layer in zip(net, layers, strict=True):
        holder = module if hasattr(module, "weight") else module.linear
        for ours, theirs in ((holder.weight, weights_in_our_form(layer)), (holder.bias, layer.b)):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_step_of_sgd(name):
    shape, network = NETWORKS[name]
    net = built(shape, network)
    layers, before = restated(net, network), [p.detach().clone() for p in net.parameters()]
    x, y = batch(shape)
    assert our_step(net, x, y) == pytest.approx(step(layers, x, y), rel=1e-12)
    check_equal(net, layers)
    # A step that changes nothing would prove nothing.
    moved = [(p.detach() - q).abs().max().item() for p, q in zip(net.parameters(), before, strict=True)]
    assert min(moved) > 1e-4


def test_several_steps_of_sgd():
    shape, network = NETWORKS["cp-cp-fc, odd"]
    net = built(shape, network)
    layers = restated(net, network)
    x, y = batch(shape)
    for _ in range(5):
        our_step(net, x, y)
        step(layers, x, y)
    check_equal(net, layers)


def test_the_gradients_of_the_restatement():
    """The restatement itself, by differences: it must not share a mistake with torch."""
    shape, network = NETWORKS["cp-cp-fc, odd"]
    layers = restated(built(shape, network), network)
    x, y = batch(shape, count=3)

    def cost():
        values = x
        for layer in layers:
            values = layer.forward(values)
        return layers[-1].cost(y)

    cost()
    gradient = y
    for layer in reversed(layers):
        gradient = layer.backward(gradient)
    small = 1e-6
    for layer in layers:
        for values, d_values in ((layer.w, layer.d_w.copy()), (layer.b, layer.d_b.copy())):
            for index in list(np.ndindex(*values.shape))[:: max(1, values.size // 5)]:
                middle = values[index]
                values[index] = middle + small
                above = cost()
                values[index] = middle - small
                below = cost()
                values[index] = middle
                assert (above - below) / (2 * small) == pytest.approx(d_values[index], rel=1e-4, abs=1e-8)


def test_convolution_and_correlation_differ_by_a_flip():
    random = np.random.default_rng(0)
    images, kernels = random.normal(size=(2, 3, 6, 7)), random.normal(size=(4, 3, 3, 2))
    correlated = functional.conv2d(torch.from_numpy(images), torch.from_numpy(kernels)).numpy()
    np.testing.assert_allclose(convolve(images, kernels[:, :, ::-1, ::-1]), correlated, rtol=1e-12)
    assert np.abs(convolve(images, kernels) - correlated).max() > 0.1


def test_l2_leaves_biases_alone():
    shape, network = NETWORKS["fc"]
    net = built(shape, network)
    optimizer_of = from_resolved({"network": ["softmax"]}).training.optimizer
    optimizer = optimizer_of.make(Trainable(net, LAMBDA / BATCHES))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        factor = 1 - 0.1 * LAMBDA / BATCHES if name.endswith("weight") else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor, rtol=1e-12, atol=0)


# --- dropout

DROPPED = [
    conv_pool(3, "relu"),
    fully(8, "tanh", dropout=0.5),
    fully(6, "relu", dropout=0.25),
    {"softmax": {"dropout": 0.75}},
]


def with_fixed_masks(monkeypatch, masks):
    """Let `keep_mask` give `masks` one after the other, and say how often it was asked with what."""
    asked, waiting = [], iter(masks)

    def fixed(values, p):
        asked.append((tuple(values.shape), p))
        return torch.from_numpy(next(waiting))

    monkeypatch.setattr(modules, "keep_mask", fixed)
    return asked


def test_one_step_of_sgd_with_dropout(monkeypatch):
    shape = (1, 9, 8)
    net = built(shape, DROPPED, dropout_scaling="book")
    x, y = batch(shape)
    random = np.random.default_rng(3)
    widths = (3 * 3 * 3, 8, 6)
    masks = [(random.uniform(size=(len(x), width)) < 0.6).astype(float) for width in widths]
    asked = with_fixed_masks(monkeypatch, masks)
    layers = restated(net, DROPPED, masks)
    assert our_step(net, x, y) == pytest.approx(step(layers, x, y), rel=1e-12)
    check_equal(net, layers)
    # Dropout acts on what comes into a layer.
    assert asked == [((7, 27), 0.5), ((7, 8), 0.25), ((7, 6), 0.75)]


def test_dropout_in_testing_scales_the_weights():
    shape = (1, 9, 8)
    net = built(shape, DROPPED, dropout_scaling="book").eval()
    layers = restated(net, DROPPED)
    for layer, p in zip(layers[1:], (0.5, 0.25, 0.75), strict=True):
        layer.w = layer.w * (1 - p)
    x, _ = batch(shape)
    values = x
    for layer in layers:
        values = layer.forward(values)
    with torch.no_grad():
        ours = net(torch.from_numpy(x)).softmax(1).numpy()
    np.testing.assert_allclose(ours, values, rtol=1e-11)


def test_book_dropout_alone(monkeypatch):
    dropout = BookDropout(0.25)
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]], dtype=np.float32)
    asked = with_fixed_masks(monkeypatch, [mask])
    assert torch.equal(dropout.train()(values), values * torch.from_numpy(mask))
    assert asked == [((3, 4), 0.25)]
    assert torch.equal(dropout.eval()(values), values * 0.75)


def test_dropout_draws_anew_and_at_its_rate():
    dropout = BookDropout(0.25).train()
    ones = torch.ones(1000, 100)
    first, second = dropout(ones), dropout(ones)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(0.75, abs=0.01)


def test_torchs_dropout_is_the_default():
    net = built((12,), [{"dropout": 0.5}, {"softmax": {"dropout": 0.25}}])
    assert isinstance(net[0], torch.nn.Dropout)
    assert isinstance(net[1].dropout, torch.nn.Dropout)
    ones = torch.ones(1, 12, dtype=torch.float64)
    assert set(net[0].train()(ones).unique().tolist()) <= {0.0, 2.0}
    assert torch.equal(net[0].eval()(ones), ones)


# --- initial weights

LARGE = [
    conv_pool(64, "relu", kernel=5, pool=2),
    fully(300, "sigmoid"),
    fully(500, "tanh"),
    {"softmax": {}},
]
LARGE_SHAPE = (16, 20, 16)
FLAT = 64 * 8 * 6


def initial(init, network=LARGE, shape=LARGE_SHAPE):
    config = from_resolved({"network": network, "init": init})
    return build(config, shape, CLASSES)


def weight_of(module):
    return module.weight if hasattr(module, "weight") else module.linear.weight


def biases_of(module):
    return module.bias if hasattr(module, "weight") else module.linear.bias


def check_spread(values, std):
    """Mean 0 and deviation `std`, within five standard errors of a normal sample."""
    values = values.detach().flatten()
    error = 5 / math.sqrt(len(values))
    assert values.mean().item() == pytest.approx(0, abs=error * std)
    assert values.std().item() == pytest.approx(std, rel=error)


FANS_OUT = (64 * 25 / 4, 300, 500)
FANS_IN = (16 * 25, FLAT, 300)


@pytest.mark.parametrize(("init", "fans"), [("book", FANS_OUT), ("book_corrected", FANS_IN)])
def test_book(init, fans):
    *layers, softmax = initial(init)
    for module, fan in zip(layers, fans, strict=True):
        check_spread(weight_of(module), math.sqrt(1 / fan))
        check_spread(biases_of(module), 1.0)
    assert not weight_of(softmax).any()
    assert not biases_of(softmax).any()


def test_book_counts_the_outputs_of_a_convolution_after_pooling():
    unpooled, pooled = (initial("book", [conv_pool(64, "relu", 5, pool), "softmax"])[0] for pool in (1, 4))
    assert (pooled.weight.std() / unpooled.weight.std()).item() == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("he", lambda inputs, outputs: math.sqrt(2 / inputs)),
        ({"he": "uniform"}, lambda inputs, outputs: math.sqrt(2 / inputs)),
        ("glorot", lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))),
        ({"glorot": "normal"}, lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))),
        ("lecun", lambda inputs, outputs: math.sqrt(1 / inputs)),
        ({"normal": 0.125}, lambda inputs, outputs: 0.125),
    ],
)
def test_spreads(init, std):
    *layers, softmax = initial(init)
    for module, inputs, outputs in zip(layers, FANS_IN, FANS_OUT, strict=True):
        check_spread(weight_of(module), std(inputs, outputs))
        assert not biases_of(module).any()
    check_spread(weight_of(softmax), std(500, CLASSES))
    assert not biases_of(softmax).any()


@pytest.mark.parametrize("name", ["he", "glorot", "lecun"])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_distributions(name, kind):
    weight = weight_of(initial({name: kind})[1]).detach()
    largest = (weight.abs().max() / weight.std()).item()
    assert largest <= math.sqrt(3) * 1.01 if kind == "uniform" else largest > 3.5


def test_zeros():
    assert not any(p.any() for p in initial("zeros").parameters())


def test_orthogonal():
    for module in initial({"orthogonal": 2.0}):
        weight = weight_of(module).detach().double().flatten(1)
        square = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(square, 4 * torch.eye(len(square), dtype=torch.float64), rtol=0, atol=1e-4)
        assert not biases_of(module).any()


HALF_LINEAR = ["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "celu", "hardswish", "mish", "relu6"]


@pytest.mark.parametrize("activation", [*HALF_LINEAR, "sigmoid", "tanh", "linear", "softsign", "hardsigmoid"])
@pytest.mark.parametrize("make", ["fully_connected", "dense", "conv"])
def test_auto_goes_by_activation(activation, make):
    size = {"filters": 64, "kernel_size": 5} if make == "conv" else {"units": 700}
    network = ([] if make == "conv" else ["flatten"]) + [{make: {**size, "activation": activation}}, "softmax"]
    shape = (16, 9, 9) if make == "conv" else (400,)
    inputs, outputs = (16 * 25, 64 * 25) if make == "conv" else (400, 700)
    module = initial("auto", network, shape)[-2]
    weight = next(p for name, p in module.named_parameters() if name.endswith("weight"))
    he, glorot = math.sqrt(2 / inputs), math.sqrt(2 / (inputs + outputs))
    check_spread(weight, he if activation in HALF_LINEAR else glorot)


GROUPED = {"conv": {"filters": 128, "kernel_size": [3, 5], "groups": 4, "activation": "relu"}}
OBLONG = {"conv_pool": {"filters": 64, "kernel_size": [5, 3], "pool_size": [4, 2]}}
DEPTHWISE = {"depthwise_conv": {"kernel_size": 5, "activation": "relu"}}
PROJECTED = {"residual": {"layers": [{"conv": {"filters": 128, "kernel_size": 1}}], "activation": "relu"}}


@pytest.mark.parametrize(
    ("layer", "init", "fan"),
    [
        (GROUPED, {"glorot": "normal"}, (16 * 15 + 32 * 15) / 2),
        (GROUPED, "book", 32 * 15),
        (OBLONG, "book", 64 * 15 / 8),
        (OBLONG, "book_corrected", 64 * 15),
        (DEPTHWISE, "auto", 25 / 2),
        (DEPTHWISE, "book", 25),
        ({"depthwise_conv": {**DEPTHWISE["depthwise_conv"], "init": "lecun"}}, "zeros", 25),
        (PROJECTED, "auto", (64 + 128) / 2),
        (PROJECTED, "lecun", 64),
        (PROJECTED, "book", 128),
    ],
)
def test_fans_of_convolutions(layer, init, fan):
    module = initial(init, [layer, "softmax"], (64, 20, 20))[0]
    name = {"conv": "0.weight", "depthwise_conv": "0.weight", "residual": "shortcut.weight"}.get(next(iter(layer)))
    check_spread(dict(module.named_parameters())[name or "weight"], math.sqrt(1 / fan))


def test_auto_for_softmax_is_glorot():
    network = ["softmax"]
    check_spread(weight_of(initial("auto", network, (64, 20, 20))[0]), math.sqrt(2 / (64 * 400 + CLASSES)))


def test_a_layers_own_init_comes_first():
    network = ["flatten", {"dense": {"units": 300, "init": "zeros"}}, {"dense": {"units": 300}}, "softmax"]
    _, first, second, _ = initial({"normal": 0.5}, network, (200,))
    assert not first.weight.any()
    check_spread(second.weight, 0.5)


def test_he_keeps_the_signal_through_relus():
    """Why He: the mean square after many ReLU layers stays what it was; with half the variance it is gone."""
    network = [{"dense": {"units": 400, "activation": "relu"}}] * 20 + ["softmax"]
    x = torch.randn(200, 400, generator=torch.Generator().manual_seed(0))

    def gain(init):
        values = x
        with torch.no_grad():
            for module in initial(init, network, (400,))[:-1]:
                values = module(values)
        return (values.square().mean() / x.square().mean()).item()

    assert 0.2 < gain("he") < 5
    assert gain("lecun") < 1e-4


def test_names_of_layers_are_theirs():
    names = [name for name, _ in initial("book").named_children()]
    assert names == ["0_conv_pool", "1_fully_connected", "2_fully_connected", "3_softmax"]
