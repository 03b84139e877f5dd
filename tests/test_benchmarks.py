"""The benchmarks measure the same training everywhere, and the page says what the results say."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks import gpu, report
from benchmarks.gpu import seconds_in_turns
from benchmarks.peers import cnntrain_loop, idiomatic, torch_network, tuned
from benchmarks.peers.torch_data import Augmented, augmented
from benchmarks.report import page, seconds_a_step, shown
from benchmarks.run import PEERS, RESULTS, undisturbed
from benchmarks.workloads import WORKLOADS, config_of
from cnntrain.network.build import build

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
    assert undisturbed([(0.0, 1.0), (0.05, 2.0), (0.3, 9.0)]) == [1.0, 2.0]


def test_the_results_are_of_these_workloads_and_peers():
    results = json.loads(RESULTS.read_text())
    assert set(results["cases"]) == {
        f"{name}-{size}" for name, given in WORKLOADS.items() for size in given.batch_sizes
    }
    assert all(set(PEERS) <= set(figures) for figures in results["cases"].values())


def test_too_few_turns_give_no_figure():
    assert seconds_a_step({"step_seconds": [3.0, 1.0, 2.0, 1.0, 9.0]}) == 2.0
    assert shown(seconds_a_step({"step_seconds": [1.0] * 4}), ".2f") == "-"


def test_the_page_is_written_from_the_results():
    assert (ROOT / "docs" / "PERFORMANCE.md").read_text() == page(json.loads(RESULTS.read_text()))


@pytest.mark.parametrize(("batch_size", "place"), [(10, 0), (128, 3)])
def test_the_readme_says_what_was_measured(batch_size, place):
    cases = json.loads(RESULTS.read_text())["cases"]
    # The book's convolutional networks.
    rows = [cases[f"{name}-{batch_size}"] for name in ("W2", "W3", "W4")]
    ratios = [
        [seconds_a_step(row[peer]) / seconds_a_step(row["cnntrain"]) for row in rows]
        for peer in ("idiomatic", "lightning", "keras-jax")
    ]
    told = re.findall(r"[\d.]+ to [\d.]+", (ROOT / "README.md").read_text().split("## Speed")[1])
    assert told[place : place + 3] == [f"{min(of_peer):.1f} to {max(of_peer):.1f}" for of_peer in ratios]


def test_networks_in_turns_are_timed(data_dir):
    assert 0 < seconds_in_turns("W1", 128, 2, torch.device("cpu")) < 60


def test_figures_of_a_gpu_are_shown_as_far_as_there_are(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_case", lambda *given: {"graph": 0.25, "eager": 1.0, "idiomatic": 2.0})
    monkeypatch.setattr(gpu, "epoch_seconds", lambda workload, batch_size, engine, precision: 0.5)
    monkeypatch.setattr(gpu, "seconds_in_turns", lambda workload, batch_size, networks: float(networks))
    done = {"accuracy": 0.99, "steady": 1.0, "seconds": 2.0, "wall": 3.0, "seeds": 2}
    monkeypatch.setattr(gpu, "trained", lambda config, seeds: done)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    results = {"gpu": "a GPU", "cases": {}, "more": {}, "accurate": {}}
    lengths = []
    for part, name, figures in gpu.measured():
        results[part][name] = figures
        (tmp_path / "gpu.json").write_text(json.dumps(results))
        lengths.append(len(report.on_a_gpu()))
    assert lengths == sorted(set(lengths))
    text = report.on_a_gpu()
    assert "0.250 | 1.000 | 2.000 | 8.0 |" in text
    assert "take 5.00 times as long as one" in text
    assert "W5 in bfloat16, as a CUDA graph: 0.50 s" in text and "W5 in bfloat16, compiled: 0.50 s" in text
    assert "99.00% of the test images (mean of 2 seeds) in 1.00 s" in text
