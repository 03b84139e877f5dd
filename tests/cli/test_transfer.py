"""`export` and `init_from`: weights out of a checkpoint."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import yaml
from safetensors import safe_open
from sklearn.datasets import load_digits

from cnntrain.app.configure import load_config
from cnntrain.app.model import load_model
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.transfer import matched, transfer
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved, resolved, to_yaml
from cnntrain.errors import CheckpointError, Interrupted
from cnntrain.network.build import build
from cnntrain.run import checkpoint
from cnntrain.run.directory import RunDirectory
from tests.training.test_resume import InterruptAt


def weights(run, name="best"):
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)["weights"]


def test_safetensors(cnntrain, trained, tmp_path):
    outcome = cnntrain("export", trained, "--output", tmp_path / "n.safetensors")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'n.safetensors'}\n")
    loaded, own = safetensors.torch.load_file(tmp_path / "n.safetensors"), weights(trained)
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[name], own[name]) for name in own)
    with safe_open(tmp_path / "n.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["preprocessing"]) == checkpoint.load(trained).preprocessing
    assert json.loads(metadata["classes"]) == [str(digit) for digit in range(10)]
    # The config in it builds the same network.
    assert from_resolved(json.loads(metadata["config"])).network[0].name == "conv"


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_filters_that_lie_channel_by_channel(cnntrain, trained, tmp_path, kind):
    # As those of every layer but the first, whose images have one channel.
    filters = torch.arange(36.0).reshape(2, 2, 3, 3).to(memory_format=torch.channels_last)
    saved = replace(checkpoint.load(trained), weights={"1_conv.0.weight": filters})
    checkpoint.save(tmp_path / "x.pt", saved)
    assert cnntrain("export", tmp_path / "x.pt", "--format", kind).code == 0
    read = safetensors.numpy.load_file if kind == "safetensors" else np.load
    found = read(tmp_path / f"x.{kind}")["1_conv.0.weight"]
    assert np.array_equal(found, np.arange(36.0, dtype=np.float32).reshape(2, 2, 3, 3))


def test_npz_without_pickle(cnntrain, trained, tmp_path):
    copy = tmp_path / "one.pt"
    copy.write_bytes((trained / "checkpoints" / "best.pt").read_bytes())
    assert cnntrain("export", copy, "--format", "npz").out == f"{tmp_path / 'one.npz'}\n"
    with np.load(tmp_path / "one.npz", allow_pickle=False) as arrays:
        for name, tensor in weights(trained).items():
            assert np.array_equal(arrays[name], tensor.numpy())
            assert arrays[name].dtype == tensor.numpy().dtype
        saved = checkpoint.load(copy)
        found = {"config": saved.config, "classes": saved.classes, "preprocessing": saved.preprocessing}
        assert json.loads(str(arrays["metadata"])) == found


def test_weights_go_beside_the_checkpoint(cnntrain, trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    assert cnntrain("export", run).out == f"{run / 'best.safetensors'}\n"
    last = run / "checkpoints" / "last.pt"
    assert cnntrain("export", last, "--format", "npz").out == f"{last.with_suffix('.npz')}\n"
    assert (run / "best.safetensors").is_file() and last.with_suffix(".npz").is_file()


def test_what_the_last_layer_has_for_a_class_is_taken_by_its_name(trained, tiny):
    saved, network = checkpoint.load(trained), load_model(trained, Where(device="cpu")).network
    order = [3, 1, 0, 2, *range(9, 3, -1)]
    turned = [saved.classes[number] for number in order]
    for classes, said in ((turned, "by the names of classes"), ([*"abcdefghij"], "no: it is for other classes there")):
        for parameter in network.parameters():
            parameter.data.zero_()
        told = transfer(trained, saved, network, classes).text
        assert told.count(said) == 2
        for name, tensor in network.state_dict().items():
            if "softmax" not in name:
                assert torch.equal(tensor, saved.weights[name])
            elif classes is turned:
                assert torch.equal(tensor, saved.weights[name][order])
            else:
                assert not tensor.any()


def test_a_bad_checkpoint(cnntrain, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nothing")
    assert cnntrain("export", tmp_path / "x.pt").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_init_from_takes_what_matches_and_says_what_not(cnntrain, trained, tiny, tmp_path):
    overrides = [
        f"init_from={trained}",
        "network.3.fully_connected.units=20",
        "training.optimizer.sgd.learning_rate=1e-12",
    ]
    outcome = cnntrain("train", tiny, *overrides, "training.epochs=1", "--run-dir", tmp_path / "run")
    assert outcome.code == 0
    table = {line.split()[0]: line for line in outcome.err.splitlines() if "." in line.split(" ")[0]}
    assert table["0_conv.0.weight"].endswith("yes")
    assert "no: its shape there is (32, 72)" in table["3_fully_connected.linear.weight"]
    assert f"taken from {trained}?" in outcome.err
    # Of the last layer, whose weights for each class have other inputs now, its biases are left too.
    assert table["4_softmax.linear.bias"].endswith("no: the rest of its layer does not fit")
    assert "7 of 11 tensors taken" in outcome.err
    assert torch.allclose(weights(tmp_path / "run")["0_conv.0.weight"], weights(trained)["0_conv.0.weight"], atol=1e-6)


def test_a_layer_of_as_many_numbers_in_another_shape_stays(trained, tmp_path):
    weights = {"0.weight": torch.zeros(3, 2), "0.bias": torch.ones(2), "1.weight": torch.ones(5, 2)}
    saved = replace(checkpoint.load(trained), weights={**weights, "1.bias": torch.ones(5)})
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5))
    before = {name: tensor.clone() for name, tensor in network[0].state_dict().items()}
    *_, weight, bias, later, _, taken = transfer(tmp_path / "x.pt", saved, network, saved.classes).text.splitlines()
    assert weight.split(maxsplit=3) == ["0.weight", "(2,", "3)", "no: its shape there is (3, 2)"]
    assert bias.split(maxsplit=2) == ["0.bias", "(2,)", "no: the rest of its layer does not fit"]
    assert later.split(maxsplit=3) == ["1.weight", "(5,", "2)", "yes"]
    assert taken == "2 of 4 tensors taken"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network[0].state_dict().items())
    assert network[1].bias.tolist() == [1] * 5


def test_a_network_goes_on_from_where_another_stopped(trained, tiny, tmp_path):
    config = load_config(tiny, [f"init_from={trained}", "training.epochs=1"])
    summary = train_run(config, tmp_path / "run", Where())
    first = json.loads((trained / "summary.json").read_text())["best"]["validation_accuracy"]
    # The tiny network needs three epochs from nothing for what it now has after one.
    assert summary["best"]["validation_accuracy"] >= first - 0.05


def test_who_was_cut_off_before_the_first_checkpoint_begins_with_those_weights_too(trained, tiny, tmp_path):
    config = load_config(tiny, [f"init_from={trained}", "training.epochs=1"])
    train_run(config, tmp_path / "whole", Where())
    RunDirectory.create(tmp_path / "cut off", to_yaml(config)).close()
    resume_run(tmp_path / "cut off", [], Where())
    own = weights(tmp_path / "cut off")
    assert all(torch.equal(own[name], value) for name, value in weights(tmp_path / "whole").items())
    assert "11 of 11 tensors taken" in (tmp_path / "cut off" / "log.txt").read_text()


def test_a_run_tells_which_weights_it_began_with(trained, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source" / "checkpoints" / "best.pt"
    source.parent.mkdir(parents=True)
    shutil.copyfile(trained / "checkpoints" / "best.pt", source)
    begun = {"path": str(source), "sha256": checkpoint.load(source).fingerprint, "taken": 11, "of": 11, "remarks": []}
    begun["validation_accuracy"] = json.loads((trained / "summary.json").read_text())["best"]["validation_accuracy"]
    config = load_config(tiny, ["init_from=source", "training.epochs=2"])
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "run", Where(), InterruptAt("epoch 1/2"))
    # Others take their place before it goes on.
    saved = checkpoint.load(source)
    checkpoint.save(source, replace(saved, weights={name: value + 1 for name, value in saved.weights.items()}))
    assert checkpoint.load(source).fingerprint != begun["sha256"]
    assert resume_run(tmp_path / "run", [], Where())["init_from"] == begun
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["init_from"] == begun
    last = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
    assert last.training["init_from"] == begun
    # Earlier versions did not know.
    del last.training["init_from"]
    checkpoint.save(tmp_path / "run" / "checkpoints" / "last.pt", last)
    assert resume_run(tmp_path / "run", ["training.epochs=3"], Where())["init_from"] is None
    assert json.loads((trained / "summary.json").read_text())["init_from"] is None


def test_a_fingerprint_is_of_all_that_can_be_taken(trained):
    saved = checkpoint.load(trained)
    filters = saved.weights["0_conv.0.weight"].repeat(1, 3, 1, 1)
    named = {"a": filters, "b": torch.tensor(3), "c": torch.zeros(0, dtype=torch.bfloat16)}

    def fingerprint(**changed):
        return replace(saved, weights=named | changed).fingerprint

    assert fingerprint(a=filters.to(memory_format=torch.channels_last)) == fingerprint()
    others = [
        fingerprint(a=filters.nextafter(torch.tensor(9.0))),
        fingerprint(a=filters.flatten(2)),
        fingerprint(b=torch.tensor(3, dtype=torch.int32)),
        fingerprint(d=torch.tensor(3)),
        replace(saved, weights=named, classes=saved.classes[::-1]).fingerprint,
    ]
    assert len({fingerprint(), *others}) == 6


def test_init_from_of_something_that_takes_no_images(cnntrain, trained, tiny, tmp_path):
    saved = replace(checkpoint.load(trained), preprocessing={"shape": [1, 8, 8], "mean": ["x"], "std": [1.0]})
    checkpoint.save(tmp_path / "x.pt", saved)
    outcome = cnntrain("train", tiny, f"init_from={tmp_path / 'x.pt'}", "--run-dir", tmp_path / "run")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"error: `init_from: {tmp_path / 'x.pt'}`: its preprocessing is not one of images\n"
    assert not (tmp_path / "run").exists()


def test_init_from_of_nothing_that_matches(cnntrain, trained, tmp_path):
    (tmp_path / "c.yaml").write_text(f"init_from: {trained}\nnetwork: [{{fully_connected: 5}}, softmax]\n")
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "no layer matches by name and shape" in outcome.err


def test_an_init_from_that_is_none_leaves_no_run_behind(cnntrain, tiny, tmp_path):
    outcome = cnntrain("train", tiny, f"init_from={tmp_path / 'nothing'}", "--run-dir", tmp_path / "run")
    assert outcome.code != 0
    assert "no checkpoint" in outcome.err
    assert f"`init_from: {tmp_path / 'nothing'}`: " in outcome.err and "a relative path" not in outcome.err
    assert not (tmp_path / "run").exists()
    outcome = cnntrain("train", tiny, "init_from=nothing", "--run-dir", tmp_path / "run")
    assert "; a relative path starts at the current directory" in outcome.err


def test_a_run_is_not_written_over(cnntrain, trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    before = (run / "checkpoints" / "last.pt").read_bytes()
    outcome = cnntrain("export", run, "--output", run / "checkpoints" / "last.pt")
    assert outcome.code == 2 and "ends in .safetensors" in outcome.err
    assert (run / "checkpoints" / "last.pt").read_bytes() == before
    outcome = cnntrain("compare", run, trained, "--picture", run / "config.yaml")
    assert outcome.code == 2 and "pictures are PNG files" in " ".join(outcome.err.replace("│", "").split())
    assert (run / "config.yaml").read_text().startswith("seed")


# --- what a network takes, and what it is told of it

HEAD = "network: [{conv: {filters: 8, kernel_size: 3, activation: relu}}, %s]\n"
CONVOLUTIONAL = HEAD % "{conv: {filters: 10, kernel_size: 3}}, batch_norm, global_avg_pool"


def images_of(tmp_path, order, names=None, count=400):
    """digits as an npz whose class `order[i]` has the number i; and their names."""
    found = load_digits()
    chosen = np.isin(found.target, order)
    labels = np.array([order.index(label) for label in found.target[chosen]])[:count]
    images = (found.images[chosen] * 15.9375).astype(np.uint8)[:count]
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    return f"data={{source: {{npz: {{path: {tmp_path}/x.npz, classes: {[str(one) for one in names or order]}}}}}}}"


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    """A run of a network whose last layer with weights is not its last one."""
    folder = tmp_path_factory.mktemp("convolutional")
    (folder / "c.yaml").write_text(CONVOLUTIONAL + "training: {epochs: 8, optimizer: {adam: {learning_rate: 0.01}}}")
    train_run(load_config(folder / "c.yaml"), folder / "run", Where(device="cpu"))
    return folder / "run"


def taken(tmp_path, run, data):
    """The summary of a run that begins with those weights and learns next to nothing."""
    config = load_config(
        run.parent / "c.yaml", [f"init_from={run}", data, "training.optimizer.adam.learning_rate=1e-9"]
    )
    return train_run(config, tmp_path / "on", Where(device="cpu"))


def test_all_that_a_head_has_for_a_class_is_taken_by_its_name(convolutional, tmp_path):
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    first = json.loads((convolutional / "summary.json").read_text())["best"]["validation_accuracy"]
    summary = taken(tmp_path, convolutional, images_of(tmp_path, order))
    assert summary["init_from"]["taken"] == summary["init_from"]["of"] == 9
    assert first > 0.8 and summary["init_from"]["validation_accuracy"] > first - 0.1
    saved = checkpoint.load(convolutional)
    network = load_model(convolutional, Where(device="cpu")).network
    for value in network.state_dict().values():
        value.zero_()
    told = transfer(convolutional, saved, network, [str(one) for one in order]).text
    assert told.count("yes, by the names of classes") == 6
    for name, value in network.state_dict().items():
        there = saved.weights[name]
        assert torch.equal(value, there[order] if name[0] in "12" and there.dim() else there)


def test_classes_that_both_have_are_taken_and_the_others_are_begun_anew(convolutional, tmp_path):
    saved, config = checkpoint.load(convolutional), load_config(convolutional / "config.yaml")
    for classes in (["7", "new", "2"], [*map(str, range(10)), "new"]):
        network = build(config_of(config, len(classes)), (1, 8, 8), len(classes))
        fresh = {name: value.clone() for name, value in network.state_dict().items()}
        shared = [name for name in classes if name != "new"]
        told = transfer(convolutional, saved, network, classes).text
        assert told.count(f"yes, by {len(shared)} of {len(classes)} classes") == 6
        assert "9 of 9 tensors taken" in told
        for name, value in network.state_dict().items():
            if name[0] == "0" or not value.dim():
                assert torch.equal(value, saved.weights[name])
                continue
            for number, one in enumerate(classes):
                expected = fresh[name][number] if one == "new" else saved.weights[name][int(one)]
                assert torch.equal(value[number], expected)


def config_of(config, count):
    layers = resolved(config)["network"]
    layers[1]["conv"]["filters"] = count
    return from_resolved({**resolved(config), "network": layers})


def test_nothing_of_a_head_is_taken_where_no_class_is_the_same(convolutional, tmp_path):
    saved, network = checkpoint.load(convolutional), load_model(convolutional, Where(device="cpu")).network
    for value in network.state_dict().values():
        value.zero_()
    told = transfer(convolutional, saved, network, [*"abcdefghij"]).text
    assert told.count("no: it is for other classes there") == 7 and "2 of 9 tensors taken" in told
    assert not any(value.any() for name, value in network.state_dict().items() if name[0] != "0")


def test_a_network_in_which_every_layer_has_moved_is_told_so(cnntrain, convolutional, tmp_path):
    (tmp_path / "c.yaml").write_text(
        HEAD % "batch_norm, {conv: {filters: 8, kernel_size: 3}}, batch_norm, flatten, softmax"
    )
    outcome = cnntrain("train", tmp_path / "c.yaml", f"init_from={convolutional}", "--run-dir", tmp_path / "run")
    said = f"only 2 of 16 tensors are taken from {convolutional}: a layer is found by its name, which begins with its"
    assert outcome.code == 0 and f"warning: {said}" in outcome.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [summary["init_from"][name] for name in ("taken", "of")] == [2, 16]
    assert any(line.startswith(said) for line in summary["remarks"])


@pytest.mark.parametrize("is_normalized", [True, False])
def test_images_that_were_normalized_otherwise_are_told_of(is_normalized, tmp_path):
    there, here = (f"data.normalize={str(one).lower()}" for one in (is_normalized, not is_normalized))
    (tmp_path / "c.yaml").write_text("network: [softmax]\ntraining: {epochs: 1}\n")
    train_run(load_config(tmp_path / "c.yaml", [there]), tmp_path / "one", Where(device="cpu"))
    config = load_config(tmp_path / "c.yaml", [here, f"init_from={tmp_path / 'one'}"])
    (said,) = train_run(config, tmp_path / "other", Where(device="cpu"))["init_from"]["remarks"]
    were = "normalized" if is_normalized else "not normalized"
    assert said == f"{tmp_path / 'one'} was trained with images that were {were}; set `{there.replace('=', ': ')}`"
    config = load_config(tmp_path / "c.yaml", [there, f"init_from={tmp_path / 'one'}"])
    assert train_run(config, tmp_path / "same", Where(device="cpu"))["init_from"]["remarks"] == []


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["data.test={size: 0.2, seed: 9}"], "validation and test"),
        (["data.validation={size: 0.1, seed: 9}"], "validation"),
        (["data.limit=300"], None),
    ],
)
def test_images_that_it_may_have_been_trained_with_are_told_of(convolutional, tmp_path, options, names):
    run = tmp_path / "run"
    config = load_config(convolutional.parent / "c.yaml", [f"init_from={convolutional}", "training.epochs=1", *options])
    with pytest.raises(Interrupted):
        train_run(config, run, Where(device="cpu"), InterruptAt(1))
    # Whoever goes on is told again, and so is whoever reads the summary.
    told = [line for line in resume_run(run, [], Where(device="cpu"))["remarks"] if "other splits of the same" in line]
    assert bool(told) == bool(names)
    if names:
        assert told == [
            f"{convolutional} was trained with other splits of the same data; the {names} images here may be among "
            f"those that it was trained with"
        ]


def test_what_it_had_before_training_is_told_and_whether_that_was_better(cnntrain, convolutional, tmp_path):
    best = json.loads((convolutional / "summary.json").read_text())["best"]
    for rate, is_worse in (("1e-9", False), ("10", True)):
        config = [convolutional.parent / "c.yaml", f"init_from={convolutional}", "training.epochs=1"]
        outcome = cnntrain(
            "train", *config, f"training.optimizer.adam.learning_rate={rate}", "--run-dir", tmp_path / rate
        )
        accuracy = f"{100 * best['validation_accuracy']:.2f} %"
        assert f"\nbefore training: validation {best['validation_loss']:.4f}  {accuracy}\n" in outcome.err
        said = f"warning: validation accuracy was higher before training, {accuracy}: try a lower learning rate\n"
        assert (said in outcome.err) == is_worse


def test_show_and_probe_begin_where_training_does(cnntrain, convolutional, tmp_path):
    config, begun = convolutional.parent / "c.yaml", f"init_from={convolutional}"
    shown = cnntrain("show", config, begun)
    assert (shown.code, shown.err) == (0, "")
    assert f"taken from {convolutional}?" in shown.out and shown.out.endswith("9 of 9 tensors taken\n")
    assert "taken from" not in cnntrain("show", config).out
    at_first, then, trained = (
        json.loads(cnntrain("probe", *words, "--json").out)["layers"]
        for words in ([config], [config, begun], [convolutional])
    )
    assert then == trained != at_first
    for command in ("show", "probe"):
        outcome = cnntrain(command, config, f"init_from={tmp_path / 'nothing'}")
        assert outcome.code == 2 and f"`init_from: {tmp_path / 'nothing'}`: " in outcome.err


@pytest.mark.parametrize(
    "last",
    [
        "residual: {layers: [{conv: {filters: 10, kernel_size: 3, padding: 1}}]}}, global_avg_pool",
        "branches: [[{conv: {filters: 5, kernel_size: 1}}], [{conv: {filters: 5, kernel_size: 1}}]]}, global_avg_pool",
    ],
)
def test_a_last_layer_of_several_parts_is_taken_for_the_same_classes_alone(trained, tmp_path, last):
    layers = yaml.safe_load(f"[{{conv: {{filters: 6, kernel_size: 3}}}}, {{{last}]")
    network = build(from_resolved({"network": layers}), (1, 8, 8), 10)
    weights = {name: torch.ones_like(value) for name, value in network.state_dict().items()}
    classes = [str(one) for one in range(10)]
    saved = replace(checkpoint.load(trained), weights=weights, classes=classes)
    other = matched(Path("x"), saved, network, classes[::-1])
    assert {name.partition(".")[0] for name in other.rows} == {"0_conv"}
    assert matched(Path("x"), saved, network, classes).rows.keys() == weights.keys()


@pytest.mark.parametrize(
    "change", [{"validation_accuracy": torch.tensor(0.5)}, {"remarks": ["a\nb"]}, {"remarks": ["\x1b[2J"]}, {"of": "x"}]
)
def test_what_a_checkpoint_says_of_its_origin_is_plain(convolutional, tmp_path, change):
    saved = checkpoint.load(convolutional / "checkpoints" / "last.pt")
    origin = {"path": "x", "sha256": "y", "taken": 1, "of": 2, "validation_accuracy": 0.5, "remarks": ["a line"]}
    for begun, is_whole in ((origin, True), (origin | change, False), ({"path": "x", "sha256": "y"}, True)):
        checkpoint.save(tmp_path / "x.pt", replace(saved, training={**saved.training, "init_from": begun}))
        if is_whole:
            assert checkpoint.load(tmp_path / "x.pt").training["init_from"] == begun
        else:
            with pytest.raises(CheckpointError, match="not a whole checkpoint"):
                checkpoint.load(tmp_path / "x.pt")
