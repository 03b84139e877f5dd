"""`train --seeds`, `verify` and `ensemble`: runs side by side, kept, reused, resumed, and held against claims."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cnntrain import registry
from cnntrain.app import device as devices
from cnntrain.app.configure import load_config
from cnntrain.app.display import Silent
from cnntrain.app.ensemble import decide
from cnntrain.app.model import load_model, own_images
from cnntrain.app.seeds.run import Failure
from cnntrain.app.seeds.train import _can_share, _finished, _in_one
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.verify import _best
from cnntrain.app.where import Where
from cnntrain.cli.train import _numbers
from cnntrain.config.load import to_yaml
from cnntrain.data.images import Folders
from cnntrain.data.preprocess import to_unit
from cnntrain.errors import Interrupted, UsageError
from cnntrain.reports.pictures import grid
from cnntrain.run import checkpoint
from cnntrain.run.directory import RunDirectory
from tests.training.test_resume import InterruptAt

CLAIM = "\nexpect: {test_accuracy: {at_least: %s, source: somebody}}\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(path):
    return torch.load(path / "checkpoints" / "last.pt", weights_only=True)["weights"]


def test_seeds_train_are_reused_and_equal_single_runs(cnntrain, tiny, here, monkeypatch):
    # Runs side by side keep to one thread each whatever others may take.
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    first = cnntrain("train", tiny, "--seeds", "0-1", "--jobs", "2")
    assert (first.code, first.out) == (0, "runs/tiny/seed-0\nruns/tiny/seed-1\n")
    assert "seed 1: epoch 3/3" in first.err
    assert json.loads((here / "runs/tiny/seed-1/summary.json").read_text())["device"] == "cpu (1 thread)"
    again = cnntrain("train", tiny, "--seeds", "0,1")
    assert (again.code, again.out) == (0, first.out)
    assert again.err == "seed 0: finished already\nseed 1: finished already\n"
    assert cnntrain("train", tiny, "seed=1", "--run-dir", "alone", "-q").code == 0
    for name, value in weights(here / "alone").items():
        assert torch.equal(value, weights(here / "runs/tiny/seed-1")[name]), name
    other = cnntrain("train", tiny, "training.epochs=4", "--seeds", "0")
    assert other.code == 2
    assert "another config" in other.err


def test_finished_runs_are_told_where_they_are_now(cnntrain, tiny, here):
    assert cnntrain("train", tiny, "--seeds", "0-1", "-q").code == 0
    (here / "runs" / "tiny").rename(here / "moved")
    assert cnntrain("train", tiny, "--seeds", "0-1", "--run-dir", "moved", "-q").out == "moved/seed-0\nmoved/seed-1\n"
    found = json.loads(cnntrain("train", tiny, "--seeds", "0-1", "--run-dir", here / "moved", "--json").out)
    assert [run["run_dir"] for run in found["runs"]] == [str(here / "moved" / f"seed-{seed}") for seed in (0, 1)]


def test_a_finished_run_of_other_data_is_refused(cnntrain, here):
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 2
    np.savez(here / "x.npz", images=images, labels=labels)
    (here / "c.yaml").write_text(
        f"data: {{source: {{npz: {here / 'x.npz'}}}}}\nnetwork: [softmax]\ntraining: {{epochs: 1}}" + CLAIM % 1
    )
    assert cnntrain("train", "c.yaml", "--seeds", "0-1", "-q").code == 0
    assert cnntrain("verify", "c.yaml", "--seeds", "2").code == 0
    images[:] = 255 - images
    np.savez(here / "x.npz", images=images, labels=labels)
    for words in (("train", "c.yaml", "--seeds", "0-1"), ("verify", "c.yaml", "--seeds", "3")):
        outcome = cnntrain(*words)
        assert (outcome.code, outcome.out) == (1, "")
        assert "runs/c/seed-0, runs/c/seed-1: the train and validation and test images or labels have" in outcome.err
    assert not (here / "runs/c/seed-2").exists()
    (here / "x.npz").unlink()
    outcome = cnntrain("verify", "c.yaml", "--seeds", "2")
    assert (outcome.code, "there is no such file; finished runs are taken as they are" in outcome.err) == (0, True)
    outcome = cnntrain("verify", "c.yaml", "--seeds", "3")
    assert (outcome.code, outcome.err.count("there is no such file")) == (1, 1)


def test_who_shares_a_process(tiny, monkeypatch):
    for device, overrides, expected in (
        ("cuda", [], True),
        ("cuda", ["training.deterministic=true"], False),
        ("cpu", [], False),
    ):
        monkeypatch.setattr(devices, "choose", lambda _, device=device: torch.device(device))
        assert _can_share(load_config(tiny, overrides), Where()) is expected


@pytest.mark.parametrize(
    "seeds", ["x", "3-1", "1,,2", "-1", "0-", "0-99999999999", pytest.param("1" * 5000, id="digits"), "²"]
)
def test_bad_seeds(cnntrain, tiny, seeds):
    outcome = cnntrain("train", tiny, "--seeds", seeds)
    assert outcome.code == 2
    assert "--seeds" in outcome.err


@pytest.mark.parametrize("seeds", ["0-3", "0,1", "0", "-1", "x", pytest.param("1" * 5000, id="digits"), "²"])
def test_verify_asks_how_many_seeds(cnntrain, tiny, here, seeds):
    tiny.write_text(tiny.read_text() + CLAIM % 50)
    outcome = cnntrain("verify", tiny, "--seeds", seeds)
    assert (outcome.code, (here / "runs").exists()) == (2, False)
    assert "for `verify` it is a number of seeds, which count from 0: write 4 for the seeds 0 to 3\n" in outcome.err


def test_a_seed_is_one_that_a_config_takes(cnntrain, tiny, here):
    outcome = cnntrain("train", tiny, "--seeds", "2147483647-2147483648")
    assert outcome.code == 2
    assert "a seed is a whole number from 0 to 2,147,483,647" in outcome.err
    assert not (here / "runs").exists()


def test_seeds_are_a_set_in_order():
    assert _numbers("7,0-2,1,9-9") == [0, 1, 2, 7, 9]
    assert _numbers("0-9999") == list(range(10_000))
    for seeds in ("0-10000", "0-9998,20000-20001", "0-99999999999", ",".join(["0-9"] * 2000)):
        with pytest.raises(UsageError, match="asks for more than 10,000 runs at once"):
            _numbers(seeds)


def test_what_does_not_go_together(cnntrain, tiny, trained):
    assert "leave out `--run-dir`" in cnntrain("train", "--resume", trained, "--run-dir", "x").err
    assert f"leave out `{tiny}`" in cnntrain("train", "--resume", trained, tiny).err
    assert "choose one" in cnntrain("train", tiny, "--seeds", "0", "--devices", "1").err
    assert "--jobs" in cnntrain("train", tiny, "--jobs", "2").err
    assert "--seeds" in cnntrain("train", "--resume", trained, "--seeds", "1").err


def test_what_stands_in_the_way_is_said_before_anything_is_trained(cnntrain, tiny, here):
    (here / "runs" / "seed-1").mkdir(parents=True)
    outcome = cnntrain("train", tiny, "--seeds", "0-1", "--run-dir", "runs")
    assert outcome.code == 2
    assert outcome.err.startswith("error: runs/seed-1: exists already, and is not a run; move it away")
    assert not (here / "runs" / "seed-0").exists()
    outcome = cnntrain("train", tiny, "--seeds", "0-1", "--run-dir", tiny)
    assert (outcome.code, "is a file; name a folder" in outcome.err) == (2, True)
    outcome = cnntrain("train", tiny, "--run-dir", tiny)
    assert (outcome.code, "is a file; name another" in outcome.err) == (2, True)
    outcome = cnntrain("train", tiny, "seed=3", "--seeds", "0-1")
    assert (outcome.code, "leave out `seed=`" in outcome.err) == (2, True)
    outcome = cnntrain("verify", tiny, "training.epochs=2")
    assert (outcome.code, "takes only configs" in outcome.err) == (2, True)


def test_what_all_runs_fail_of_is_said_once_with_their_exit_code(cnntrain, tiny, here):
    outcome = cnntrain("train", tiny, "training.engine=graph", "--device", "cpu", "--seeds", "0-1", "--jobs", "2")
    assert outcome.code == 2
    [line] = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: seeds 0, 1: training.engine: `graph` can't be used")


def test_failures_that_differ_are_told_in_order_and_have_no_exit_code_of_their_own():
    error = _in_one({5: Failure("no such layer", 2), 3: Failure("not met", 3), 4: Failure("no such layer", 2)})
    assert (str(error), error.exit_code) == ("seed 3: not met\nseeds 4, 5: no such layer", 1)


def test_a_folder_of_runs_is_no_run(cnntrain, trained):
    outcome = cnntrain("eval", trained.parent)
    assert outcome.code == 2
    assert f"{trained.parent}: not a run, but a folder that contains {trained}" in outcome.err


def test_a_signal_to_the_parent_saves_all_and_the_same_command_goes_on(tiny, here):
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), "training.epochs=40", "--seeds", "0-1"]
    # Both at once, on a machine of one core too.
    command += ["--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not all((here / f"runs/tiny/seed-{n}/metrics.csv").exists() for n in (0, 1)):
        assert time.monotonic() < deadline, process.communicate(timeout=1)
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "what was trained is saved" in said
    assert not (here / "runs/tiny/seed-0/summary.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch" in done.stderr
    rows = (here / "runs/tiny/seed-0/metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(epoch) for epoch in range(1, 41)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_of_a_job_saves_all(tiny, here, number):
    """A process hears of an end from the batch system, and then from its parent."""
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), "training.epochs=400", "--seeds", "0-1"]
    # Saving takes its time.
    command += ["--jobs", "2", "network.3.fully_connected.units=10000", "training.optimizer.sgd.learning_rate=0.001"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    runs = [here / f"runs/tiny/seed-{seed}" for seed in (0, 1)]
    deadline = time.monotonic() + 100
    # A process that has only just begun to listen has nothing to save.
    while not all((run / "metrics.csv").exists() for run in runs):
        assert time.monotonic() < deadline, process.communicate(timeout=1)
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for one in [*map(int, children), process.pid]:
        os.kill(one, number)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "what was trained is saved" in said
    for run in runs:
        # Written when the state is saved.
        assert "interrupted by SIG" in (run / "log.txt").read_text()


def test_a_run_that_dies_is_reported_and_the_others_go_on(cnntrain, tiny, here, monkeypatch):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    plugin = here / "deadly.py"
    plugin.write_text(
        "import os\nfrom torch import nn\nfrom cnntrain.registry import layers\n\n"
        "@layers.register('deadly')\ndef deadly(given, /):\n"
        "    '''Ends the process whose seed is 1.'''\n"
        "    import torch\n"
        "    if torch.initial_seed() == 1 and os.getppid() != 1:\n        os._exit(9)\n    return nn.Identity()\n"
    )
    layers = "network=[{fully_connected: 4}, deadly, softmax]"
    outcome = cnntrain("train", tiny, layers, "--plugin", plugin, "--seeds", "0-1")
    assert outcome.code == 1
    assert "seed 1: its process ended with 9" in outcome.err
    assert (here / "runs/tiny/seed-0/summary.json").exists()


def test_verify(cnntrain, tiny, here):
    tiny.write_text(tiny.read_text() + CLAIM % 60)
    outcome = cnntrain("verify", tiny, "--seeds", "2", "--json")
    assert outcome.code == 0
    [claim] = json.loads(outcome.out)["claims"]
    figures = [json.loads((here / f"runs/tiny/seed-{n}/summary.json").read_text())["best"] for n in (0, 1)]
    best = max(figures, key=lambda one: one["validation_accuracy"])
    assert claim["figure"] == claim["best"] == pytest.approx(100 * best["test_accuracy"])
    assert claim["mean"] == pytest.approx(50 * sum(one["test_accuracy"] for one in figures))
    assert claim["allowed"] == pytest.approx(200 * (0.6 * 0.4 / 359) ** 0.5)
    tiny.write_text(tiny.read_text().replace("at_least: 60", "at_least: 100"))
    outcome = cnntrain("verify", tiny, "--seeds", "2")
    assert outcome.code == 3
    assert "FAILED" in outcome.out
    assert "not met: tiny (test_accuracy)" in outcome.err


def finished(trained, tiny, here, **figures):
    """A folder of runs of `tiny` that were finished with these figures: (validation, test) by seed."""
    summary = json.loads((trained / "summary.json").read_text())
    for seed, (validation, test) in enumerate(figures["accuracies"]):
        run = here / "runs" / "tiny" / f"seed-{seed}"
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").write_text(to_yaml(load_config(tiny, [f"seed={seed}"])))
        best = {**summary["best"], "validation_accuracy": validation, "test_accuracy": test}
        images = {**summary["images"], "test": figures["images"]}
        kept = {**summary, "run_dir": f"runs/tiny/seed-{seed}", "seed": seed, "best": best, "images": images}
        (run / "summary.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("claim", "figure", "code"),
    [
        # Two standard errors of 400 images are 1.59 points at 97.4 %, and 1.25 at 98.4 %.
        ("at_least: 97.4", 96, 0),
        ("at_least: 97.6", 96, 3),
        ("at_least: 98.2, of: mean", 97, 0),
        ("at_least: 98.4, of: mean", 97, 3),
    ],
)
def test_what_a_claim_is_held_against(cnntrain, trained, tiny, here, claim, figure, code):
    finished(trained, tiny, here, accuracies=[(0.9, 0.97), (0.95, 0.96), (0.92, 0.98)], images=400)
    tiny.write_text(f"{tiny.read_text()}\nexpect: {{test_accuracy: {{{claim}}}}}\n")
    outcome = cnntrain("verify", tiny, "--json")
    assert outcome.code == code
    [found] = json.loads(outcome.out)["claims"]
    claimed = float(claim[10:14])
    share = claimed / 100
    assert found == {
        "config": "tiny", "claim": "test_accuracy", "claimed": claimed, "source": None, "seeds": [0, 1, 2],
        "mean": pytest.approx(97), "standard_error": pytest.approx(1 / 3**0.5), "best": 96, "figure": figure,
        "allowed": pytest.approx(200 * (share * (1 - share) / 400) ** 0.5), "passed": code == 0, "remarks": [],
    }  # fmt: skip
    row = cnntrain("verify", tiny).out.splitlines()[1].split()
    least = claimed - found["allowed"]
    figures = [f"{claimed:.2f}", "3", "97.00", "+-", "0.58", "96.00", f"{figure:.2f}", f"{least:.2f}"]
    assert row == ["tiny", "test_accuracy", *figures, "FAILED" if code else "passed"]


def test_the_best_seed_is_that_by_what_is_monitored():
    figures = [
        {"validation_accuracy": 0.9, "validation_loss": 0.5, "test_accuracy": 0.91},
        {"validation_accuracy": 0.8, "validation_loss": 0.3, "test_accuracy": 0.82},
        {"validation_accuracy": 0.7, "validation_loss": 0.4, "test_accuracy": 0.73},
    ]
    for row, balanced in zip(figures, (0.4, 0.5, 0.6), strict=True):
        row["validation_balanced_accuracy"] = balanced
    found = [
        _best([{"best": row} for row in figures], f"validation_{what}")
        for what in ("accuracy", "loss", "balanced_accuracy")
    ]
    assert found == pytest.approx([91, 82, 73])


def test_what_makes_figures_worth_less_is_told_each_time(cnntrain, trained, tiny, here):
    finished(trained, tiny, here, accuracies=[(0.9, 0.97), (0.95, 0.96)], images=400)
    run = here / "runs" / "tiny" / "seed-1" / "summary.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "remarks": ["2 test images are also trained on"]}))
    tiny.write_text(tiny.read_text() + CLAIM % 50)
    outcome = cnntrain("verify", tiny, "--seeds", "2", "--json", "--quiet")
    assert outcome.err.count("warning: seed 1: 2 test images are also trained on") == 1
    [found] = json.loads(outcome.out)["claims"]
    assert found["remarks"] == ["2 test images are also trained on"]
    assert "remark: tiny: 2 test images are also trained on\n" in cnntrain("verify", tiny, "--seeds", "2").out


def test_a_config_says_how_many_seeds_its_claim_takes(cnntrain, trained, tiny, here):
    finished(trained, tiny, here, accuracies=[(0.9, 0.97), (0.95, 0.96), (0.92, 0.98), (0.99, 0.9)], images=400)
    tiny.write_text(tiny.read_text() + "\nexpect: {seeds: 4, test_accuracy: {at_least: 50}}\n")
    for asked, figure in ((), 90), (("--seeds", "2"), 96):
        [found] = json.loads(cnntrain("verify", tiny, "--json", *asked).out)["claims"]
        assert found["figure"] == figure


def test_a_claim_of_an_ensemble_alone(cnntrain, trained, tiny, here):
    finished(trained, tiny, here, accuracies=[(0.9, 0.5), (0.9, 0.7), (0.9, 0.6)], images=359)
    runs = [f"runs/tiny/seed-{seed}" for seed in range(3)]
    for run, saved in zip(runs, shaken(trained, 3), strict=True):
        checkpoint.save(here / run / "checkpoints" / "best.pt", saved)
    tiny.write_text(tiny.read_text() + "\nexpect: {ensemble_accuracy: {at_least: 10}}\n")
    [found] = json.loads(cnntrain("verify", tiny, "--json").out)["claims"]
    plurality, mean = (
        json.loads(cnntrain("ensemble", *runs, "--vote", vote, "--json").out)["accuracy"]
        for vote in ("plurality", "mean")
    )
    assert (found["claim"], found["figure"]) == ("ensemble_accuracy", pytest.approx(100 * plurality))
    assert plurality != mean
    assert (found["mean"], found["best"]) == (pytest.approx(60), 50)


def shaken(run, count):
    """The network of a run, with other weights that are wrong now and then."""
    saved, generator = checkpoint.load(run), torch.Generator().manual_seed(0)
    for _ in range(count):
        weights = {
            name: value + 0.3 * value.std() * torch.randn(value.shape, generator=generator)
            if value.dim() > 1
            else value
            for name, value in saved.weights.items()
        }
        yield replace(saved, weights=weights)


def test_a_config_whose_name_looks_like_an_override(cnntrain, trained, tiny, here):
    finished(trained, tiny, here, accuracies=[(0.9, 0.97)], images=400)
    (here / "runs" / "tiny").rename(here / "runs" / "a=b")
    (here / "a=b.yaml").write_text(tiny.read_text() + CLAIM % 50)
    assert cnntrain("verify", "a=b.yaml", "--seeds", "1").code == 0


def test_a_config_without_claims(cnntrain, tiny):
    outcome = cnntrain("verify", tiny)
    assert outcome.code == 2
    assert "there is no claim to verify" in outcome.err


def test_configs_without_claims_are_left_out(cnntrain, tiny, here):
    (here / "bold.yaml").write_text(tiny.read_text() + CLAIM % 10)
    outcome = cnntrain("verify", tiny, here / "bold.yaml", "--seeds", "1", "--json")
    assert outcome.code == 0
    assert "skipped, because nothing is claimed under `expect:`: tiny" in outcome.err
    assert [claim["config"] for claim in json.loads(outcome.out)["claims"]] == ["bold"]
    assert not (here / "runs" / "tiny").exists()


def test_another_claim_alone_trains_nothing_again(cnntrain, trained, tiny, here):
    finished(trained, tiny, here, accuracies=[(0.9, 0.97), (0.95, 0.96), (0.92, 0.98)], images=400)
    (here / "vote.yaml").write_text("extends: tiny.yaml\nexpect: {seeds: 2, test_accuracy: {at_least: 95, of: mean}}")
    (here / "other.yaml").write_text("extends: tiny.yaml\ntraining: {epochs: 1}\n" + CLAIM % 10)
    tiny.write_text(tiny.read_text() + CLAIM % 90)
    words = ("verify", tiny, here / "vote.yaml", here / "other.yaml", "--json", "-q")
    claims = json.loads(cnntrain(*words).out)["claims"]
    assert [(one["config"], one["seeds"]) for one in claims] == [
        ("tiny", [0, 1, 2]), ("vote", [0, 1]), ("other", [0, 1, 2]),
    ]  # fmt: skip
    assert claims[1]["figure"] == pytest.approx(96.5)
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["other", "tiny"]
    # What was trained is taken from where it is, and other runs of the config are not what is asked for.
    (here / "runs" / "tiny").rename(here / "runs" / "vote")
    (here / "runs" / "tiny" / "20260101-000000").mkdir(parents=True)
    outcome = cnntrain("verify", tiny, here / "vote.yaml", "--seeds", "1", "--json")
    assert [one["figure"] for one in json.loads(outcome.out)["claims"]] == [97, 97]
    assert "tiny: differs from vote only in `expect:`, and shares its runs\n" in outcome.err
    assert not list((here / "runs" / "tiny").glob("seed-*"))


def labels_of_test(run):
    model = load_model(run, Where(device="cpu"))
    return own_images(model, "test", Folders.standard(None), Silent()).labels


def probabilities_of_test(run):
    model = load_model(run, Where(device="cpu"))
    return model.logits(own_images(model, "test", Folders.standard(None), Silent())).softmax(1)


def test_ensemble(cnntrain, tiny, here):
    assert cnntrain("train", tiny, "--seeds", "0-2", "-q").code == 0
    runs = [f"runs/tiny/seed-{n}" for n in range(3)]
    for vote in ("plurality", "mean"):
        result = json.loads(cnntrain("ensemble", *runs, "--vote", vote, "--json").out)
        assert result["images"] == 359
        assert result["wrong"] == round((1 - result["accuracy"]) * 359)
        assert result["accuracy"] >= min(result["alone"].values())
        assert (here / "ensemble-errors.png").stat().st_size > 1000
    one = json.loads(cnntrain("eval", runs[1], "--json").out)
    assert result["alone"][runs[1]] == pytest.approx(one["accuracy"])
    assert [one["index"] for one in one["mistakes"]] != [one["index"] for one in result["mistakes"]]
    labels = labels_of_test(here / runs[0])
    assert all(str(labels[one["index"]]) == one["class"] != one["predicted"] for one in result["mistakes"])
    assert len(result["mistakes"]) == result["wrong"]
    sure = torch.stack([probabilities_of_test(here / run) for run in runs]).mean(0)
    names = json.loads(cnntrain("eval", runs[0], "--json").out)["classes"]
    classes = [row["class"] for row in names]
    for one in result["mistakes"]:
        wanted = sure[one["index"], classes.index(one["predicted"])].item()
        assert one["probability"] == pytest.approx(wanted, rel=1e-5)
    # A shell may leave a glob as it is.
    assert "images wrong" in cnntrain("ensemble", *runs).out == cnntrain("ensemble", "runs/tiny/seed-*").out
    assert cnntrain("compare", "runs/tiny/seed-[01]").out == cnntrain("compare", *runs[:2]).out
    nothing = cnntrain("compare", "runs/none/seed-*")
    assert nothing.code == 2 and "runs/none/seed-*" in nothing.err
    again = cnntrain("ensemble", *runs, f"{runs[1]}/checkpoints/best.pt")
    assert (again.code, again.err) == (2, f"error: {runs[1]}: is named twice, and would have two votes\n")


def test_what_the_vote_gets_wrong_is_drawn(cnntrain, trained, here, monkeypatch):
    for name, saved in zip(("one", "other"), shaken(trained, 2), strict=True):
        checkpoint.save(here / name, saved)
    paths = [trained, here / "one", here / "other"]
    models = [load_model(path, Where(device="cpu")) for path in paths]
    test = own_images(models[0], "test", Folders.standard(None), Silent())
    with torch.no_grad():
        images = models[0].preprocessing.normalize(to_unit(torch.from_numpy(test.pixels)))
        said = np.stack([model.network.eval()(images).softmax(1).numpy() for model in models])
    for vote in ("plurality", "mean"):
        votes = np.stack([(said.argmax(2) == digit).sum(0) for digit in range(10)], 1)
        voted = (votes if vote == "plurality" else said.mean(0)).argmax(1)
        if vote == "plurality":
            # Where all three differ, the largest mean decides.
            voted[votes.max(1) == 1] = said.mean(0).argmax(1)[votes.max(1) == 1]
        result = json.loads(cnntrain("ensemble", *paths, "--vote", vote, "--picture", "x.png", "--json").out)
        wrong = np.flatnonzero(voted != test.labels)
        assert 3 < len(wrong) == result["wrong"]
        assert result["accuracy"] == pytest.approx(1 - len(wrong) / 359)
        alone = (said.argmax(2) == test.labels).mean(1)
        assert result["alone"] == {str(path): pytest.approx(share) for path, share in zip(paths, alone, strict=True)}
        sure = said.mean(0)[np.arange(359), voted]
        # The surest first; of equally sure ones, as they come.
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
        captions = [f"{test.labels[i]}\npredicted {voted[i]}\n{100 * sure[i]:.1f} %" for i in wrong]
        assert (here / "x.png").read_bytes() == grid(test.pixels[wrong] / np.float32(255), 11, captions)
    monkeypatch.setattr("cnntrain.app.ensemble.DRAWN", 2)
    assert cnntrain("ensemble", *paths, "--vote", vote, "--picture", "x.png").code == 0
    assert (here / "x.png").read_bytes() == grid(test.pixels[wrong[:2]] / np.float32(255), 11, captions[:2])
    text = cnntrain("ensemble", *paths, "--picture", "x.png", "--vote", "mean").out.splitlines()
    assert text[:3] == [f"{100 * share:.2f} %  {path}" for path, share in zip(paths, alone, strict=True)]
    accuracy = f"{100 * result['accuracy']:.2f} %  mean vote: {len(wrong)} of 359 images wrong"
    assert text[3:] == [accuracy, "drawn in x.png"]


def test_networks_of_images_of_another_shape_do_not_vote_together(cnntrain, here):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16), np.uint8)
    (here / "c.yaml").write_text("data: {source: {npz: x.npz}}\nnetwork: [softmax]\ntraining: {epochs: 1}\n")
    for name, shape in (("tall", (8, 2)), ("wide", (2, 8))):
        np.savez(here / "x.npz", images=pixels.reshape(60, *shape), labels=np.arange(60) % 3)
        assert cnntrain("train", "c.yaml", "--run-dir", name, "-q").code == 0
    outcome = cnntrain("ensemble", "wide", "tall")
    assert (outcome.code, outcome.err) == (2, "error: tall: takes images of another shape than wide\n")


def test_a_vote_without_a_mistake_draws_nothing(cnntrain, here):
    images = (np.arange(60) % 2 * 255).astype(np.uint8).repeat(16).reshape(60, 4, 4)
    np.savez(here / "x.npz", images=images, labels=np.arange(60) % 2)
    (here / "c.yaml").write_text("data: {source: {npz: x.npz}}\nnetwork: [softmax]\ntraining: {epochs: 20}\n")
    assert cnntrain("train", "c.yaml", "--run-dir", "run", "-q").code == 0
    found = json.loads(cnntrain("ensemble", "run", "--json").out)
    assert (found["wrong"], found["accuracy"], found["picture"]) == (0, 1, None)
    assert cnntrain("ensemble", "run").out == "100.00 %  run\n100.00 %  plurality vote: 0 of 12 images wrong\n"
    assert not (here / "ensemble-errors.png").exists()


def test_networks_whose_classes_have_other_names_do_not_vote_together(cnntrain, trained, here):
    checkpoint.save(here / "other", replace(checkpoint.load(trained), classes=list("abcdefghij")))
    outcome = cnntrain("ensemble", trained, "other")
    assert (outcome.code, outcome.err) == (2, f"error: other: was trained on other data than {trained}\n")


def test_networks_that_were_trained_on_test_images_of_another_do_not_vote(cnntrain, tiny, here):
    for seed in (0, 1):
        assert cnntrain("train", tiny, f"data.test={{size: 0.2, seed: {seed}}}", "--run-dir", f"{seed}", "-q").code == 0
    outcome = cnntrain("ensemble", "0", "1")
    assert outcome.code == 2
    assert "error: 1: has a different test split from 0, and was trained on some of its test images" in outcome.err


def test_networks_of_other_folds_vote_on_the_test_images_that_they_have_in_common(cnntrain, here):
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 256, (40, 6, 6), np.uint8) for name in ("test", "0", "1", "2")}
    labels = np.arange(40) % 2
    (here / "c.yaml").write_text("network: [softmax]\ntraining: {epochs: 1}\n")
    for fold in ("0", "1"):
        test = {"x_test": arrays["test"], "y_test": labels}
        trained = {"x_train": arrays[fold], "y_train": labels, "x_val": arrays["2"], "y_val": labels}
        np.savez(here / f"fold-{fold}.npz", **trained, **test)
        data = f"data={{source: {{npz: fold-{fold}.npz}}}}"
        assert cnntrain("train", "c.yaml", data, "--run-dir", f"run-{fold}", "-q").code == 0
    found = json.loads(cnntrain("ensemble", "run-0", "run-1", "--json").out)
    assert found["images"] == 40 and list(found["alone"]) == ["run-0", "run-1"]


def test_networks_of_other_data_do_not_vote_together(cnntrain, trained, here):
    np.savez(here / "x.npz", images=np.zeros((200, 8, 8), np.uint8), labels=np.arange(200) % 10)
    config = here / "other.yaml"
    config.write_text("data: {source: {npz: {path: x.npz}}}\nnetwork: [softmax]\ntraining: {epochs: 1}\n")
    assert cnntrain("train", config, "--run-dir", "other", "-q").code == 0
    outcome = cnntrain("ensemble", trained, "other")
    assert outcome.code == 2
    assert "other: was trained on other data" in outcome.err


def test_a_plurality_and_its_ties():
    first = torch.tensor([[0.6, 0.3, 0.1]])
    second = torch.tensor([[0.1, 0.9, 0.0]])
    third = torch.tensor([[0.4, 0.35, 0.25]])
    assert decide(torch.stack([first, second, third]), "plurality").tolist() == [0]
    assert decide(torch.stack([first, second, third]), "mean").tolist() == [1]
    # One vote each for 0 and 1: the larger mean probability decides.
    assert decide(torch.stack([first, second]), "plurality").tolist() == [1]
    # So it does where the networks are so sure that float32 can't add their votes to it.
    sure = torch.tensor([[0.9999999, 1e-7], [0.9999999, 1e-7], [0.0, 1.0], [0.0, 1.0]])[:, None]
    assert decide(sure, "plurality").tolist() == decide(sure, "mean").tolist() == [1]


def test_orphans_end_by_themselves(tiny, here):
    command = [sys.executable, "-m", "cnntrain", "train", str(tiny), "training.epochs=100000", "--seeds", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = here / "runs/tiny/seed-0/log.txt"
    deadline = time.monotonic() + 60
    while not (log.exists() and "epoch" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while "interrupted by SIGTERM" not in log.read_text():
        assert time.monotonic() < deadline + 30
        time.sleep(0.05)


def test_a_run_that_went_on_with_other_settings_is_not_what_its_config_trains(cnntrain, tiny, here):
    kept = here / "runs" / "tiny" / "seed-0"
    assert cnntrain("train", tiny, "training.epochs=1", "--run-dir", kept, "-q").code == 0
    assert cnntrain("train", "--resume", kept, "training.checkpoint_every={steps: 9}", "-q").code == 0
    assert json.loads((kept / "summary.json").read_text())["changes"] == []
    constant = here / "constant"
    assert cnntrain("train", tiny, "training.epochs=1", "training.schedule=constant", "--run-dir", constant).code == 0
    assert cnntrain("train", "--resume", constant, "training.epochs=2", "-q").code == 0
    assert json.loads((constant / "summary.json").read_text())["changes"] == []
    assert cnntrain("train", "--resume", kept, "training.epochs=3", "training.checkpoint_every=null", "-q").code == 0
    changed = "after epoch 1, batch 0: training.epochs=3 training.checkpoint_every=null"
    assert json.loads((kept / "summary.json").read_text())["changes"] == [changed]
    outcome = cnntrain("train", tiny, "training.checkpoint_every=null", "--seeds", "0")
    assert outcome.code == 2
    assert f"was resumed with other settings ({changed}); move it away" in outcome.err
    assert cnntrain("train", tiny, "--run-dir", "straight", "-q").code == 0
    assert changed in " ".join(cnntrain("compare", kept, "straight").out.split())
    assert changed in (kept / "report.html").read_text()


def test_an_unfinished_run_that_went_on_with_other_settings_is_no_seed_of_a_config(cnntrain, tiny, here):
    config, place = load_config(tiny, ["training.l2=5"]), here / "runs" / "tiny" / "seed-0"
    with pytest.raises(Interrupted):
        train_run(config, place, Where(device="cpu"), InterruptAt(3))
    with pytest.raises(Interrupted):
        resume_run(place, ["training.l2=0"], Where(device="cpu"), InterruptAt(9))
    outcome = cnntrain("train", tiny, "--seeds", "0")
    assert outcome.code == 2
    assert "was resumed with other settings (after epoch 0, batch 3: training.l2=0); move it away" in outcome.err


def test_a_seed_that_was_cut_off_before_its_first_checkpoint_may_begin_again(tiny, here):
    RunDirectory.create(here / "seed-0", to_yaml(load_config(tiny))).close()
    assert _finished(here / "seed-0", load_config(tiny)) is None


def test_configs_of_one_name_are_not_verified_together(cnntrain, tiny, here):
    (here / "other").mkdir()
    (here / "other" / "tiny.yaml").write_text(tiny.read_text() + CLAIM % 50)
    outcome = cnntrain("verify", tiny, here / "other" / "tiny.yaml")
    assert outcome.code == 2
    assert "several configs are called tiny" in outcome.err
    assert not (here / "runs").exists()
