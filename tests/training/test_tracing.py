"""A traced step is the plain one to the bit; what isn't the same in every step is carried out plainly."""

import copy
import gc
import math
from unittest import mock

import pytest
import torch
from test_engine import OPTIMIZERS, assert_same, step_of
from test_step import CPU, SHAPE
from torch import nn

from cnntrain import registry
from cnntrain.data.augment.colour import brightness
from cnntrain.data.augment.elastic import elastic
from cnntrain.data.augment.geometry import affine, erase, flip, resized_crop, shift
from cnntrain.data.batches import Resident
from cnntrain.data.constant import constant
from cnntrain.training import engine as engines
from cnntrain.training.engine import Engine, Traced, choose
from cnntrain.training.step import Step, Totals, updates_of
from cnntrain.training.tracing import MARK, Tracer, program

FACTORS = [1.0, 0.7, 0.7, 1.0, 0.3, 0.9]
BATCHES = torch.arange(48).split(8)


def train(engine, batches=BATCHES, factors=FACTORS, first=True):
    """What `loop` does with an engine: the first step keeps its gradients."""
    totals = Totals.zero(CPU)
    torch.manual_seed(1)
    for number, (indices, factor) in enumerate(zip(batches, factors, strict=True)):
        engine.run([indices], [factor], totals, keeps_gradients=first and number == 0)
    return totals, torch.get_rng_state()


def assert_same_training(traced, plain, **options):
    (totals, random), (their_totals, their_random) = train(traced, **options), train(plain, **options)
    assert_same(traced.step, plain.step)
    assert torch.equal(totals.loss, their_totals.loss)
    assert torch.equal(totals.correct, their_totals.correct)
    assert torch.equal(random, their_random)


def pair(optimizer="sgd", augmentations=(), **changes):
    """A traced engine and a plain one on equal steps."""
    engines = []
    for kind in (Traced, Engine):
        torch.manual_seed(0)
        made = step_of(optimizer)
        clip_grad_norm, precision = changes.get("clip_grad_norm"), changes.get("precision", torch.float32)
        settings = (10, augmentations, 0.1, clip_grad_norm)
        step = Step(made.network, made.optimizer, made.images, *settings, precision=precision)
        if changes.get("within_backward"):
            step.updates.update(updates_of(step))
        engines.append(kind(step))
    return engines


@pytest.mark.parametrize("clip_grad_norm", [None, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_is_the_plain_step_to_the_bit(optimizer, clip_grad_norm):
    traced, plain = pair(optimizer, clip_grad_norm=clip_grad_norm)
    assert_same_training(traced, plain)
    # torch's RMSprop reads its learning rate on the host.
    assert (traced._program is None) == (optimizer == "rmsprop")
    assert [group["lr"] for group in traced._groups] == [group["lr"] for group in plain.step.optimizer.param_groups]
    assert all(type(group["lr"]) is float for group in traced._groups)


def test_updates_within_the_backward_pass_are_a_part_of_it():
    traced, plain = pair(within_backward=True)
    assert len(traced.step.updates) == 3
    assert_same_training(traced, plain)
    assert traced._program


def test_half_precision_is_traced_too():
    traced, plain = pair(precision=torch.bfloat16)
    assert_same_training(traced, plain)
    assert traced._program


def test_augmentations_are_drawn_anew():
    augmentations = [
        shift(2),
        flip(),
        affine(10.0, 5.0, 1.0, 0.1),
        resized_crop(),
        elastic(),
        erase(3, 0.5),
        brightness(),
    ]
    traced, plain = pair(augmentations=augmentations)
    assert_same_training(traced, plain)
    assert traced._program


def test_gradients_are_those_of_a_step_that_keeps_them():
    traced, plain = pair()
    for engine in (traced, plain):
        train(engine)
        engine.run([torch.arange(48, 56)], [1.0], Totals.zero(CPU), keeps_gradients=True)
    assert traced._program
    gradients, theirs = (
        [parameter.grad for parameter in engine.step.network.parameters()] for engine in (traced, plain)
    )
    assert all(map(torch.equal, gradients, theirs))
    assert_same(traced.step, plain.step)


@pytest.mark.parametrize("augmentations", [(), (shift(2), flip())])
@pytest.mark.parametrize("within_backward", [False, True])
def test_a_few_steps_at_once_are_the_same_to_the_bit(augmentations, within_backward):
    traced, plain = pair(augmentations=augmentations, within_backward=within_backward)
    assert_same_training(traced, plain)
    results = []
    for engine, count in ((traced, 4), (plain, 1)):
        totals = Totals.zero(CPU)
        torch.manual_seed(2)
        for start in range(0, 12, count):
            batches = torch.arange(96).split(8)[start : start + count]
            engine.run(batches, [1 / (start + number + 1) for number in range(count)], totals, keeps_gradients=False)
        results.append((totals.loss, totals.correct, torch.get_rng_state()))
    assert all(map(torch.equal, *results))
    assert_same(traced.step, plain.step)
    assert [group["lr"] for group in traced._groups] == [group["lr"] for group in plain.step.optimizer.param_groups]


def test_images_of_a_few_steps_are_gathered_at_once():
    traced, _ = pair()
    train(traced)
    with mock.patch.object(Resident, "gather", autospec=True, side_effect=Resident.gather) as gather:
        traced.run(torch.arange(24).split(8), [1.0] * 3, Totals.zero(CPU), keeps_gradients=False)
    assert [len(call.args[1]) for call in gather.call_args_list] == [24]


def test_how_many_steps_are_taken_at_once(monkeypatch):
    traced, _ = pair()
    # Nothing is known of them.
    assert traced.at_once(9, 5000, 5000) == 1
    train(traced)
    assert [traced.at_once(9, left, 5000) for left in (5000, 11, 10, 3, 2, 1)] == [10, 10, 9, 2, 1, 1]
    # The very first step of a run that is rolled back, and few batches in an epoch.
    assert traced.at_once(0, 5000, 5000) == 1
    assert [traced.at_once(9, 50, whole) for whole in (1000, 999, 200, 199)] == [10, 9, 2, 1]
    # As many values as 7 batches, and less than one has.
    for values, few in ((7 * 8 * math.prod(SHAPE), 7), (8 * math.prod(SHAPE) - 1, 1)):
        monkeypatch.setattr(engines, "CPU_VALUES", values)
        assert traced.at_once(9, 5000, 5000) == few
    monkeypatch.undo()
    # Batches that would not all begin at a line of the cache.
    monkeypatch.setattr(engines, "CACHE_LINE", 5)
    assert traced.at_once(9, 5000, 5000) == 1


def test_another_batch_size_is_trained_plainly():
    traced, plain = pair()
    sizes = [8, 8, 4, 8, 4, 4, 8, 4]
    batches = torch.arange(sum(sizes)).split(sizes)
    assert_same_training(traced, plain, batches=batches, factors=[1.0] * len(sizes))
    assert traced._program


def test_a_run_that_goes_on_with_a_smaller_last_batch_is_traced_after_it():
    traced, plain = pair()
    sizes = [4, 8, 8, 8, 8]
    assert_same_training(traced, plain, batches=torch.arange(sum(sizes)).split(sizes), factors=[1.0] * len(sizes))
    assert traced._program


def test_a_run_that_goes_on_is_traced_from_its_second_step_on():
    # Constants are sent to the device in a first step.
    constant.cache_clear()
    traced, plain = pair()
    assert_same_training(traced, plain, first=False)
    assert traced._program


def test_a_restored_state_is_worked_on():
    traced, plain = pair("adam")
    train(traced), train(plain)
    states = []
    for engine in (traced, plain):
        states.append(copy.deepcopy((engine.step.network.state_dict(), engine.step.optimizer.state_dict())))
    train(traced, first=False), train(plain, first=False)
    for engine, (weights, moments) in zip((traced, plain), states, strict=True):
        engine.step.network.load_state_dict(weights)
        engine.step.optimizer.load_state_dict(moments)
    assert_same_training(traced, plain, first=False)
    assert traced._program


class Counting(nn.Module):
    """Scales by how often it was called."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, values):
        self.count += 1
        return values * self.count


class Deciding(nn.Module):
    """Reads a value to decide what to do."""

    def forward(self, values):
        return values * 2 if values.sum().item() > 0 else values


class Picking(nn.Module):
    """Works on as many values as are positive."""

    def forward(self, values):
        return values * len(values[values > 0]) / 100


class Renewing(nn.Module):
    """Multiplies by a tensor of its own for each step."""

    def forward(self, values):
        return values * torch.tensor([float(len(values))])


class Turning(nn.Module):
    """Scales by one of its own values, and later by another."""

    def __init__(self):
        super().__init__()
        self.scales = nn.Parameter(torch.arange(1.0, 5.0))
        self.count = 0

    def forward(self, values):
        self.count += 1
        # Between changes it is the same a few times.
        return values * self.scales[(0, 0, 1, 1, 1, 2)[self.count - 1]].detach()


@pytest.mark.parametrize("layer", [Counting, Deciding, Picking, Renewing, Turning])
def test_what_differs_from_step_to_step_is_not_traced(layer):
    traced, plain = pair()
    for engine in (traced, plain):
        engine.step.network.add_module("layer", layer())
    assert_same_training(traced, plain)
    assert traced._has_failed
    assert traced._program is None


READING = {
    "item": lambda values: values.sum().item(),
    "equal": lambda values: torch.equal(values, values + 1),
    "mask": lambda values: values[values > 0],
    "masked_select": lambda values: values.masked_select(values > 0),
    "nonzero": lambda values: values.nonzero(),
    "unique": lambda values: values.unique(),
}
NOT_READING = {
    "rows": lambda values: values[torch.tensor([2, 0])],
    "columns": lambda values: values[:, torch.tensor([1], dtype=torch.int32)],
    "where": lambda values: values.where(values > 0, 0.0),
}


@pytest.mark.parametrize(
    ("name", "is_foreseeable"), [*dict.fromkeys(READING, False).items(), *dict.fromkeys(NOT_READING, True).items()]
)
def test_what_python_or_a_shape_learns_of_values_can_not_be_foreseen(name, is_foreseeable):
    values = torch.arange(-4.0, 8.0).view(4, 3)
    with Tracer([values]) as tracer:
        # Later operations do not make up for it.
        (READING | NOT_READING)[name](values)
        values + 1
    assert tracer.trace.is_foreseeable is is_foreseeable


def test_with_a_plugin_steps_are_plain(monkeypatch):
    step = step_of()
    assert type(choose("auto", step, CPU)) is Traced
    assert type(choose("eager", step, CPU)) is Engine
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    registry.layers.register("counting")(lambda given, /: Counting())
    assert type(choose("auto", step, CPU)) is Engine
    assert choose("auto", step, torch.device("cuda")).remark == (
        "plain steps, no CUDA graph: a plugin may not do the same in every step; "
        "if it does, set `training.engine: graph`"
    )


@pytest.mark.parametrize("part", ["images", "optimizer"])
def test_what_is_new_in_every_step_is_not_even_tried(part, monkeypatch):
    step = step_of("rmsprop" if part == "optimizer" else "sgd")
    monkeypatch.setattr(Resident, "is_streamed", part == "images")
    assert type(choose("auto", step, CPU)) is Engine
    obstacle = "plain steps, no CUDA graph: the images are streamed from a disk, which the host reads"
    assert choose("auto", step, torch.device("cuda")).remark == (obstacle if part == "images" else "")


def test_nothing_stays_on_a_tensor():
    weight = nn.Parameter(torch.ones(3))
    kept = []
    with Tracer([]) as tracer:
        kept.append(weight * 2)
        kept[0].sum().backward()
    assert tracer.trace.each[0].outputs == "value0"
    assert not any(hasattr(tensor, MARK) for tensor in (weight, weight.grad, *kept))


def test_values_are_let_go_after_their_last_use():
    def tensors():
        return sum(type(thing) is torch.Tensor and thing.shape == (7, 3) for thing in gc.get_objects())

    given, seen = torch.ones(7, 3), []
    before = tensors()
    with Tracer([given]) as tracer:
        value = given + 1
        # Of which nobody makes any use.
        given + 2
        value = value + 1
        value = value + 1
        tracer.as_one(lambda last: seen.append((last.sum().item(), tensors() - before)))(value)
    del value
    program(tracer.trace)(given)
    assert seen[1] == (84.0, 1)


@pytest.mark.parametrize("size", [6, 3, 2])
def test_an_operation_may_give_any_number_of_tensors(size):
    given, results = torch.arange(6.0), []
    with Tracer([given]) as tracer:
        tracer.as_one(lambda last: results.append(last.tolist()))((given + 0).split(size)[-1] * 2)
    program(tracer.trace)(given + 1)
    assert results == [[2.0 * value for value in range(6)][-size:], [2.0 * value for value in range(1, 7)][-size:]]


def test_views_of_constants_are_made_once_and_those_of_inputs_each_time():
    weight, values = torch.arange(6.0), torch.ones(12)
    results = []
    with Tracer([values]) as tracer:
        tracer.as_one(lambda product: results.append(product.clone()))(values.view(4, 3) @ weight.view(2, 3).t())
    assert [call.function for call in tracer.trace.once] == [torch.ops.aten.view.default, torch.ops.aten.t.default]
    run = program(tracer.trace)
    weight.zero_().add_(1)
    run(values * 2)
    assert torch.equal(results[1], torch.full((4, 2), 6.0))
