"""The benchmarks measure the same training everywhere, and the page says what the results say."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import seconds_in_turns
from benchmarks.peers import cnntrain_loop, idiomatic, torch_network, tuned
from benchmarks.report import page, seconds_a_step, shown
from benchmarks.run import PEERS, RESULTS, STEPS, undisturbed
from benchmarks.workloads import WORKLOADS, config_of
from cnntrain.network.build import build

ROOT = Path(__file__).parent.parent


class Enough(Exception):
    pass


@pytest.mark.parametrize("workload", WORKLOADS)
def test_peers_have_the_same_network(workload):
    ours = build(config_of(workload, 10, []), (1, 28, 28), 10)
    theirs = torch_network.network(workload)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(own.data)
    images = torch.rand(3, 1, 28, 28)
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


def test_turns_that_were_disturbed_do_not_count():
    assert undisturbed([(0.0, 1.0), (0.05, 2.0), (0.3, 9.0)]) == [1.0, 2.0]


def test_the_results_are_of_these_workloads_and_peers():
    results = json.loads(RESULTS.read_text())
    assert set(results["cases"]) == {f"{workload}-{batch_size}" for workload in WORKLOADS for batch_size in STEPS}
    assert all(set(PEERS) <= set(figures) for figures in results["cases"].values())


def test_too_few_turns_give_no_figure():
    assert seconds_a_step({"step_seconds": [3.0, 1.0, 2.0, 1.0, 9.0]}) == 2.0
    assert shown(seconds_a_step({"step_seconds": [1.0] * 4}), ".2f") == "-"


def test_the_page_is_written_from_the_results():
    assert (ROOT / "docs" / "PERFORMANCE.md").read_text() == page(json.loads(RESULTS.read_text()))


def test_networks_in_turns_are_timed(data_dir):
    assert 0 < seconds_in_turns("W1", 128, 2, torch.device("cpu")) < 60
