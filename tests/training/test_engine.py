"""Engines: many steps as one block are the same steps; what can't be had is said, and done plainly."""

import copy
import math
from dataclasses import replace
from functools import partial
from unittest import mock

import pytest
import torch
from test_resume import InterruptAt
from test_step import CPU, NETWORK, SHAPE, resident

from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved
from cnntrain.data.batches import Resident
from cnntrain.errors import Interrupted
from cnntrain.network.build import build
from cnntrain.run import checkpoint
from cnntrain.training import engine as engines
from cnntrain.training import recording as recordings
from cnntrain.training.engine import GPU_STEPS, Engine, Graph, Traced, choose
from cnntrain.training.optimizers import Trainable, adam, adamw, rmsprop, sgd
from cnntrain.training.recording import run_block, undone
from cnntrain.training.step import Step, Totals
from tests.faults.cases import assert_same_runs

# Powers of two, so that float32 on the device holds them as exactly as Python does.
RATES = [2.0**-6, 2.0**-7, 2.0**-5, 2.0**-6]
OPTIMIZERS = {
    "sgd": lambda t: sgd(t, RATES[0]),
    "momentum": lambda t: sgd(t, RATES[0], 0.9, True, 0.01),
    "adam": lambda t: adam(t, RATES[0]),
    "adamw": lambda t: adamw(t, RATES[0]),
    "rmsprop": lambda t: rmsprop(t, RATES[0], momentum=0.5),
}


def step_of(optimizer="sgd", device=CPU, dropout=0.5, l2=0.01, clip_grad_norm=1.0):
    network = build(from_resolved({"network": [*NETWORK[:-1], {"softmax": {"dropout": dropout}}]}), SHAPE, 10)
    network.to(device).train()
    made = OPTIMIZERS[optimizer](Trainable(network, 0.0 if optimizer == "adamw" else l2))
    for group in made.param_groups:
        group["initial_lr"] = group["lr"]
    images = resident(256)
    images = type(images)(images.pixels.to(device), images.labels.to(device), images.preprocessing)
    return Step(network, made, images, 10, [], 0.0, clip_grad_norm)


def descent(device=CPU, dropout=0.0):
    """Plain SGD, whose linear layers subtract their gradients as they are made, where steps are recorded."""
    return step_of("sgd", device, dropout, l2=0.0, clip_grad_norm=None)


def assert_close(one, other, rtol, atol):
    for ours, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def assert_same(one, other, equal=torch.equal):
    states = [(step.network.state_dict(), step.optimizer.state_dict()["state"]) for step in (one, other)]
    (weights, moments), (their_weights, their_moments) = states
    assert all(equal(value, their_weights[name]) for name, value in weights.items())
    for key, state in moments.items():
        for name, value in state.items():
            assert not isinstance(value, torch.Tensor) or equal(value, their_moments[key][name]), name


def addresses(step):
    states = step.optimizer.state.values()
    tensors = [*step.network.parameters(), *(value for state in states for value in state.values())]
    return [tensor.data_ptr() for tensor in tensors]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("gathered", [1, 3, 4])
def test_a_block_is_the_same_steps_to_the_bit(monkeypatch, optimizer, gathered):
    monkeypatch.setattr(recordings, "GATHERED", gathered * 8 * math.prod(SHAPE))
    block, plain = step_of(optimizer), step_of(optimizer)
    totals, their_totals = Totals.zero(CPU), Totals.zero(CPU)
    batches = torch.arange(32).view(4, 8)
    torch.manual_seed(5)
    run_block(block, batches, torch.tensor([[rate] * len(block.optimizer.param_groups) for rate in RATES]), totals)
    torch.manual_seed(5)
    factors = [rate / RATES[0] for rate in RATES]
    Engine(plain).run(batches.unbind(), factors, their_totals, keeps_gradients=True)
    assert_same(block, plain)
    assert torch.equal(totals.loss, their_totals.loss)
    assert torch.equal(totals.correct, their_totals.correct)
    assert {group["lr"] for group in block.optimizer.param_groups} == {RATES[0]}


@pytest.mark.parametrize(("steps", "sizes"), [(50, [32]), (3, [24, 8]), (0.5, [8, 8, 8, 8])])
def test_images_of_a_block_are_gathered_at_once_unless_they_are_large(monkeypatch, steps, sizes):
    monkeypatch.setattr(recordings, "GATHERED", int(steps * 8 * math.prod(SHAPE)))
    step = step_of()
    rates = torch.full((4, len(step.optimizer.param_groups)), RATES[0])
    with mock.patch.object(Resident, "gather", autospec=True, side_effect=Resident.gather) as gather:
        run_block(step, torch.arange(32).view(4, 8), rates, Totals.zero(CPU))
    assert [len(call.args[1]) for call in gather.call_args_list] == sizes


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rehearsal_leaves_no_trace(optimizer):
    step = step_of(optimizer)
    run = Engine(step).run
    run([torch.arange(8)], [1.0], Totals.zero(CPU), keeps_gradients=True)
    before, random, places = copy.deepcopy(step), torch.get_rng_state(), addresses(step)
    with undone(step):
        run([torch.arange(8), torch.arange(8, 16)], [1.0, 1.0], Totals.zero(CPU), keeps_gradients=True)
        assert not torch.equal(torch.get_rng_state(), random)
    assert torch.equal(torch.get_rng_state(), random)
    assert_same(step, before)
    assert addresses(step) == places


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_rehearsal_before_the_first_step_leaves_no_state(optimizer):
    step = step_of(optimizer)
    with undone(step):
        Engine(step).run([torch.arange(8)], [1.0], Totals.zero(CPU), keeps_gradients=True)
        assert step.optimizer.state
    assert not step.optimizer.state


def test_how_many_steps_a_graph_takes():
    graph = Graph(step_of("adam"))
    # One by one: the very first, those that fill no block, and the last of an epoch.
    assert graph.at_once(0, 500, 500) == 1
    assert [graph.at_once(9, left, 503) for left in (503, GPU_STEPS + 1, GPU_STEPS, 2, 1)] == [
        GPU_STEPS,
        GPU_STEPS,
        1,
        1,
        1,
    ]
    assert all(group["capturable"] for group in graph.step.optimizer.param_groups)


@pytest.mark.parametrize(
    ("whole", "first", "later"),
    # In blocks of 49, 50, 43, 48, 47, 39, 1, 1.
    [(5000, 104, 104), (503, 13, 13), (391, 13, 13), (98, 4, 4), (49, 3, 3), (81, 5, 5), (2, 2, 2), (1, 1, 1)],
)
def test_few_steps_of_an_epoch_are_launched_alone(whole, first, later):
    graph = Graph(step_of())

    def launches(number):
        left, count = whole, 0
        while left:
            done = graph.at_once(number, left, whole)
            number, left, count = number + done, left - done, count + 1
        return count

    assert (launches(0), launches(whole)) == (first, later)


def test_what_can_not_be_recorded_is_trained_in_plain_steps():
    graph, plain = Graph(step_of(dropout=0.0)), step_of(dropout=0.0)
    batches, factors = torch.arange(24).view(3, 8).unbind(), [1.0, 0.5, 0.25]
    graph.run(batches, factors, Totals.zero(CPU), keeps_gradients=False)
    assert graph.remark.startswith("training goes on in plain steps, without a CUDA graph: ")
    assert graph.at_once(9, 500, 500) == 1
    Engine(plain).run(batches, factors, Totals.zero(CPU), keeps_gradients=False)
    assert_same(graph.step, plain)


def test_the_fastest_on_a_cpu_is_one_by_one():
    assert type(choose("auto", step_of(), CPU)) is Traced
    assert choose("auto", step_of(), CPU).remark == ""


def test_a_gpu_is_told_why_it_gets_no_graph():
    step = step_of()
    step = Step(step.network, torch.optim.Adagrad(step.network.parameters()), step.images, 10, [], 0.0, None)
    chosen = choose("auto", step, torch.device("cuda"))
    assert type(chosen) is Engine
    assert chosen.remark == "plain steps, no CUDA graph: Adagrad is not known to work in one"
    assert choose("eager", step, torch.device("cuda")).remark == ""
    assert type(choose("auto", step_of(), torch.device("cuda"))) is Graph
    assert type(choose("eager", step_of(), torch.device("cuda"))) is Engine


def test_ranks_take_plain_steps_and_update_nothing_before_gradients_are_summed(request):
    step, gpu = replace(step_of(), clip_grad_norm=None), torch.device("cuda")
    assert choose("auto", step, CPU).step.updates
    request.getfixturevalue("group_of_one")
    for name in ("auto", "eager"):
        chosen = choose(name, step, CPU)
        assert (type(chosen), chosen.step.updates, chosen.remark) == (Engine, {}, "")
    assert choose("auto", step, gpu).remark == "plain steps, no CUDA graph: several processes train together"
    with pytest.raises(ValueError, match="^`graph` can't be used: several processes train together; use `auto`"):
        choose("graph", step, gpu)


def test_a_graph_on_a_cpu_is_refused_at_its_place(cnntrain, tiny):
    outcome = cnntrain("train", tiny, "training.engine=graph", "--device", "cpu", "--run-dir", tiny.parent / "run")
    assert outcome.code == 2
    assert (
        "`graph` can't be used: a CUDA graph needs a GPU with CUDA, and this run is on cpu; use `auto`" in outcome.err
    )
    assert not (tiny.parent / "run").exists()


def test_a_network_that_can_not_be_compiled_is_trained_as_it_is(monkeypatch, tiny, tmp_path):
    def fails(network, dynamic):
        return lambda images: fail(network(images))

    def fail(_):
        raise RuntimeError("no compiler here\nand more")

    class Heard(Silent):
        lines = []

        def say(self, line):
            self.lines.append(line)

    monkeypatch.setattr(engines.torch, "compile", fails)
    train_run(load_config(tiny, ["training.engine=compiled"]), tmp_path / "compiled", Where(), Heard())
    assert Heard.lines.count("training goes on without compilation: no compiler here") == 1
    assert Heard.lines.count("torch compiles the network before the first step, which takes a while") == 1
    train_run(load_config(tiny), tmp_path / "plain", Where())
    one, other = (checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("compiled", "plain"))
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def test_what_is_streamed_can_be_compiled(monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(engines.torch, "compile", lambda network, dynamic: network)
    for name in ("compiled", "eager"):
        config = load_config(tiny, [f"training.engine={name}", "data.memory_budget=1"])
        train_run(config, tmp_path / name, Where())
    one, other = (checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("compiled", "eager"))
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


# What torch does, and warns of, where it compiles a function with a backward pass of its own.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_full_batches_are_compiled_for_their_size(monkeypatch):
    run = []

    def backend(graph, inputs):
        sizes = [value for value in inputs if not isinstance(value, torch.Tensor)]
        return lambda *values: run.append(sizes) or graph(*values)

    monkeypatch.setattr(engines.torch, "compile", partial(torch.compile, backend=backend))
    engine = choose("compiled", step_of(), CPU)
    for size in (8, 5, 8, 5, 8):
        engine.run([torch.arange(size)], [1.0], Totals.zero(CPU), keeps_gradients=True)
    assert "without" not in engine.remark
    # A batch's size is no input to what was compiled.
    assert run and not any(run)


def test_what_was_compiled_is_what_is_trained(monkeypatch):
    sizes = []

    def compiled(network, dynamic):
        return lambda images: sizes.append(len(images)) or network(images)

    monkeypatch.setattr(engines.torch, "compile", compiled)
    engine = choose("compiled", replace(step_of(), clip_grad_norm=None), CPU)
    for size in (8, 8, 5):
        engine.run([torch.arange(size)], [1.0], Totals.zero(CPU), keeps_gradients=True)
    # The first is the rehearsal's.
    assert sizes == [8, 8, 8, 5]


# --- on a GPU


@pytest.fixture
def exact_sums():
    """Convolutions in whole float32, summed in one order: a graph and plain steps differ by no rounding that grows."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def losses(engine, count, device, start=0):
    """The loss of each block of steps that are taken at once, and of each single step."""
    batches = torch.arange(256, device=device).repeat(40).split(8)
    found, done = [], start
    while done < count:
        totals = Totals.zero(device)
        taken = engine.at_once(done, count - done, count)
        engine.run(batches[done : done + taken], [1.0] * taken, totals, keeps_gradients=done in (0, count - 1))
        done += taken
        found.append((done, totals.loss.item() / (8 * taken)))
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_learns_what_plain_steps_learn(exact_sums, optimizer):
    device = torch.device("cuda")
    graph, plain = Graph(step_of(optimizer, device, 0.0)), Engine(step_of(optimizer, device, 0.0))
    count = 2 * GPU_STEPS + 2
    of_graph, of_plain = dict(losses(graph, count, device)), dict(losses(plain, count, device))
    assert graph.remark == ""
    assert len(of_graph) < len(of_plain)
    # The first block: later rounding errors have grown.
    first = [of_plain[done] for done in range(2, GPU_STEPS + 2)]
    assert of_graph[GPU_STEPS + 1] == pytest.approx(sum(first) / len(first), rel=5e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "descent"])
def test_a_graph_ends_with_the_weights_of_plain_steps(exact_sums, optimizer):
    device = torch.device("cuda")
    steps = [descent(device) if optimizer == "descent" else step_of(optimizer, device, 0.0) for _ in range(2)]
    graph, plain = choose("graph", steps[0], device), Engine(steps[1])
    for engine in (graph, plain):
        losses(engine, GPU_STEPS + 2, device)
    assert graph.remark == ""
    assert_close(graph.step, plain.step, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("momentum", [0.5, 0.0])
def test_a_graph_resumes_to_the_same_bits(tiny, tmp_path, momentum):
    given = [
        f"training.optimizer={{sgd: {{learning_rate: 0.05, momentum: {momentum}}}}}",
        "training.engine=graph",
        "training.deterministic=true",
        "training.batch_size=16",
    ]
    where, config = Where(device="cuda"), load_config(tiny, given)
    train_run(config, tmp_path / "whole", where)
    # Of 81 batches an epoch, after a graph of many steps in the first, and after one of a single step in the second.
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "part", where, InterruptAt(40))
    with pytest.raises(Interrupted):
        resume_run(tmp_path / "part", [], where, InterruptAt(81 + 79))
    resume_run(tmp_path / "part", [], where)
    assert_same_runs(tmp_path / "whole", tmp_path / "part")


@pytest.mark.gpu
def test_masks_differ_between_replays():
    device = torch.device("cuda")
    step = step_of("sgd", device, 0.9)
    for group in step.optimizer.param_groups:
        group["initial_lr"] = group["weight_decay"] = 0.0
    graph = Graph(step)
    graph.run([torch.arange(8, device=device)], [1.0], Totals.zero(device), keeps_gradients=True)
    seen = []
    for _ in range(4):
        totals = Totals.zero(device)
        graph.run([torch.arange(8, device=device)], [1.0], totals, keeps_gradients=False)
        seen.append(totals.loss.item())
    assert graph.remark == ""
    assert len(set(seen)) == len(seen)


@pytest.mark.gpu
@pytest.mark.parametrize("made", [step_of, descent])
def test_a_graph_takes_its_rates_from_each_replay(made):
    device = torch.device("cuda")
    graph = choose("graph", made(device=device, dropout=0.0), device)
    batch = [torch.arange(8, device=device)]
    graph.run(batch, [1.0], Totals.zero(device), keeps_gradients=True)
    graph.run(batch, [1.0], Totals.zero(device), keeps_gradients=False)
    before = {name: value.clone() for name, value in graph.step.network.named_parameters()}
    graph.run(batch, [0.0], Totals.zero(device), keeps_gradients=False)
    assert all(torch.equal(value, before[name]) for name, value in graph.step.network.named_parameters())
    graph.run(batch, [1.0], Totals.zero(device), keeps_gradients=False)
    assert not all(torch.equal(value, before[name]) for name, value in graph.step.network.named_parameters())
    assert graph.remark == ""


@pytest.mark.gpu
def test_what_waits_for_the_device_is_trained_in_plain_steps_and_spoils_nothing():
    device = torch.device("cuda")
    batch = [torch.arange(8, device=device)]
    waiting, later = Graph(step_of("sgd", device, 0.5)), Graph(step_of("sgd", device, 0.5))
    waiting.run(batch, [1.0], Totals.zero(device), keeps_gradients=True)
    waiting.step.network.register_forward_hook(lambda module, args, logits: logits * logits.isfinite().all().item())
    for _ in range(3):
        waiting.run(batch, [1.0], Totals.zero(device), keeps_gradients=False)
    assert waiting.remark.startswith("training goes on in plain steps")
    # The next one records, and draws masks, as if there had been none.
    for first in (True, False, False):
        later.run(batch, [1.0], Totals.zero(device), keeps_gradients=first)
    assert later.remark == ""


@pytest.mark.gpu
def test_a_compiled_network_is_recorded_and_resumes_to_the_same_bits(tiny, tmp_path):
    given = ["training.engine=compiled", "training.deterministic=true", "training.epochs=2"]
    where, config = Where(device="cuda"), load_config(tiny, given)
    train_run(config, tmp_path / "whole", where)
    said = (tmp_path / "whole" / "log.txt").read_text()
    assert "torch compiles the network" in said and "training goes on" not in said
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "part", where, InterruptAt(41 + 20))
    resume_run(tmp_path / "part", [], where)
    assert_same_runs(tmp_path / "whole", tmp_path / "part")
