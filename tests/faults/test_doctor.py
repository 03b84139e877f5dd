"""`cnntrain doctor` names each kind of damage and what mends it; and that mends it."""

import csv
import json
import re
import shlex
import shutil
from contextlib import closing
from dataclasses import replace

import pytest

from cnntrain import registry
from cnntrain.config.load import to_yaml
from cnntrain.errors import Paused
from cnntrain.run import checkpoint
from cnntrain.run.directory import RunDirectory, as_csv
from tests.app.test_configure import LAYER

from .cases import CONFIG, assert_same_runs, config_of, go_on, whole

# Columns and keys that runs of earlier versions have not.
LATER = ("validation_balanced_accuracy", "test_balanced_accuracy")


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(whole(), tmp_path / "a run")


def test_a_sound_run(cnntrain, run):
    outcome = cnntrain("doctor", run)
    assert outcome.code == 0
    assert outcome.out == f"{run}: finished: all 4 epochs are done\nsound\n"
    assert json.loads(cnntrain("doctor", run, "--json").out) == {
        "run_dir": str(run),
        "status": "finished: all 4 epochs are done",
        "problems": [],
        "notes": [],
        "sound": True,
    }


def test_several_runs(cnntrain, run, tmp_path):
    other = shutil.copytree(run, tmp_path / "b run")
    outcome = cnntrain("doctor", run, other)
    assert (outcome.code, outcome.out) == (0, "".join(cnntrain("doctor", one).out for one in (run, other)))
    assert cnntrain("doctor", tmp_path / "? run").out == outcome.out
    (other / "metrics.csv").unlink()
    outcome = cnntrain("doctor", run, other)
    assert outcome.out == "".join(cnntrain("doctor", one).out for one in (run, other))
    assert (outcome.code, outcome.err) == (2, "error: 1 of 2 runs: 1 problem\n")
    outcome = cnntrain("doctor", run, other, "--json")
    stray = cnntrain("doctor", run, tmp_path, other)
    assert (stray.code, stray.err) == (2, "error: 2 of 3 runs: 2 problems\n")
    assert "not a run directory" in stray.out and stray.out.endswith(cnntrain("doctor", other).out)
    alone = [json.loads(cnntrain("doctor", one, "--json").out) for one in (run, other)]
    assert (outcome.code, json.loads(outcome.out)) == (2, {"runs": alone})


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_a_row(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def double_a_row(path):
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def spoil(path):
    path.write_bytes(path.read_bytes() + b"\xff")


def other(figure):
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), figure: {}}))


DAMAGE = {
    "checkpoints/last.pt": [cut, lambda path: path.unlink()],
    "metrics.csv": [cut, drop_a_row, double_a_row, spoil, lambda path: path.unlink()],
    "diagnostics.csv": [drop_a_row],
    "summary.json": [
        cut,
        spoil,
        lambda path: path.unlink(),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text("[]"),
        *(other(figure) for figure in ("epochs", "best", "last")),
    ],
    "config.yaml": [
        spoil,
        lambda path: path.unlink(),
        lambda path: path.write_text("network: [sofmax]\n"),
        lambda path: path.write_text(path.read_text().replace("epochs: 4", "epochs: 9")),
    ],
}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name in DAMAGE for i in range(len(DAMAGE[name]))])
def test_damage_is_named_and_mended(cnntrain, run, name, number):
    DAMAGE[name][number](run / name)
    outcome = cnntrain("doctor", run, "--json")
    assert (outcome.code, outcome.err) == (2, f"error: {run}: 1 problem\n")
    assert json.loads(outcome.out)["sound"] is False
    [problem] = json.loads(outcome.out)["problems"]
    assert str(run / name) in problem["what"]
    fix = shlex.split(problem["fix"])
    assert fix[:3] == ["cnntrain", "train", "--resume"]
    mended = cnntrain(*fix[1:])
    assert mended.code == 0, mended.err
    assert cnntrain("doctor", run).code == 0
    assert_same_runs(whole(), run)


@pytest.mark.parametrize("damage", [cut, lambda path: path.unlink()])
def test_a_best_epoch_that_was_the_last_is_written_again(cnntrain, tmp_path, damage):
    run = shutil.copytree(whole(CONFIG, "training.epochs=1"), tmp_path / "a run")
    damage(run / "checkpoints" / "best.pt")
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    assert str(run / "checkpoints" / "best.pt") in problem["what"]
    assert shlex.split(problem["fix"]) == ["cnntrain", "train", "--resume", str(run)]
    assert cnntrain(*shlex.split(problem["fix"])[1:]).code == 0
    assert_same_runs(whole(CONFIG, "training.epochs=1"), run)


@pytest.mark.parametrize("damage", [cut, lambda path: path.unlink()])
def test_a_best_epoch_that_was_not_the_last_can_not_be_had_again(cnntrain, run, damage):
    # Whatever was learned decays at once.
    forget = ("training.epochs=5", "training.optimizer={sgd: {learning_rate: 0.1, weight_decay: 10}}")
    assert cnntrain("train", "--resume", run, *forget, "-q").code == 0
    assert checkpoint.load(run / "checkpoints" / "best.pt").result["epoch"] < 5
    damage(run / "checkpoints" / "best.pt")
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    last = run / "checkpoints" / "last.pt"
    lost = f"its epoch was not the last and can't be recovered; evaluate {last}, or train again"
    assert problem["fix"] == f"{lost}: cnntrain train '{run / 'config.yaml'}'"
    assert cnntrain("eval", last).code == 0


def test_what_can_not_be_resumed_is_begun_again(cnntrain, run):
    for name in ("last", "previous"):
        cut(run / "checkpoints" / f"{name}.pt")
    (run / "metrics.csv").unlink()
    found = json.loads(cnntrain("doctor", run, "--json").out)
    assert found["status"] == "can't be resumed"
    assert [problem["fix"] for problem in found["problems"]] == [
        f"begin again with: cnntrain train '{run / 'config.yaml'}'",
        "none needed: the next checkpoint replaces it",
    ]


def test_where_no_checkpoint_is_whole_it_can_not_go_on(cnntrain, run):
    for file in (run / "checkpoints").iterdir():
        cut(file)
    (run / "metrics.csv").unlink()
    assert json.loads(cnntrain("doctor", run, "--json").out)["status"] == "can't be resumed"


def test_epochs_without_a_state_can_not_go_on(cnntrain, run):
    for file in (run / "checkpoints").iterdir():
        file.unlink()
    found = json.loads(cnntrain("doctor", run, "--json").out)
    assert found["status"] == "can't be resumed"
    fix = f"begin again with: cnntrain train '{run / 'config.yaml'}'"
    assert found["problems"] == [{"what": f"{run / 'checkpoints' / 'last.pt'}: missing", "fix": fix}]


def test_a_run_that_lost_its_state_is_not_begun_over_its_best_epoch(cnntrain, run):
    for name in ("last", "previous"):
        (run / "checkpoints" / f"{name}.pt").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = cnntrain("train", "--resume", run, "training.epochs=9")
    assert outcome.code == 2
    assert "are missing, so the run can't be resumed; start a new one, with `init_from: " in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_had_no_checkpoint_begins_without_its_folder(cnntrain, run):
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()
    assert cnntrain("train", "--resume", run).code == 0
    assert cnntrain("doctor", run).code == 0


def test_the_config_of_the_checkpoint_before_does_not_count(cnntrain, run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 9"))
    cut(run / "checkpoints" / "last.pt")
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    assert problem["what"].startswith(f"{run / 'checkpoints' / 'last.pt'}: damaged")


def test_a_run_with_a_plugin(cnntrain, tmp_path, monkeypatch):
    before = dict(registry.layers._entries)
    monkeypatch.setattr(registry.layers, "_entries", dict(before))
    plugin, config, run = tmp_path / "own.py", tmp_path / "c.yaml", tmp_path / "run"
    plugin.write_text(LAYER.format(name="own"))
    config.write_text("network: [own, softmax]\ntraining: {epochs: 1}\n")
    assert cnntrain("train", config, "--plugin", plugin, "--run-dir", run, "-q").code == 0
    (run / "summary.json").unlink()
    [problem] = json.loads(cnntrain("doctor", run, "--plugin", plugin, "--json").out)["problems"]
    assert problem == {
        "what": f"{run / 'summary.json'}: missing, though the run is finished",
        "fix": f"cnntrain train --resume {run} --plugin {plugin}",
    }
    registry.layers._entries = before
    problems = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    # Nothing else would help, but for the summary.
    name_them = "name the plugins that the run was trained with: --plugin FILE"
    resume = f"cnntrain train --resume {run}"
    assert [problem["fix"] for problem in problems] == [name_them] * (len(problems) - 1) + [resume]
    assert problems[-2]["what"].startswith(f"{run / 'config.yaml'}:")


def test_a_config_that_is_damaged_beside_a_plugin_that_nothing_needs(cnntrain, tmp_path, monkeypatch):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    plugin, config, run = tmp_path / "own.py", tmp_path / "c.yaml", tmp_path / "run"
    plugin.write_text(LAYER.format(name="own"))
    config.write_text("network: [softmax]\ntraining: {epochs: 1}\n")
    assert cnntrain("train", config, "--plugin", plugin, "--run-dir", run, "-q").code == 0
    (run / "config.yaml").write_text("network: [softmax\n")
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    assert problem["what"].startswith(f"{run / 'config.yaml'}:2:1: ")
    assert problem["fix"] == f"cnntrain train --resume {run}"


@pytest.mark.parametrize(
    "damage", [cut, lambda path: path.unlink(), lambda path: shutil.copy(path.with_name("best.pt"), path)]
)
def test_the_checkpoint_before_is_offered(cnntrain, run, damage):
    damage(run / "checkpoints" / "last.pt")
    (run / "metrics.csv").unlink()
    found = json.loads(cnntrain("doctor", run, "--json").out)
    [problem] = found["problems"]
    assert found["status"] == "can't be resumed"
    assert str(run / "checkpoints" / "last.pt") in problem["what"]
    assert shlex.split(problem["fix"]) == ["cnntrain", "train", "--resume", str(run / "checkpoints" / "previous.pt")]


@pytest.mark.parametrize("name", ["best", "last"])
def test_weights_that_are_not_finite(cnntrain, run, name):
    path = run / "checkpoints" / f"{name}.pt"
    saved = checkpoint.load(path)
    saved.weights["1_batch_norm.weight"][2] = float("nan")
    checkpoint.save(path, saved)
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    fix = "begin again with a lower learning rate"
    assert problem == {"what": f"{path}: `1_batch_norm.weight` is not finite", "fix": fix}


@pytest.mark.parametrize(("name", "row"), [("history", {"epoch": 1}), ("health", {}), ("history", 1)])
def test_a_sealed_state_with_rows_that_are_none(cnntrain, run, name, row):
    path = run / "checkpoints" / "last.pt"
    saved = checkpoint.load(path)
    saved.training[name] = [row]
    checkpoint.save(path, saved)
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    assert problem["what"] == f"{path}: not a whole checkpoint of this program"
    assert shlex.split(problem["fix"])[-1] == str(run / "checkpoints" / "previous.pt")


def test_rows_that_are_gone_are_counted(cnntrain, run):
    (run / "metrics.csv").unlink()
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    last = run / "checkpoints" / "last.pt"
    assert problem["what"] == f"{run / 'metrics.csv'}: has 0 rows, not 4, compared with {last}"


def test_a_config_alone_is_mended_by_hand(cnntrain, tmp_path):
    RunDirectory.create(tmp_path / "run", "network: [sofmax]\n").close()
    [problem] = json.loads(cnntrain("doctor", tmp_path / "run", "--json").out)["problems"]
    assert problem["what"].startswith(f"{tmp_path / 'run' / 'config.yaml'}:1:11: unknown layer `sofmax`")
    assert problem["fix"] == "fix it by hand"


def test_what_a_killed_process_leaves_is_noted(cnntrain, run):
    (run / ".owner").write_text("123 on somewhere")
    (run / "checkpoints" / ".last.pt.abc.part").write_bytes(b"half")
    notes = [
        "process 123 on somewhere ended without closing this run",
        f"{run / 'checkpoints' / '.last.pt.abc.part'}: half-written, left behind",
    ]
    found = json.loads(cnntrain("doctor", run, "--json").out)
    assert (found["notes"], found["sound"]) == (notes, True)
    outcome = cnntrain("doctor", run)
    assert (outcome.code, outcome.out.splitlines()[1:]) == (0, [*(f"note: {note}" for note in notes), "sound"])


def test_files_are_not_compared_while_they_are_written(cnntrain, run):
    drop_a_row(run / "metrics.csv")
    with closing(RunDirectory.open(run)):
        outcome = cnntrain("doctor", run)
    said = ["note: files were not compared with each other, as they are being written", "sound"]
    assert (outcome.code, outcome.out.splitlines()[1:]) == (0, said)
    assert cnntrain("doctor", run).code == 2


def test_a_summary_that_is_nested_without_end(cnntrain, run):
    (run / "summary.json").write_text("[" * 200_000)
    [problem] = json.loads(cnntrain("doctor", run, "--json").out)["problems"]
    assert problem["what"].startswith(f"{run / 'summary.json'}: damaged (RecursionError(")


def test_all_problems_at_once(cnntrain, run):
    for name in ("checkpoints/previous.pt", "metrics.csv", "summary.json"):
        cut(run / name)
    outcome = cnntrain("doctor", run)
    assert outcome.code == 2
    assert outcome.out.count("problem: ") == outcome.out.count("    fix: ") == 3
    assert outcome.err == f"error: {run}: 3 problems\n"


def test_another_runs_checkpoint(cnntrain, run):
    shutil.copy(whole(*_other()) / "checkpoints" / "best.pt", run / "checkpoints" / "best.pt")
    assert cnntrain("doctor", run).code == 2


def _other():
    from .cases import CONFIG

    return CONFIG, "seed=1", "training.epochs=1"


def test_the_best_checkpoint_alone_is_nothing_to_go_on_from_and_nothing_in_the_way(cnntrain, run):
    for name in ("checkpoints/last.pt", "checkpoints/previous.pt", "metrics.csv", "diagnostics.csv", "summary.json"):
        (run / name).unlink()
    found = json.loads(cnntrain("doctor", run, "--json").out)
    assert (found["status"] == "can't be resumed") == (not found["sound"])


def test_where_the_checkpoint_before_is_damaged_and_the_last_is_gone_something_mends_it(cnntrain, run):
    (run / "checkpoints" / "last.pt").unlink()
    cut(run / "checkpoints" / "previous.pt")
    (run / "metrics.csv").unlink()
    found = json.loads(cnntrain("doctor", run, "--json").out)
    fixes = [problem["fix"] for problem in found["problems"]]
    assert f"begin again with: cnntrain train '{run / 'config.yaml'}'" in fixes


def test_a_run_before_its_first_checkpoint(cnntrain, tmp_path):
    RunDirectory.create(tmp_path / "run", to_yaml(config_of())).close()
    outcome = cnntrain("doctor", tmp_path / "run")
    assert outcome.code == 0
    assert "no checkpoint yet; begins with: cnntrain train --resume" in outcome.out
    go_on(tmp_path / "run", config_of())
    assert_same_runs(whole(), tmp_path / "run")


def test_a_run_saved_within_its_first_epoch(cnntrain, tmp_path):
    from cnntrain.app.train import train_stepwise
    from cnntrain.app.where import Where

    run = train_stepwise(config_of(), tmp_path / "run", Where(), None)
    assert 0 < next(run) < next(run) < 0.25
    with pytest.raises(Paused):
        run.throw(Paused())
    outcome = cnntrain("doctor", tmp_path / "run")
    assert outcome.code == 0
    assert "not finished; continue after epoch 0, batch 2 with: cnntrain train --resume" in outcome.out
    shutil.copy(whole() / "summary.json", tmp_path / "run")
    said = cnntrain("doctor", tmp_path / "run").out
    assert f"problem: {tmp_path / 'run' / 'summary.json'}: exists, though the run is not finished" in said
    shutil.copy(whole() / "metrics.csv", tmp_path / "run")
    said = cnntrain("doctor", tmp_path / "run").out
    assert f"problem: {tmp_path / 'run' / 'metrics.csv'}: has 4 rows, not 0, compared with " in said
    go_on(tmp_path / "run", config_of())
    assert_same_runs(whole(), tmp_path / "run")


def test_what_is_no_run(cnntrain, tmp_path):
    outcome = cnntrain("doctor", tmp_path)
    assert outcome.code == 2
    assert "not a run directory" in outcome.err
    assert cnntrain("doctor", tmp_path / "none").code == 2


def test_a_run_that_diverged_says_so(cnntrain, tiny, tmp_path):
    run = tmp_path / "run"
    assert cnntrain("train", tiny, "training.optimizer.sgd.learning_rate=1e30", "--run-dir", run).code == 1
    assert "note: its log ends with: the loss is nan in epoch 1" in cnntrain("doctor", run).out
    outcome = cnntrain("report", run)
    assert outcome.code == 2
    assert f"not finished; go on with `cnntrain train --resume {run}`; its log ends with: the loss is" in outcome.err
    assert "examine the `init` with `cnntrain probe`" in outcome.err
    (run / "log.txt").unlink()
    assert "its log" not in cnntrain("doctor", run).out + cnntrain("report", run).err


def test_a_run_of_an_earlier_version_is_sound_before_and_after_it_is_opened(cnntrain, run):
    def older(row):
        return {name: value for name, value in row.items() if name not in LATER}

    for name in ("last", "previous", "best"):
        file = run / "checkpoints" / f"{name}.pt"
        saved = checkpoint.load(file)
        training = {key: value for key, value in saved.config["training"].items() if key != "monitor"}
        known = saved.training and {**saved.training, "history": [older(row) for row in saved.training["history"]]}
        result = saved.result and older(saved.result)
        changed = {"config": {**saved.config, "training": training}, "training": known, "result": result}
        checkpoint.save(file, replace(saved, **changed))
    with (run / "metrics.csv").open(newline="") as file:
        rows = [older(row) for row in csv.DictReader(file)]
    (run / "metrics.csv").write_text(as_csv(rows))
    summary = json.loads((run / "summary.json").read_text())
    summary |= {name: older(summary[name]) for name in ("best", "last")} | {"device": "another machine"}
    (run / "summary.json").write_text(json.dumps(summary))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub("  monitor: .*\n", "", config))
    assert (run / "config.yaml").read_text() != config
    assert cnntrain("doctor", run).code == cnntrain("report", run).code == 0
    outcome = cnntrain("train", "--resume", run)
    assert outcome.code == 0 and "warning" not in outcome.err
    assert (run / "config.yaml").read_text() == config
    # What trained it is still what trained it.
    assert json.loads((run / "summary.json").read_text())["device"] == "another machine"
    assert cnntrain("doctor", run).code == 0
    assert cnntrain("report", run).code == cnntrain("eval", run).code == 0


def test_columns_and_keys_of_a_later_version_are_no_traceback(cnntrain, run):
    file = run / "checkpoints" / "last.pt"
    saved = checkpoint.load(file)
    later = [{**row, "calibration": 0.5} for row in saved.training["history"]]
    config = {**saved.config, "training": {**saved.config["training"], "future": 1}}
    checkpoint.save(file, replace(saved, config=config, training={**saved.training, "history": later}))
    outcome = cnntrain("doctor", run)
    assert outcome.code == 2 and f"{run / 'config.yaml'}: differs from the config in " in outcome.out
