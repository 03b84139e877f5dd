"""Recorded steps, with a stand-in for the part of CUDA that writes down and launches: the rest runs as on a GPU.

What is recorded is carried out, undone, and called again at each launch, on the tensors that it was recorded with.
"""

import sys
from collections import Counter
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_engine import OPTIMIZERS, RATES, assert_close, assert_same, descent, losses, step_of
from test_resume import InterruptAt
from test_step import CPU

from cnntrain.app.configure import load_config
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import Interrupted
from cnntrain.network.modules import Linear
from cnntrain.run import checkpoint
from cnntrain.training import engine as engines
from cnntrain.training import recording as recordings
from cnntrain.training.average import Average
from cnntrain.training.engine import GPU_STEPS, Engine, Graph, choose
from cnntrain.training.recording import REHEARSALS, undone
from cnntrain.training.step import Totals
from cnntrain.training.tracing import Tracer, program
from tests.faults.cases import assert_same_runs, rows

BATCH = [torch.arange(8)]


class Stream:
    """Everything on a CPU happens in order."""

    def wait_stream(self, other):
        pass


class Generator:
    """Random numbers of a GPU, of which only a failed recording speaks here; `given` counts states that replace it."""

    given = 0

    def clone_state(self):
        return Generator()

    def graphsafe_set_state(self, state):
        assert state is not self
        Generator.given += 1


class StandIn:
    """In the place of `torch.cuda.CUDAGraph`; `launches` counts those of all."""

    launches = 0

    def replay(self):
        StandIn.launches += 1
        with torch.no_grad():
            self.launch()


@pytest.fixture
def capture(monkeypatch):
    """Steps can be recorded on a CPU; what a GPU could not record raises what torch raises there.

    Gives what was asked of waiting for the device: an error, or as before.
    """
    under_way: list = []
    modes: list = []

    @contextmanager
    def record(graph, stream, capture_error_mode):
        tracer = Tracer([])
        with undone(under_way[-1]), tracer:
            yield
        if not tracer.trace.is_foreseeable:
            raise RuntimeError("operation not permitted when stream is capturing")
        graph.launch = program(tracer.trace)

    class Recording(recordings.Recording):
        def __init__(self, step, *shape):
            under_way.append(step)
            super().__init__(step, *shape)

    for name, value in {
        "Stream": Stream,
        "current_stream": Stream,
        "set_stream": lambda stream: None,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": StandIn,
        "graph": record,
        "default_generators": [Generator()],
        "current_device": lambda: 0,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": modes.append,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None, raising=False)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(sys.modules["torch.optim.rmsprop"], "_get_capturable_supported_devices", lambda: ["cpu"])
    monkeypatch.setattr(engines, "Recording", Recording)
    monkeypatch.setattr(engines, "_obstacle_to_a_graph", lambda step, device: "")
    monkeypatch.setattr(StandIn, "launches", 0)
    monkeypatch.setattr(Generator, "given", 0)
    return modes


def after_one_step(optimizer="sgd", dropout=0.0):
    """A graph and a plain engine, both after the step that makes the optimizer's state."""
    pair = Graph(step_of(optimizer, dropout=dropout)), Engine(step_of(optimizer, dropout=dropout))
    for engine in pair:
        torch.manual_seed(3)
        engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=True)
    return pair


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_learns_what_plain_steps_learn(capture, optimizer):
    graph, plain = Graph(step_of(optimizer)), Engine(step_of(optimizer))
    found = []
    for engine in (graph, plain):
        if optimizer == "rmsprop":
            # As torch has it on a GPU.
            for group in engine.step.optimizer.param_groups:
                group["foreach"] = True
        torch.manual_seed(7)
        found.append(losses(engine, 2 * GPU_STEPS + 3, CPU))
    of_graph, of_plain = map(dict, found)
    assert graph.remark == ""
    # The very first and the last stand alone, and before the last one those that fill no block.
    assert list(of_graph) == [1, GPU_STEPS + 1, 2 * GPU_STEPS + 1, *range(2 * GPU_STEPS + 2, 2 * GPU_STEPS + 4)]
    # Of those there are too few for a graph of their own.
    assert StandIn.launches == 2
    for done in (1, *range(2 * GPU_STEPS + 2, 2 * GPU_STEPS + 4)):
        assert of_graph[done] == of_plain[done]
    blocks = [
        sum(of_plain[done] for done in range(start, start + GPU_STEPS)) / GPU_STEPS for start in (2, GPU_STEPS + 2)
    ]
    assert [of_graph[GPU_STEPS + 1], of_graph[2 * GPU_STEPS + 1]] == pytest.approx(blocks)
    assert_same(graph.step, plain.step)


def rates_of(number):
    """Another learning rate for each step, as a schedule has them."""
    return 1 + number % 3


def run_at_many_rates(engine, starts=(0, 80, 160)):
    for start in starts:
        batches = torch.arange(start, start + 80).split(8)
        engine.run(batches, list(map(rates_of, range(10))), Totals.zero(CPU), keeps_gradients=start == 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_plain_sgd_subtracts_gradients_where_they_are_made(capture, monkeypatch, smoothing):
    updated, fused = [], torch._fused_sgd_

    def update(weights, gradients, moments, **settings):
        updated.append((settings["lr"], sorted(weight.dim() for weight in weights)))
        fused(weights, gradients, moments, **settings)

    graph, plain = (
        engine(replace(descent(), label_smoothing=smoothing))
        for engine in (partial(choose, "auto", device=CPU), Engine)
    )
    run_at_many_rates(plain)
    monkeypatch.setattr(torch, "_fused_sgd_", update)
    run_at_many_rates(graph)
    assert StandIn.launches == 2
    assert_close(graph.step, plain.step, rtol=1e-5, atol=1e-6)
    # Plain steps first, all weights at the step's rate; then none of the linear layers', but a shortcut's of torch.
    whole = sorted(parameter.dim() for parameter in graph.step.network.parameters())
    assert updated[:10] == [(rates_of(number) * RATES[0], whole) for number in range(10)]
    linear = [module.weight.dim() for module in graph.step.network.modules() if isinstance(module, Linear)]
    assert len(linear) == 3
    assert updated[10:] == [(1.0, sorted((Counter(whole) - Counter(linear)).elements()))] * (1 + 2 + 10)


@pytest.mark.parametrize("name", ["auto", "graph"])
def test_plain_sgd_is_recorded_so_by_either_engine(capture, monkeypatch, name):
    recorded, subtracting = [], engines.subtracting
    monkeypatch.setattr(engines, "subtracting", lambda step: recorded.append(step) or subtracting(step))
    run_at_many_rates(choose(name, descent(), CPU))
    assert len(recorded) == 1 and StandIn.launches == 2


def test_a_compiled_network_has_its_own_linear_layers(capture, monkeypatch):
    monkeypatch.setattr(engines.torch, "compile", lambda network, dynamic: Optimized(network))
    monkeypatch.setattr(engines, "subtracting", lambda step: pytest.fail("compiled"))
    run_at_many_rates(choose("compiled", descent(), torch.device("cuda")))
    assert StandIn.launches == 2


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "momentum", "l2": 0.0},
        {"optimizer": "adam", "l2": 0.0},
        {"l2": 0.01},
        {"clip_grad_norm": 1.0},
        {"precision": torch.bfloat16},
        {"plugin": True},
    ],
)
def test_gradients_are_kept_where_an_update_is_more_than_a_multiple_of_them(capture, monkeypatch, given):
    given = dict(given)
    if given.pop("plugin", False):
        monkeypatch.setattr(engines.registry, "of_plugins", lambda: {"layer": ["own"]})
    precision = given.pop("precision", torch.float32)
    monkeypatch.setattr(engines, "subtracting", lambda step: pytest.fail("not of this optimizer"))
    made = [replace(step_of(**{"l2": 0.0, "clip_grad_norm": None} | given), precision=precision) for _ in range(2)]
    graph, plain = choose("graph", made[0], CPU), Engine(made[1])
    for engine in (graph, plain):
        torch.manual_seed(7)
        run_at_many_rates(engine)
    assert StandIn.launches == 2
    assert_same(graph.step, plain.step)


@pytest.mark.parametrize(("whole", "launches"), [(5000, 0), (6000, 1), (3, 1)])
def test_single_steps_are_recorded_where_an_epoch_has_many(capture, whole, launches):
    # 49 at once leave 1 over of 5,000, and 21 of 6,000; of 3 there are no others.
    graph, plain = after_one_step()
    assert graph.at_once(9, 2, whole) == 1
    for engine in (graph, plain):
        engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=False)
    assert StandIn.launches == launches
    assert_same(graph.step, plain.step)


class Optimized(torch.nn.Module):
    """In the place of torch's module that calls what was compiled, whose names have a prefix too; counts `calls`."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self._orig_mod(images)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_network_is_compiled_and_recorded(capture, monkeypatch, optimizer):
    made = []
    monkeypatch.setattr(engines.torch, "compile", lambda network, dynamic: made.append(Optimized(network)) or made[-1])
    both, plain = choose("compiled", step_of(optimizer), torch.device("cuda")), Engine(step_of(optimizer))
    for engine in (both, plain):
        torch.manual_seed(7)
        losses(engine, 2 * GPU_STEPS + 3, CPU)
    assert both.remark == "torch compiles the network before the first step, which takes a while"
    # Recorded once, with what was compiled in it, and launched twice; the first step and two others are plain.
    assert StandIn.launches == 2
    assert [network.calls for network in made] == [1 + 1 + sum(range(1, REHEARSALS + 1)) + GPU_STEPS + 2]
    assert_same(both.step, plain.step)


def test_what_can_not_be_compiled_is_recorded(capture, monkeypatch):
    def fails(network, dynamic):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(engines.torch, "compile", fails)
    both, plain = choose("compiled", step_of(), torch.device("cuda")), Engine(step_of())
    for engine in (both, plain):
        torch.manual_seed(7)
        losses(engine, GPU_STEPS + 2, CPU)
    assert both.remark == "training goes on without compilation: no compiler here"
    assert StandIn.launches == 1
    assert_same(both.step, plain.step)


def test_what_can_be_neither_compiled_nor_recorded_says_both(capture, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(engines.torch, "compile", fails)
    monkeypatch.setattr(engines, "Recording", fails)
    both = choose("compiled", step_of(), torch.device("cuda"))
    # As a run begins that is resumed.
    both.run([torch.arange(8)] * 3, [1.0] * 3, Totals.zero(CPU), keeps_gradients=False)
    without, plain = both.remark.split("; ")
    assert without == "training goes on without compilation: no compiler here"
    assert plain == "training goes on in plain steps, without a CUDA graph: no compiler here"


def test_what_is_compiled_and_can_not_be_recorded_says_so(capture, monkeypatch):
    monkeypatch.setattr(engines.torch, "compile", lambda network, dynamic: network)
    both, plain = choose("compiled", step_of(), torch.device("cuda")), Engine(step_of())
    for engine in (both, plain):
        torch.manual_seed(7)
        engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=True)
        engine.step.network.register_forward_hook(lambda module, args, logits: logits * logits.isfinite().all().item())
    both.remark = ""
    for engine in (both, plain):
        torch.manual_seed(8)
        engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=False)
    assert both.remark.startswith("training goes on in plain steps, without a CUDA graph: ")
    assert_same(both.step, plain.step)


def test_a_plugin_s_parts_are_compiled_and_not_recorded(capture, monkeypatch):
    monkeypatch.setattr(engines.torch, "compile", lambda network, dynamic: network)
    monkeypatch.setattr(engines.registry, "of_plugins", lambda: {"layer": ["own"]})
    engine = choose("compiled", step_of(), torch.device("cuda"))
    losses(engine, GPU_STEPS + 2, CPU)
    assert StandIn.launches == 0
    assert "; plain steps, no CUDA graph: a plugin may not do the same in every step; if it does, " in engine.remark


def test_recording_changes_nothing(capture):
    graph, plain = after_one_step("adam", dropout=0.5)
    random = torch.get_rng_state()
    engines.Recording(graph.step, 3, 8)
    assert torch.equal(torch.get_rng_state(), random)
    assert StandIn.launches == 0
    assert_same(graph.step, plain.step)


def test_each_launch_has_images_rates_and_masks_of_its_own(capture):
    graph, plain = after_one_step("momentum", dropout=0.5)
    for engine in (graph, plain):
        torch.manual_seed(4)
        for start, factor in ((0, 1.0), (40, 0.5), (80, 0.0), (0, 2.0)):
            engine.run([torch.arange(start, start + 8)], [factor], Totals.zero(CPU), keeps_gradients=False)
    assert StandIn.launches == 4
    assert_same(graph.step, plain.step)


def test_weights_of_each_recorded_step_are_averaged_and_no_others(capture):
    steps = [step_of() for _ in range(2)]
    averaged = [replace(step, average=Average(step.network, 0.9)) for step in steps]
    graph, plain = Graph(averaged[0]), Engine(averaged[1])
    for engine in (graph, plain):
        torch.manual_seed(7)
        losses(engine, GPU_STEPS + 3, CPU)
    assert StandIn.launches == 1
    assert_same(graph.step, plain.step)
    for name, value in plain.step.average.sums.items():
        assert torch.equal(graph.step.average.sums[name], value)


def test_totals_are_added_up(capture):
    graph, plain = after_one_step()
    totals = [Totals.zero(CPU), Totals.zero(CPU)]
    counted = []
    for engine, total in zip((graph, plain), totals, strict=True):
        for start in range(0, 256, 8):
            engine.run([torch.arange(start, start + 8)], [1.0], total, keeps_gradients=False)
            counted.append(total.correct.item())
    # Right answers in more than one launch.
    assert len(set(counted)) > 2
    assert torch.equal(totals[0].loss, totals[1].loss)
    assert torch.equal(totals[0].correct, totals[1].correct)


def test_a_smaller_batch_and_a_step_that_keeps_gradients(capture):
    graph, plain = after_one_step("adam")
    for engine in (graph, plain):
        for batch, keeps in (([torch.arange(8)], False), ([torch.arange(5)], False), ([torch.arange(8)], True)):
            engine.run(batch, [1.0], Totals.zero(CPU), keeps_gradients=keeps)
    assert StandIn.launches == 2
    assert all(parameter.grad is not None for parameter in graph.step.network.parameters())
    assert_same(graph.step, plain.step)


def test_a_state_that_was_restored_is_recorded_anew(capture):
    graph, plain = after_one_step("momentum")
    for engine in (graph, plain):
        engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=False)
        engine.step.optimizer.load_state_dict(deepcopy(engine.step.optimizer.state_dict()))
        for group in engine.step.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=False)
    assert StandIn.launches == 2
    assert_same(graph.step, plain.step)


def test_what_is_recorded_once_is_launched_again_and_let_go_once_recording_fails(capture, monkeypatch):
    graph, _ = after_one_step()
    made, recording = [], engines.Recording
    monkeypatch.setattr(engines, "Recording", lambda step, *shape: made.append(shape) or recording(step, *shape))

    def run(count):
        graph.run(torch.arange(8 * count).split(8), [1.0] * count, Totals.zero(CPU), keeps_gradients=False)

    for count in (1, 3, 1, 3):
        run(count)
    assert made == [(1, 8), (3, 8)]
    graph.step.network.register_forward_hook(lambda module, args, logits: logits * logits.isfinite().all().item())
    run(2)
    # Each holds memory of the device.
    assert not graph._recordings


def test_what_waits_for_the_device_is_trained_in_plain_steps(capture):
    graph, plain = after_one_step()
    for engine in (graph, plain):
        engine.step.network.register_forward_hook(lambda module, args, logits: logits * logits.isfinite().all().item())
        for _ in range(2):
            engine.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=False)
    assert StandIn.launches == 0
    assert graph.remark == (
        "training goes on in plain steps, without a CUDA graph: operation not permitted when stream is capturing"
    )
    # It is not tried again, and random numbers are no longer those that the recording has a hold on.
    assert Generator.given == 1
    assert_same(graph.step, plain.step)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "operation not permitted when stream is capturing\nand more",
            "operation not permitted when stream is capturing",
        ),
        ("", "RuntimeError"),
    ],
)
def test_the_first_of_two_errors_is_told(capture, monkeypatch, error, told):
    recorded = []

    @contextmanager
    def record(graph, stream, capture_error_mode):
        recorded.append(graph)
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def wait(module, arguments, logits):
        if recorded:
            recorded.clear()
            raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "graph", record)
    graph, _ = after_one_step()
    graph.step.network.register_forward_hook(wait)
    graph.run(BATCH, [1.0], Totals.zero(CPU), keeps_gradients=False)
    assert graph.remark == f"training goes on in plain steps, without a CUDA graph: {told}"


# With momentum: without it, plain steps on a CPU update linear layers early, which rounds otherwise.
GRAPH = [
    "training.engine=graph",
    "training.batch_size=16",
    "training.optimizer={sgd: {learning_rate: 0.125, momentum: 0.5}}",
]


def test_a_run_ends_with_the_weights_of_plain_steps(capture, tiny, tmp_path):
    train_run(load_config(tiny, GRAPH), tmp_path / "graph", Where(device="cpu"))
    assert StandIn.launches > 1
    train_run(load_config(tiny, [*GRAPH, "training.engine=eager"]), tmp_path / "eager", Where(device="cpu"))
    one, other = (checkpoint.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("graph", "eager"))
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    counted = [[(row["step"], row["learning_rate"]) for row in rows(tmp_path / name)] for name in ("graph", "eager")]
    assert counted[0] == counted[1]


@pytest.mark.parametrize("momentum", [0.5, 0.0])
def test_a_run_is_resumed_to_the_same_bits(capture, tiny, tmp_path, momentum):
    config = load_config(tiny, [*GRAPH, f"training.optimizer.sgd.momentum={momentum}"])
    where = Where(device="cpu")
    train_run(config, tmp_path / "whole", where)
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "part", where, InterruptAt(40))
    resume_run(tmp_path / "part", [], where)
    assert_same_runs(tmp_path / "whole", tmp_path / "part")


def test_the_last_rehearsal_may_not_wait_for_the_device(capture):
    graph, _ = after_one_step()
    engines.Recording(graph.step, 3, 8)
    assert capture == ["error", 0]
