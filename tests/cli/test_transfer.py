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
from safetensors import safe_open

from cnntrain.app.configure import load_config
from cnntrain.app.model import load_model
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.transfer import transfer
from cnntrain.app.where import Where
from cnntrain.config.load import from_resolved, to_yaml
from cnntrain.errors import Interrupted
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
        told = transfer(trained, saved, network, classes)
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
    assert "8 of 11 tensors taken" in outcome.err
    assert torch.allclose(weights(tmp_path / "run")["0_conv.0.weight"], weights(trained)["0_conv.0.weight"], atol=1e-6)


def test_a_tensor_of_as_many_numbers_in_another_shape_stays(trained, tmp_path):
    saved = replace(checkpoint.load(trained), weights={"weight": torch.zeros(3, 2), "bias": torch.ones(2)})
    checkpoint.save(tmp_path / "x.pt", saved)
    network = torch.nn.Linear(3, 2)
    before = network.weight.clone()
    *_, weight, bias, taken = transfer(tmp_path / "x.pt", saved, network, saved.classes).splitlines()
    assert weight.split(maxsplit=3) == ["weight", "(2,", "3)", "no: its shape there is (3, 2)"]
    assert bias.split() == ["bias", "(2,)", "yes"]
    assert taken == "1 of 2 tensors taken"
    assert torch.equal(network.weight, before) and network.bias.tolist() == [1, 1]


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
    begun = {"path": str(source), "sha256": checkpoint.load(source).fingerprint}
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


def test_init_from_of_nothing_that_matches(cnntrain, trained, tmp_path):
    (tmp_path / "c.yaml").write_text(f"init_from: {trained}\nnetwork: [{{fully_connected: 5}}, softmax]\n")
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert "no tensor matches by name and shape" in outcome.err


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
