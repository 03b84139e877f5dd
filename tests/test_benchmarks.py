"""The benchmarks measure the same training everywhere, and the page says what the results say."""

import importlib
import json
import re
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks import gpu, report, run, starts, trials
from benchmarks.gpu import seconds_in_turns
from benchmarks.peers import cnntrain_loop, idiomatic, torch_network, tuned
from benchmarks.peers.torch_data import Augmented, augmented
from benchmarks.report import page, ratios, seconds_a_step, shown, spread
from benchmarks.run import PEERS, RESULTS, begun, measure, said, undisturbed
from benchmarks.workloads import WORKLOADS, config_of
from cnntrain.network import windows
from cnntrain.network.build import build
from cnntrain.training import engine, loop

ROOT = Path(__file__).parent.parent


class Enough(Exception):
    pass


@pytest.mark.parametrize("workload", WORKLOADS)
def test_peers_have_the_same_network(workload):
    shape = WORKLOADS[workload].shape
    ours = build(config_of(workload, 10), shape, 10)
    theirs = torch_network.network(workload)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(own.data)
    images = torch.rand(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("peer", [cnntrain_loop, tuned, idiomatic])
def test_peers_train_step_by_step(peer, data_dir):
    done = []

    def tick():
        done.append(1)
        if len(done) == 3:
            raise Enough

    with pytest.raises(Enough):
        peer.train("W2", 10, tick)


def test_peers_augment_a_batch_as_one_image_after_the_other():
    """Nothing is scaled or mixed: what is left of an image is a part of it, mirrored or not, at one of the shifts."""
    images = torch.arange(1.0, 1 + 3 * 32 * 32).view(1, 3, 32, 32).expand(64, -1, -1, -1)
    one_by_one = Augmented(images, torch.zeros(64, dtype=torch.int64))
    for moved in (augmented(images), torch.stack([one_by_one[index][0] for index in range(64)])):
        padded = functional.pad(images[0], [4] * 4)
        windows = padded.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        candidates = torch.cat([windows, windows.flip(-1)])
        places = [((candidates == image) | (image == 0)).all(3).all(2).all(1).nonzero() for image in moved]
        assert all(len(place) for place in places)
        assert len({int(place[0]) for place in places}) > 32
        holes = [
            int((image[0] == 0).sum()) - int((candidates[int(place[0]), 0] == 0).sum())
            for image, place in zip(moved, places, strict=True)
        ]
        assert 0 < sum(hole > 0 for hole in holes) < 64 and max(holes) <= 64


def test_turns_that_were_disturbed_do_not_count():
    assert undisturbed([(0.0, 1.0), (0.05, 2.0), (0.3, 9.0)]) == [1.0, 2.0, None]


def test_the_results_are_of_these_workloads_and_peers():
    results = json.loads(RESULTS.read_text())
    assert set(results["cases"]) == {
        f"{name}-{size}" for name, given in WORKLOADS.items() for size in given.batch_sizes
    }
    assert all(set(PEERS) <= set(figures) for figures in results["cases"].values())


def test_too_few_turns_give_no_figure():
    assert seconds_a_step({"step_seconds": [3.0, 1.0, None, 2.0, 1.0, 9.0]}) == 2.0
    assert shown(seconds_a_step({"step_seconds": [1.0] * 4 + [None]}), ".2f") == "-"
    assert said("W1-10", {"cnntrain": {"step_seconds": [0.002, None]}, "tuned": {"step_seconds": [None]}}) == (
        "W1-10: cnntrain 2.000 ms (1 turns), tuned - (no turn counts)"
    )


def test_ratios_are_those_of_turns_side_by_side():
    # The machine grows slower from round to round; the peer takes twice as long in each.
    case = {"cnntrain": {"step_seconds": [1.0, 2.0, 3.0, 4.0, 5.0, None]}, "peer": {"step_seconds": []}}
    case["peer"]["step_seconds"] = [2.0, 4.0, 6.0, 8.0, 10.0, 99.0]
    assert ratios(case, "peer") == [2.0, 2.0, 2.0]
    assert spread(case, "peer") == "2.00 (2.00-2.00)"
    case["peer"]["step_seconds"][0] = None
    assert spread(case, "peer") == "-"


def test_rows_of_two_machines_are_not_mixed(tmp_path):
    here, there = ({"processor": name, "date": "2026-11-28"} for name in ("one", "another"))
    results = tmp_path / "results.json"
    assert begun(results, here, is_all=False) == {"cases": {}, "gflop_a_step": {}, "environment": here}
    results.write_text(json.dumps({"cases": {"W1-10": {}}, "gflop_a_step": {}, "environment": here}))
    assert begun(results, here | {"date": "2026-11-29"}, is_all=False)["cases"] == {"W1-10": {}}
    assert begun(results, there, is_all=True)["cases"] == {}
    with pytest.raises(SystemExit, match="of another machine"):
        begun(results, there, is_all=False)


def test_what_is_measured_of_a_peer(data_dir, monkeypatch):
    monkeypatch.setattr(run, "ROUNDS", {10: 2})
    monkeypatch.setattr(run, "STEPS", {10: 3})
    found = measure("W1-10", {"cnntrain": PEERS["cnntrain"], "tuned": PEERS["tuned"]}, threads=1)
    assert set(found) == {"cnntrain", "tuned"}
    assert all(len(figures["step_seconds"]) == 2 for figures in found.values())


def test_what_is_measured_of_a_start(data_dir, monkeypatch):
    monkeypatch.setattr(starts, "STEPS", 2)
    seconds, mib = starts.start("cnntrain", threads=1)
    assert 0 < seconds < 120
    assert 50 < mib < 3000


def test_some_peers_are_measured_on_any_machine_and_not_kept(monkeypatch, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps({"cases": {}, "environment": {"processor": "another"}}))
    monkeypatch.setattr(run, "measure", lambda case, peers, threads: {p: {"step_seconds": [0.001]} for p in peers})
    words = ["run", "--only", "W4-128", "--peers", "tuned", "cnntrain", "--results", str(tmp_path / "results.json")]
    monkeypatch.setattr(sys, "argv", words)
    before = (tmp_path / "results.json").read_text()
    run.main()
    assert capsys.readouterr().out == "W4-128: tuned 1.000 ms (1 turns), cnntrain 1.000 ms (1 turns)\n"
    assert (tmp_path / "results.json").read_text() == before


@pytest.mark.parametrize(("module", "package"), [("lightning_trainer", "lightning"), ("keras_fit", "keras")])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_peers_that_need_more_packages_train(module, package, data_dir, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(package, reason=f"needs {package}, of the extra `bench`")
    peer = importlib.import_module(f"benchmarks.peers.{module}")
    test_peers_train_step_by_step(peer, data_dir)


def test_the_page_is_written_from_the_results():
    assert (ROOT / "docs" / "PERFORMANCE.md").read_text() == page(
        json.loads(RESULTS.read_text()), json.loads(starts.RESULTS.read_text())
    )


@pytest.mark.parametrize(("batch_size", "place"), [(10, 0), (128, 4)])
def test_the_readme_says_what_was_measured(batch_size, place):
    cases = json.loads(RESULTS.read_text())["cases"]
    # The book's convolutional networks.
    rows = [cases[f"{name}-{batch_size}"] for name in ("W2", "W3", "W4")]
    medians = [[ratios(row, peer)[1] for row in rows] for peer in ("idiomatic", "tuned", "lightning", "keras-jax")]
    told = re.findall(r"[\d.]+ to [\d.]+", (ROOT / "README.md").read_text().split("## Speed")[1])
    assert told[place : place + 4] == [f"{min(of_peer):.1f} to {max(of_peer):.1f}" for of_peer in medians]


def test_networks_in_turns_are_timed(data_dir):
    assert 0 < seconds_in_turns("W1", 128, 2, torch.device("cpu")) < 60


def test_the_kernels_of_a_step_are_counted(data_dir):
    found = gpu.kernels("W1", 128, torch.device("cpu"))
    name, longest = list(found.items())[2]
    assert found["kernels"] > 10
    assert 0 < longest < found["microseconds"]
    assert re.match(r"\d+\.\d x aten::\w+$", name)


def test_figures_of_a_gpu_are_shown_as_far_as_there_are(monkeypatch, tmp_path):
    def ours(workload, batch_size, engine, precision="float32"):
        seconds = {("graph", "float32"): 0.25, ("eager", "float32"): 1.0}.get((engine, precision), 0.5)
        return {"epoch": seconds, "first_step_seconds": 1.5, "peak_mib": 300.0}

    monkeypatch.setattr(gpu, "PEERS", {"idiomatic": "torch", "lightning_trainer": "no_such_package"})
    monkeypatch.setattr(gpu, "epoch_figures", ours)
    monkeypatch.setattr(gpu, "peer_seconds", lambda peer, workload, batch_size: 2.0)
    kernels = {"kernels": 36.5, "microseconds": 98.0, "2.0 x a_kernel<float>": 12.34}
    monkeypatch.setattr(gpu, "kernels", lambda workload, batch_size: kernels)
    monkeypatch.setattr(gpu, "seconds_in_turns", lambda workload, batch_size, networks: float(networks))
    done = {"accuracy": 0.99, "lowest": 0.98, "steady": 1.0, "seconds": 2.0, "wall": 3.0, "seeds": 2}
    monkeypatch.setattr(gpu, "trained", lambda config, seeds: done)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    results = {"gpu": "a GPU", "cases": {}, "more": {}, "accurate": {}}
    lengths = []
    for part, name, measured in gpu.measurements():
        results[part].setdefault(name, {}).update(measured())
        (tmp_path / "gpu.json").write_text(json.dumps(results))
        lengths.append(len(report.on_a_gpu()))
    assert lengths == sorted(set(lengths))
    text = report.on_a_gpu()
    assert "\n\nW4, batch 10, as a CUDA graph, updates in pieces: 0.250 s an epoch.\n\n" in text
    assert "\n\nW3, batch 10, as a CUDA graph, compiled: 0.500 s an epoch.\n\n" in text
    assert "0.250 | 1.000 | 2.000 | - | - | 8.0 | 1.50 | 300 |" in text
    assert "take 5.00 times as long as one" in text
    assert "A step of W3, batch 10 has 36.5 kernels, which take 98 µs; the longest, times a step:" in text
    assert "| 2.0 x a_kernel<float> | 12.34 |" in text
    assert "W5 in bfloat16, as a CUDA graph: 0.50 s" in text and "W5 in bfloat16, compiled: 0.50 s" in text
    assert "99.00% of the test images (mean of 2 seeds, at least 98.00%) in 1.00 s" in text


def test_what_fails_on_a_gpu_keeps_nothing_else_from_being_measured(monkeypatch, tmp_path, capsys):
    def fails():
        raise RuntimeError("out of memory")

    work = [("cases", "W1-10", fails), ("more", "in turns", lambda: {"1": 1.0})]
    monkeypatch.setattr(gpu, "measurements", lambda: iter(work))
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.json")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    with pytest.raises(SystemExit, match="not measured in whole: W1-10"):
        gpu.main()
    assert "W1-10: RuntimeError: out of memory" in capsys.readouterr().err
    assert json.loads((tmp_path / "gpu.json").read_text())["more"] == {"in turns": {"1": 1.0}}


def test_what_is_named_is_measured_and_added(monkeypatch, tmp_path):
    names = [("cases", "W3-10"), ("cases", "W3-1024"), ("more", "W3-10, compiled"), ("more", "kernels of W3-10")]
    work = [(part, name, lambda: {"epoch": 0.5}) for part, name in names]
    monkeypatch.setattr(gpu, "measurements", lambda: iter(work))
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.json")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(gpu, "environment", lambda threads: {"versions": {"torch": "2"}, "date": "today"})

    def found(*words, gpu_before="a GPU", torch_before="2"):
        place = {"environment": {"versions": {"torch": torch_before}, "date": "before"}, "gpu": gpu_before}
        before = {**place, "cases": {"W4-10": {"epoch": 1}}, "more": {}, "accurate": {}}
        (tmp_path / "gpu.json").write_text(json.dumps(before))
        gpu.main(words)
        results = json.loads((tmp_path / "gpu.json").read_text())
        assert results["environment"]["date"] == "today"
        return [*results["cases"], *results["more"]]

    assert found("W3-10") == ["W4-10", "W3-10", "W3-10, compiled", "kernels of W3-10"]
    assert found("compiled", "W3-1024") == ["W4-10", "W3-1024", "W3-10, compiled"]
    # Of another place nothing is kept, nor where all is measured.
    for there in ({"gpu_before": "another"}, {"torch_before": "1"}):
        assert found("compiled", **there) == ["W3-10, compiled"]
    assert found() == [name for _, name in names]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_updates_in_pieces_are_those_of_the_whole(monkeypatch, momentum):
    monkeypatch.setattr(trials, "PIECE", 50)
    counts, found = [], []
    whole = torch._fused_sgd_

    def counting(weights, *given, **settings):
        counts.append(len(weights))
        whole(weights, *given, **settings)

    monkeypatch.setattr(torch, "_fused_sgd_", counting)
    for trial in (nullcontext, trials.updates_in_pieces):
        torch.manual_seed(0)
        weights = [torch.randn(8, 3, 5, 5).to(memory_format=torch.channels_last), torch.randn(70, 9), torch.randn(3)]
        weights = [weight.requires_grad_() for weight in weights]
        descent = torch.optim.SGD(weights, lr=0.1, momentum=momentum, weight_decay=0.1, fused=True)
        with trial():
            for _ in range(3):
                for weight in weights:
                    weight.grad = torch.randn_like(weight)
                descent.step()
        found.append(weights)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert counts == [3] * 3 + [12 + 13 + 1] * 3


def test_convolutions_as_products_are_convolutions():
    images, weight = torch.rand(200, 2, 20, 20).to(memory_format=torch.channels_last), torch.rand(3, 2, 5, 5)
    weight.requires_grad_()
    with trials.convolutions_as_products():
        output = windows.convolve(images, weight)
    assert "Convolved" in type(output.grad_fn).__name__ and windows.MOST < 200 * 16 * 16 * 50
    assert "Convolved" not in type(windows.convolve(images, weight).grad_fn).__name__
    torch.testing.assert_close(output, functional.conv2d(images, weight))


def test_the_optimizer_updates_linear_layers_too():
    step = torch.nn.Linear(2, 2)
    with trials.updates_by_the_optimizer():
        assert engine.subtracting(step) is step


def test_images_lie_as_torch_has_them(data_dir):
    with trials.contiguous_images():
        plan, state = cnntrain_loop.prepared("W3", 10)
        images, _ = plan.engine.step.gather(torch.arange(10))
        assert images.stride() == (784, 784, 28, 1)
        assert all(weight.is_contiguous() for weight in state.network.parameters())
        next(loop.train(plan, state))
    assert cnntrain_loop.prepared("W3", 10)[0].engine.step.gather(torch.arange(10))[0].stride() == (784, 1, 28, 1)


def test_what_a_config_reaches_is_trained_by_the_command(tmp_path):
    (tmp_path / "c.yaml").write_text("network: [softmax]\ntraining: {epochs: 3, batch_size: 100}\n")
    found = gpu.trained(str(tmp_path / "c.yaml"), 2)
    assert found["seeds"] == 2
    assert 0.5 < found["lowest"] <= found["accuracy"] < 1
    assert 0 < found["steady"] < found["wall"]
    with pytest.raises(RuntimeError, match=r"seed 0 ended with 2: .*no\.yaml: there is no such file"):
        gpu.trained(str(tmp_path / "no.yaml"), 1)


def test_a_peer_is_timed_after_its_warm_up(monkeypatch):
    """Ten milliseconds a step while it warms up, then one."""
    now = [0.0]
    monkeypatch.setattr(gpu, "perf_counter", lambda: now[0])

    class Clock:
        def __init__(self):
            self.began = now[0]

        def seconds(self):
            return now[0] - self.began

    def train(workload, batch_size, tick, device):
        while True:
            now[0] += 0.01 if now[0] < 1 else 0.001
            tick()

    monkeypatch.setattr(gpu, "Clock", Clock)
    monkeypatch.setattr(idiomatic, "train", train)
    assert gpu.peer_seconds("idiomatic", "W1", 10) == pytest.approx(5000 * 0.001, rel=0.02)


def test_plain_steps_are_not_taken_for_a_graph():
    with pytest.raises(RuntimeError, match="training goes on in plain steps"):
        gpu._check(loop.Remark("training goes on in plain steps, without a CUDA graph: out of memory"))
