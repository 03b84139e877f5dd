"""The fast step does what the plain one does."""

import copy
import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

import cnntrain.app.configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.load import from_resolved
from cnntrain.data.batches import Resident
from cnntrain.data.images import Images
from cnntrain.data.preprocess import Preprocessing, channels_last
from cnntrain.network.build import build
from cnntrain.network.modules import ConvPool, Dropout, Flatten, Linear, keep_mask
from cnntrain.training.engine import choose
from cnntrain.training.optimizers import Trainable, sgd
from cnntrain.training.step import Step, Totals, learning_at

CPU = torch.device("cpu")
SHAPE = (1, 12, 12)
NETWORK = [
    {"conv_pool": {"filters": 4, "kernel_size": 3, "activation": "relu"}},
    {"residual": {"layers": [{"conv": {"filters": 6, "padding": "same"}}, "batch_norm"]}},
    "flatten",
    {"residual": {"layers": [{"dense": {"units": 7, "activation": "tanh"}}]}},
    {"dense": {"units": 9, "bias": False}},
    "softmax",
]


def resident(count=64):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *SHAPE), generator=random, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=random)
    images = Images(pixels.numpy(), labels.numpy())
    return Resident.of(images, Preprocessing.of(images, normalize=True), CPU)


def step_of(clip_grad_norm=None, **settings):
    network = build(from_resolved({"network": NETWORK}), SHAPE, 10).train()
    optimizer = sgd(Trainable(network, 0.01), 0.1, **settings)
    return choose("auto", Step(network, optimizer, resident(), 10, [], 0.0, clip_grad_norm), CPU).step


def trained(step, steps=5, **options):
    totals = Totals.zero(CPU)
    for indices in torch.arange(64).split(8)[:steps]:
        step(indices, totals, **options)
    return step.network.state_dict(), totals


def test_updates_within_the_backward_pass_are_torchs():
    (ours, fused), (theirs, plain) = trained(step_of()), trained(step_of(), keeps_gradients=True)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)
    # Each step's loss is float32, of which float64 only keeps the sum.
    torch.testing.assert_close(fused.loss.float(), plain.loss.float())
    assert torch.equal(fused.correct, plain.correct)
    # Totals that held on to their steps would fill the memory.
    assert not fused.loss.requires_grad and not plain.loss.requires_grad


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_updates_equal_a_plain_loop(smoothing):
    # The order of augmentations matters.
    augmentations = [lambda images: images.double() * 0.5, lambda images: images + 0.125]
    step = replace(step_of(), label_smoothing=smoothing, augmentations=augmentations)
    # What float32 rounds depends on the processor.
    step.network.double()
    network = copy.deepcopy(step.network)
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in network.parameters() if p.dim() > 1], "weight_decay": 0.01},
            {"params": [p for p in network.parameters() if p.dim() <= 1]},
        ],
        lr=0.1,
    )
    for indices in torch.arange(64).split(8)[:5]:
        images, labels = step.images.gather(indices)
        optimizer.zero_grad()
        logs = network(step.images.preprocessing.normalize(images.double() * 0.5 + 0.125)).log_softmax(1)
        aims = functional.one_hot(labels, 10) * (1 - smoothing) + smoothing / 10
        (-(aims * logs).sum() / len(labels)).backward()
        optimizer.step()
    for name, value in trained(step)[0].items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-5, atol=1e-6)


def gradients_of_linears(step):
    return [module.weight.grad for module in step.network.modules() if isinstance(module, Linear)]


def test_gradients_are_there_when_they_are_asked_for():
    step = step_of()
    trained(step, 1)
    assert all(gradient is None for gradient in gradients_of_linears(step))
    assert len(gradients_of_linears(step)) == 3
    trained(step, 1, keeps_gradients=True)
    assert all(parameter.grad is not None for parameter in step.network.parameters())


@pytest.mark.parametrize("settings", [{"clip_grad_norm": 1.0}, {"momentum": 0.9}])
def test_gradients_stay_where_somebody_needs_them(settings):
    step = step_of(**settings)
    trained(step, 1)
    assert all(gradient is not None for gradient in gradients_of_linears(step))


def test_a_step_that_fails_leaves_layers_and_rates_as_they_were():
    step = step_of()
    rates = [group["lr"] for group in step.optimizer.param_groups]
    step.network.register_forward_hook(lambda *call: 1 / 0)
    with pytest.raises(ZeroDivisionError), learning_at(step, [torch.tensor(0.5) for _ in rates]):
        trained(step, 1)
    assert step.updates and all(layer.update is None for layer in step.updates)
    assert [group["lr"] for group in step.optimizer.param_groups] == rates


def test_a_restored_state_is_learned_from_at_its_own_rate():
    step = step_of()
    trained(step, 1)
    step.optimizer.load_state_dict(step.optimizer.state_dict())
    for group in step.optimizer.param_groups:
        group["lr"] = 0.0
        group["weight_decay"] = 0.0
    before = copy.deepcopy(dict(step.network.named_parameters()))
    trained(step, 1)
    assert all(torch.equal(value, before[name]) for name, value in step.network.named_parameters())


def test_nothing_is_updated_outside_of_a_step():
    step = step_of()
    trained(step, 1)
    before = copy.deepcopy(step.network.state_dict())
    step.network(channels_last(torch.randn(3, *SHAPE))).sum().backward()
    step.network.load_state_dict({**step.network.state_dict(), **_statistics(before)})
    assert all(torch.equal(value, before[name]) for name, value in step.network.state_dict().items())


def _statistics(state):
    return {name: value for name, value in state.items() if "running" in name or "num_batches" in name}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_layout_makes_convolutions_and_pooling_stay_in_it(channels):
    images = torch.randn(4, channels, 12, 12)
    laid = channels_last(images)
    assert torch.equal(laid, images)
    convolved = functional.conv2d(laid, torch.randn(5, channels, 3, 3))
    assert convolved.is_contiguous(memory_format=torch.channels_last)
    assert not functional.conv2d(images, torch.randn(5, channels, 3, 3)).is_contiguous(
        memory_format=torch.channels_last
    )


def test_flatten_gives_its_gradient_the_layout_of_images():
    images = torch.randn(4, 3, 5, 6).to(memory_format=torch.channels_last).requires_grad_()
    seen = []
    product = images * 1
    product.register_hook(seen.append)
    flat = Flatten()(product)
    assert torch.equal(flat, images.flatten(1))
    weights = torch.randn(flat.shape)
    (flat * weights).sum().backward()
    assert torch.equal(images.grad.flatten(1), weights)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.0001, 0.1, 0.25, 0.5, 0.999, 0.99999])
def test_masks_drop_at_their_rate(p):
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(1000, 1001), p)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    # Within four deviations of a fraction of a million draws.
    assert 1 - mask.mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / 1e6) ** 0.5)
    # Values that share a draw of 64 bits are independent.
    apart = mask.flatten()[: 1000 * 1000].view(-1, 4)
    assert torch.corrcoef(apart.t()).fill_diagonal_(0).abs().max() < 0.01


def test_a_rate_of_0_drops_nothing():
    torch.manual_seed(0)
    assert keep_mask(torch.empty(1000, 1000), 0.0).all()


def test_a_rate_near_1_does_not_wrap_around():
    assert keep_mask(torch.empty(10_000), 1 - 1e-9).mean().item() < 0.01


@pytest.mark.parametrize("p", [1e-6, 0.99999])
def test_rates_that_2_to_the_minus_16_is_much_beside(p):
    torch.manual_seed(0)
    dropped = Dropout(p).train()(torch.ones(2000, 4000))
    spread = (p / (1 - p) / dropped.numel()) ** 0.5
    assert dropped.mean(dtype=torch.float64).item() == pytest.approx(1, abs=4 * spread)
    assert (dropped == 0).any()


def test_the_sum_of_many_equal_losses_is_exact():
    totals, losses = Totals.zero(CPU), torch.full((20_000,), 2.302585)
    totals.add(losses, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert totals.loss.item() == pytest.approx(20_000 * losses[0].item(), rel=1e-12)


def outputs_of(step):
    """The types of what the layers give in a step, and its loss."""
    types = set()
    hooks = [layer.register_forward_hook(lambda *call: types.add(call[2].dtype)) for layer in step.network[:-1]]
    totals = trained(step, 1, keeps_gradients=True)[1]
    for hook in hooks:
        hook.remove()
    return types, totals.loss


def test_layers_compute_in_the_precision_asked_for():
    plain = step_of()
    half = replace(copy.deepcopy(plain), precision=torch.bfloat16)
    (types, loss), (their_types, their_loss) = outputs_of(half), outputs_of(plain)
    assert torch.bfloat16 in types
    assert their_types == {torch.float32}
    assert 0 < abs(loss / their_loss - 1) < 0.01
    assert {parameter.grad.dtype for parameter in half.network.parameters()} == {torch.float32}
    images, labels = half.gather(torch.arange(8))
    logits = half.learn(images, half.minus_targets(labels, 8), keeps_gradients=True)
    assert logits.dtype == half.loss_sums(logits, labels).dtype == torch.float32


def test_half_precision_updates_no_layer_early():
    step = replace(step_of(), updates={}, precision=torch.bfloat16)
    assert not choose("auto", step, CPU).step.updates
    assert choose("auto", replace(step, precision=torch.float32), CPU).step.updates


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    dropped = Dropout(0.25).train()(torch.ones(1000, 100))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)


TENSORS = "def step(): return [torch.ones(12 << 20) for _ in range(5)]\n"
# With nothing above them, which would keep them from being given back.
BLOCKS = """
library, size = ctypes.CDLL(None), 48 << 20
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def step():
    blocks = [library.malloc(size) for _ in range(5)]
    for block in blocks: library.memset(block, 1, size)
    for block in blocks: library.free(block)
"""


@pytest.mark.parametrize("step", [TENSORS, BLOCKS], ids=["tensors", "blocks at the end of the heap"])
def test_memory_is_kept_between_steps(step):
    code = (
        "import ctypes, resource, torch\n"
        "from cnntrain.training.memory import keep_freed_memory\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        f"{step}"
        "if {kept}: keep_freed_memory()\n"
        "for _ in range(10): step()\n"
        "before = faults()\n"
        "for _ in range(5): step()\n"
        "print(faults() - before)\n"
    )
    # glibc gives back what is freed from this size on; left alone it raises the size by what it meets, to 32 MiB.
    environment = os.environ | {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={1 << 17}"}
    kept_, given_back = (
        int(subprocess.check_output([sys.executable, "-c", code.format(kept=kept)], env=environment))
        for kept in (True, False)
    )
    assert kept_ < 1000
    if platform.libc_ver()[0] == "glibc":
        assert given_back > 10 * kept_


def test_a_pooled_convolution_stays_in_the_precision_asked_for():
    layer = ConvPool(1, 4, (5, 5), (2, 2), "relu")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer.weight.normal_()
        layer.bias.zero_()
        assert layer(torch.rand(2, 1, 28, 28)).dtype == torch.bfloat16
    assert layer(torch.rand(2, 1, 28, 28)).dtype == torch.float32
