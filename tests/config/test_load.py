"""A file, its bases and overrides to one config, and back to a file."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import cnntrain.app.configure  # noqa: F401  (registers the vocabulary)
from cnntrain.config.document import parse
from cnntrain.config.load import from_resolved, load, resolved, to_yaml
from cnntrain.errors import ConfigError

BASE = """
seed: 1
data: {source: digits, validation: 0.2, augment: [{shift: 1}, flip]}
network:
  - conv: {filters: 8, kernel_size: 3, activation: relu}
  - max_pool: 2
  - softmax
training:
  epochs: 3
  batch_size: 32
  optimizer: {sgd: {learning_rate: 0.1, momentum: 0.9}}
  schedule: cosine
"""

EVERYTHING = """
seed: 7
data:
  source: digits
  validation: {size: 100, seed: 3}
  test: 0.25
  limit: 500
  normalize: true
  augment: [{shift: {pixels: 2}}, flip]
network:
  - conv_pool: {filters: 4, kernel_size: [3, 2], activation: tanh}
  - conv: {filters: 4, padding: same, init: {he: uniform}}
  - branches:
      - [{conv: {filters: 2, kernel_size: 1}}]
      - [{conv: {filters: 3, kernel_size: 1}}, batch_norm]
  - residual: {layers: [{conv: {filters: 5, padding: 1}}, {repeat: {times: 2, layers: [{group_norm: 5}]}}]}
  - depthwise_conv
  - activation: gelu
  - scale: 0.5
  - flatten
  - layer_norm
  - dense: {units: 10, bias: false}
  - fully_connected: {units: 12, dropout: 0.25}
  - softmax: {dropout: 0.5}
init: {normal: 0.02}
dropout_scaling: book
training:
  epochs: 4
  batch_size: 16
  optimizer: {adam: {learning_rate: 1e-3, betas: [0.8, 0.9]}}
  schedule: {multi_step: {milestones: [2, 3], gamma: 0.5}}
  warmup_epochs: 0.5
  l2: 0.1
  label_smoothing: 0.1
  clip_grad_norm: 1.0
  shuffle: never
  early_stopping: {patience: 3, min_delta: 0.001, restore_best: true}
expect:
  test_accuracy: {at_least: 90, source: "a guess"}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="c.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def refusal(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


def plain(text_path, *overrides):
    return resolved(load(text_path, overrides))


# --- one file


def test_the_least_config(write):
    config = load(write("network: [softmax]\n"))
    assert resolved(config) == {
        "seed": 0,
        "data": {"source": "digits", "normalize": False, "augment": []},
        "network": [{"softmax": {"dropout": 0.0, "init": None}}],
        "init": "auto",
        "dropout_scaling": "inverted",
        "training": {
            "epochs": 10,
            "batch_size": 64,
            "optimizer": {"sgd": {"learning_rate": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}},
            "schedule": "constant",
            "warmup_epochs": 0.0,
            "l2": 0.0,
            "label_smoothing": 0.0,
            "shuffle": "always",
            "precision": "float32",
            "engine": "auto",
            "monitor": "validation_accuracy",
            "freeze": 0,
            "on_divergence": "stop",
            "deterministic": False,
        },
    }


def test_values_arrive(write):
    config = load(write(EVERYTHING))
    assert config.data.validation.size == 100
    assert config.data.test.size == 0.25
    assert config.data.test.seed is None
    assert config.network[0].arguments.kernel_size == [3, 2]
    assert config.network[5].name == "activation"
    assert config.training.optimizer.arguments.learning_rate == 0.001
    assert config.training.early_stopping.restore_best is True
    assert config.expect.test_accuracy.at_least == 90


def test_a_config_is_frozen(write):
    with pytest.raises(ValidationError):
        load(write(BASE)).seed = 5


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("softmax", "{softmax: {}}"),
        ("softmax", "{softmax: }"),
        ("{softmax: 0.5}", "{softmax: {dropout: 0.5}}"),
        ("{max_pool: 3}", "{max_pool: {kernel_size: 3}}"),
        ("{max_pool: [3, 2]}", "{max_pool: {kernel_size: [3, 2]}}"),
        ("{dense: 100}", "{dense: {units: 100}}"),
        ("{activation: relu}", "{activation: {name: relu}}"),
        ("{branches: [[softmax], [softmax]]}", "{branches: {branches: [[softmax], [softmax]]}}"),
    ],
)
def test_shorthand(write, short, long):
    assert plain(write(f"network: [{short}]\n")) == plain(write(f"network: [{long}]\n"))


@pytest.mark.parametrize("split", ["0.1", "100", "{size: 100}", "{size: 0.5, seed: 3}", "{seed: 3}", "1"])
def test_splits(write, split):
    assert load(write(f"network: [softmax]\ndata: {{validation: {split}}}\n")).data.validation.size > 0


@pytest.mark.parametrize("split", ["0", "1.5", "-1", "true", "'10'", "{size: 0}", ".nan", ".inf", "[1]", "1.0"])
def test_wrong_splits(write, split):
    path = write(f"network: [softmax]\ndata: {{validation: {split}}}\n")
    assert refusal(path).startswith(f"{path}:2:8: ")


# --- resolved


@pytest.mark.parametrize("text", [BASE, EVERYTHING, "network: [softmax]\n"])
def test_resolved_round_trip(write, text):
    config = load(write(text))
    again = load(write(to_yaml(config), "again.yaml"))
    assert resolved(again) == resolved(config)
    assert to_yaml(again) == to_yaml(config)
    assert to_yaml(from_resolved(resolved(config))) == to_yaml(config)
    # In the order of the documentation, too.
    assert json.dumps(parse(to_yaml(config), "f").value) == json.dumps(resolved(config))


@pytest.mark.parametrize(
    "text", ["1e3", "no", "null", "~", ".5", "1_0", "", " ", "a: b", "\u2028", "'", "2026-01-01", "=", "#"]
)
def test_strings_stay_strings(write, text):
    config = from_resolved({"network": ["softmax"], "expect": {"test_accuracy": {"at_least": 1, "source": text}}})
    assert load(write(to_yaml(config))).expect.test_accuracy.source == text


def test_resolved_is_left_alone():
    values = {"network": ["softmax"], "training": {"epochs": 3}}
    before = copy.deepcopy(values)
    assert from_resolved(values, ["training.epochs=5", "network.0.softmax.dropout=0.5"]).training.epochs == 5
    assert values == before


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("\x1b[2J", "a config holds plain values only, no such str"),
        (10**40, "a config holds plain values only, no such int"),
        (b"x", "a config holds plain values only, no such bytes"),
        ([0] * 4000, "with all defaults filled in, it has too many or too deeply nested values"),
        (nested(60), "with all defaults filled in, it has too many or too deeply nested values"),
    ],
)
def test_what_a_checkpoint_holds_is_within_the_bounds_of_a_config(value, said):
    with pytest.raises(ConfigError) as caught:
        from_resolved({"network": ["softmax"], "init_from": value})
    assert str(caught.value) == said


def test_a_config_that_could_not_be_read_again_is_refused(write):
    layers = ", ".join(["{conv: 3}"] * 300)
    path = write(f"network: [{layers}, softmax]\n")
    assert refusal(path).startswith(f"{path}:1:1: with all defaults filled in, it has too many")


def test_errors_of_a_resolved_config_name_their_place():
    with pytest.raises(ConfigError) as caught:
        from_resolved({"network": [{"conv": {"filters": 0}}], "seed": "x"})
    assert str(caught.value).splitlines() == [
        "seed: `seed` should be an integer, not 'x'",
        "network.0.conv.filters: `filters` should be greater than 0, not 0",
    ]


# --- extends


def test_extends_merges_deeply(write):
    write(BASE, "base.yaml")
    top = write("extends: base.yaml\nseed: 2\ntraining: {epochs: 9, optimizer: {sgd: {learning_rate: 0.5}}}\n")
    expected = plain(write(BASE, "other.yaml"))
    expected["seed"] = 2
    expected["training"]["epochs"] = 9
    expected["training"]["optimizer"]["sgd"]["learning_rate"] = 0.5
    assert plain(top) == expected


def test_extends_replaces_lists(write):
    write(BASE, "base.yaml")
    config = load(write("extends: base.yaml\nnetwork: [{dense: 3}]\ndata: {augment: []}\n"))
    assert [layer.name for layer in config.network] == ["dense"]
    assert config.data.augment == []
    assert config.data.validation.size == 0.2


@pytest.mark.parametrize(
    ("top", "place", "expected"),
    [
        ("training: {optimizer: {adamw: {weight_decay: 0.5}}}", ("training", "optimizer"), "adamw"),
        ("training: {optimizer: adam}", ("training", "optimizer"), "adam"),
        ("training: {schedule: {step: 2}}", ("training", "schedule"), "step"),
        ("init: {he: uniform}", ("init",), "he"),
        ("data: {source: mnist}", ("data", "source"), "mnist"),
        ("data: {source: {npz: {path: there}}}", ("data", "source"), "npz"),
    ],
)
def test_extends_replaces_a_name_by_another(write, top, place, expected):
    base = BASE.replace("source: digits", "source: {image_folder: {path: here, channels: 3}}")
    write(base + "init: {normal: 0.5}\n", "base.yaml")
    found = load(write(f"extends: base.yaml\n{top}\n"))
    for part in place:
        found = getattr(found, part)
    assert found.name == expected


def test_extends_keeps_the_arguments_of_the_same_name(write):
    write(BASE, "base.yaml")
    config = load(write("extends: base.yaml\ntraining: {optimizer: {sgd: {nesterov: true}}}\n"))
    assert config.training.optimizer.arguments.momentum == 0.9
    assert config.training.optimizer.arguments.nesterov is True


def test_extends_sets_back_to_the_default_with_null(write):
    write(BASE, "base.yaml")
    assert load(write("extends: base.yaml\ndata: {validation: null}\n")).data.validation is None


def test_extends_in_chains_is_relative_to_each_file(write):
    write(BASE, "far/base.yaml")
    write("extends: far/base.yaml\nseed: 5\ntraining: {epochs: 6}\n", "middle.yaml")
    config = load(write("extends: ../middle.yaml\nseed: 9\n", "near/top.yaml"))
    assert (config.seed, config.training.epochs, config.training.batch_size) == (9, 6, 32)


def test_extends_twice_of_one_base_is_no_circle(write):
    write(BASE, "a.yaml")
    write("extends: a.yaml\n", "b.yaml")
    assert load(write("extends: b.yaml\n")).seed == 1


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_circles(write, names, tmp_path):
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        write(f"seed: 1\nextends: {following}.yaml\n", f"{name}.yaml")
    said = refusal(tmp_path / "a.yaml")
    assert said.startswith(f"{tmp_path / names[-1]}.yaml:2:1: `extends` goes round in a circle through a.yaml\n")


def test_a_circle_through_a_folder(write, tmp_path):
    write("extends: far/../a.yaml\n", "a.yaml")
    (tmp_path / "far").mkdir()
    assert "`extends` goes round in a circle" in refusal(tmp_path / "far" / ".." / "a.yaml")


def test_a_circle_through_a_link(write, tmp_path):
    write("extends: link.yaml\n", "a.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "a.yaml")
    assert "`extends` goes round in a circle" in refusal(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["nowhere.yaml", "3", "[c.yaml]", "{a: 1}", ".", "x" * 1500, "''"])
def test_missing_base(write, name):
    path = write(f"seed: 1\nextends: {name}\nnetwork: [softmax]\n")
    said = refusal(path)
    assert said.startswith(f"{path}:2:1: `extends`: there is no file ")
    assert said.count("\n") == 2


@pytest.mark.parametrize("name", ["secret", "link.yaml"])
def test_no_other_file_is_read_or_shown(write, tmp_path, name):
    write("key: password\n", "secret")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "secret")
    said = refusal(write(f"extends: {name}\nnetwork: [softmax]\n"))
    assert "`extends` must name a file that ends in .yaml or .yml" in said
    assert "password" not in said


def test_a_base_of_the_other_ending(write):
    write(BASE, "base.yml")
    assert load(write("extends: base.yml\n")).seed == 1


def test_so_many_bases_and_no_more(write, tmp_path):
    write(BASE, "0.yaml")
    for number in range(1, 22):
        write(f"extends: {number - 1}.yaml\n", f"{number}.yaml")
    assert load(tmp_path / "20.yaml").seed == 1
    assert refusal(tmp_path / "21.yaml").startswith(
        f"{tmp_path / '1.yaml'}:1:1: `extends` leads through more than 20 files"
    )


def test_all_files_together_are_no_larger_than_one_may_be(write):
    base = write(BASE + "#" * 120_000, "base.yaml")
    assert load(write("extends: base.yaml\n" + "#" * 70_000)).seed == 1
    said = refusal(write("extends: base.yaml\n" + "#" * 90_000))
    assert said.startswith(f"{base}: larger than ") and said.endswith(" bytes; that is no config")


def test_no_base(write):
    assert load(write("extends:\nnetwork: [softmax]\n")).seed == 0


def test_a_base_may_lack_a_network(write):
    write("seed: 4\n", "base.yaml")
    assert load(write("extends: base.yaml\nnetwork: [softmax]\n")).seed == 4


def test_errors_in_the_base_point_there(write):
    base = write("seed: 1\ntraining: {epochs: 0}\nnetwork: [sofmax]\n", "base.yaml")
    top = write("extends: base.yaml\nseed: x\n")
    with pytest.raises(ConfigError) as caught:
        load(top)
    assert [str(problem.position) for problem in caught.value.problems] == [
        f"{base}:2:12",
        f"{base}:3:11",
        f"{top}:2:1",
    ]


def test_errors_in_a_replaced_value_point_to_the_top(write):
    write(BASE, "base.yaml")
    top = write(
        "extends: base.yaml\nnetwork:\n  - softmax\n  - dens: 3\ntraining: {optimizer: {adam: {momentum: 1}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(top)
    assert [str(problem.position) for problem in caught.value.problems] == [f"{top}:4:5", f"{top}:5:31"]


@pytest.mark.parametrize(
    ("base", "top", "place"),
    [
        # What stood deeper in the base is gone.
        ("data: {augment: [{shift: {pixels: 1}}]}", "data: {augment: [{shift: 0}]}", "1:19"),
        # What is written in both stands in both.
        ("training: {checkpoint_every: {}}", "training: {  checkpoint_every: {}}", "1:14"),
    ],
)
def test_errors_in_what_both_files_have_point_to_the_top(write, base, top, place):
    write(f"{base}\n", "base.yaml")
    path = write(f"{top}\nextends: base.yaml\nnetwork: [softmax]\n")
    assert refusal(path).startswith(f"{path}:{place}: ")


def test_a_mistake_in_yaml_of_the_base(write):
    base = write("a: b: c\n", "base.yaml")
    assert refusal(write("extends: base.yaml\n")).startswith(f"{base}:1:5: not YAML")


# --- overrides


@pytest.mark.parametrize(
    ("override", "place", "expected"),
    [
        ("seed=5", ["seed"], 5),
        ("training.epochs=1_000", ["training", "epochs"], 1000),
        ("training.l2=1e-3", ["training", "l2"], 0.001),
        ("training.early_stopping.patience=3", ["training", "early_stopping", "patience"], 3),
        ("training.early_stopping={patience: 4}", ["training", "early_stopping", "patience"], 4),
        ("network.0.conv.filters=16", ["network", 0, "conv", "filters"], 16),
        ("network.1.max_pool=3", ["network", 1, "max_pool", "kernel_size"], 3),
        ("network.1={avg_pool: 3}", ["network", 1, "avg_pool", "kernel_size"], 3),
        ("network.2.softmax.dropout=0.5", ["network", 2, "softmax", "dropout"], 0.5),
        ("network=[softmax]", ["network"], [{"softmax": {"dropout": 0.0, "init": None}}]),
        ("data.validation=0.3", ["data", "validation"], {"size": 0.3}),
        ("data.augment=[]", ["data", "augment"], []),
        ("data.augment.1={shift: 3}", ["data", "augment", 1, "shift", "pixels"], 3),
        ("training.schedule=linear", ["training", "schedule"], {"linear": {"end": 0.0}}),
        ("training.schedule.cosine.end=0.5", ["training", "schedule"], {"cosine": {"end": 0.5}}),
        ("training.schedule.step.step_size=2", ["training", "schedule"], {"step": {"step_size": 2, "gamma": 0.1}}),
        ("training.optimizer.sgd.momentum=0.5", ["training", "optimizer", "sgd", "momentum"], 0.5),
        ("training.optimizer.sgd.momentum=0.5", ["training", "optimizer", "sgd", "learning_rate"], 0.1),
        ("training.optimizer.adam.eps=0.1", ["training", "optimizer", "adam", "eps"], 0.1),
        ("training.optimizer.adam={eps: 0.1}", ["training", "optimizer", "adam", "eps"], 0.1),
        ("training.optimizer.adam=0.1", ["training", "optimizer", "adam", "learning_rate"], 0.1),
        ("training.optimizer=adam", ["training", "optimizer", "adam", "eps"], 1e-8),
        ("init.normal.std=0.5", ["init"], {"normal": {"std": 0.5}}),
        ("data.source=mnist", ["data", "source"], "mnist"),
        ("training.checkpoint_every.steps=3", ["training", "checkpoint_every"], {"steps": 3}),
        ("training.checkpoint_every.minutes=3", ["training", "checkpoint_every"], {"minutes": 3.0}),
        ("data.source.npz.path=x", ["data", "source", "npz", "path"], "x"),
        ("network.1.max_pool.stride=1", ["network", 1, "max_pool", "stride"], 1),
        ("network.1.max_pool.stride=1", ["network", 1, "max_pool", "kernel_size"], 2),
        ("network.1.max_pool.kernel_size=3", ["network", 1, "max_pool", "kernel_size"], 3),
    ],
)
def test_overrides(write, override, place, expected):
    found = plain(write(BASE), override)
    for part in place:
        found = found[part]
    assert found == expected
    assert type(found) is type(expected)


def test_an_override_changes_nothing_else(write):
    path = write(BASE)
    expected = plain(path)
    expected["network"][0]["conv"]["filters"] = 16
    assert plain(path, "network.0.conv.filters=16") == expected


def test_a_name_replaces_another_with_all_its_arguments(write):
    for override in ("training.optimizer=adam", "training.optimizer.adam={}", "training.optimizer.adam.eps=1e-8"):
        assert list(plain(write(BASE), override)["training"]["optimizer"]) == ["adam"]


def test_a_bare_name_is_given_arguments(write):
    path = write("network: [softmax]\ntraining: {optimizer: sgd, schedule: cosine}\ninit: he\n")
    found = plain(
        path,
        "training.optimizer.sgd.learning_rate=0.5",
        "training.schedule.cosine.end=0.25",
        "init.he.distribution=uniform",
        "network.0.softmax.dropout=0.75",
    )
    assert found["training"]["optimizer"]["sgd"]["learning_rate"] == 0.5
    assert found["training"]["schedule"] == {"cosine": {"end": 0.25}}
    assert found["init"] == {"he": {"distribution": "uniform"}}
    assert found["network"][0]["softmax"]["dropout"] == 0.75


def test_the_first_equals_sign_splits(write):
    path = write("network: [softmax]\n")
    config = load(path, ["expect.test_accuracy={at_least: 5, source: a=b=c}"])
    assert config.expect.test_accuracy.source == "a=b=c"
    assert load(path, ["expect.test_accuracy.at_least=5", "expect.test_accuracy.source=x=y"]).expect.test_accuracy == (
        config.expect.test_accuracy.model_copy(update={"source": "x=y"})
    )


def test_overrides_go_in_order(write):
    assert load(write(BASE), ["seed=5", "seed=6"]).seed == 6
    assert load(write(BASE), ["training={}", "training.epochs=7"]).training.epochs == 7


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("training.optimizer.sgd.learning_rate=0.5", "training.optimizer.adamw.weight_decay=0"),
        ("training.optimizer=adam", "training.optimizer.sgd.momentum=0.5"),
        ("training.optimizer.sgd.momentum=0.5", "training.optimizer=adam"),
        ("training.optimizer.adam.eps=0.1", "training.optimizer.adam={}"),
        ("network.0.conv.filters=3", "network=[softmax]"),
        ("training.early_stopping.patience=3", "training.early_stopping=null"),
        ("training.early_stopping=null", "training.early_stopping.patience=3"),
    ],
)
def test_an_override_that_undoes_another_is_refused(write, first, second):
    said = f"override `{second}`: takes the place of `{first}`; leave out one of them"
    assert refusal(write(BASE), first, "seed=3", second) == said
    with pytest.raises(ConfigError, match=re.escape(said)):
        from_resolved(plain(write(BASE)), [first, second])


def test_overrides_of_one_section_join(write):
    words = ["training.optimizer=adam", "training.optimizer.adam.eps=0.1", "training.optimizer.adam.learning_rate=0.5"]
    adam = plain(write(BASE), *words, "training.optimizer.adam.eps=0.2")["training"]["optimizer"]["adam"]
    assert (adam["eps"], adam["learning_rate"]) == (0.2, 0.5)


def test_what_a_file_called_override_says_may_be_replaced(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "override").write_text(write(BASE).read_text())
    config = load(Path("override"), ["training.optimizer.adam.eps=0.1", "training.optimizer.adam.weight_decay=0.5"])
    assert config.training.optimizer.arguments.eps == 0.1


def test_overrides_beat_the_base(write):
    write(BASE, "base.yaml")
    assert load(write("extends: base.yaml\nseed: 2\n"), ["seed=3", "training.epochs=4"]).seed == 3


def test_an_override_of_a_resolved_config(write):
    values = plain(write(BASE))
    config = from_resolved(values, ["network.1.max_pool.kernel_size=3", "training.epochs=80"])
    assert config.network[1].arguments.kernel_size == 3
    assert config.training.epochs == 80


@pytest.mark.parametrize("override", ["", "x", "=3", "training.epochs", "=", "=="])
def test_no_key_or_no_value(write, override):
    assert refusal(write(BASE), override) == (f"override `{override}`: write it as key=value, as in training.epochs=5")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("network.3=softmax", "`network` has items 0 to 2, no `3`"),
        ("network.3.softmax.dropout=0", "`network` has items 0 to 2, no `3`"),
        ("network.-1=softmax", "`network` has items 0 to 2, no `-1`"),
        ("network.first=softmax", "`network` has items 0 to 2, no `first`"),
        ("network.\u00b2=softmax", "`network` has items 0 to 2, no `\u00b2`"),
        ("network.\u0663=softmax", "`network` has items 0 to 2, no `\u0663`"),
        (f"network.{'9' * 500}=softmax", f"`network` has items 0 to 2, no `{'9' * 500}`"),
        ("network.999999999=softmax", "`network` has items 0 to 2, no `999999999`"),
        ("seed.x=3", "`seed` is 1, which has no parts"),
        ("network.2.x=3", "`network.2` is 'softmax', which has no parts"),
    ],
)
def test_places_that_are_not_there(write, override, expected):
    assert refusal(write(BASE), override) == f"override `{override}`: {expected}"


def test_a_number_without_end(write):
    said = refusal(write(BASE), f"network.{'9' * 5000}=softmax")
    assert said.startswith("override `network.999") and said.endswith("999`") and len(said) < 2001


def test_an_item_of_an_empty_list(write):
    path = write("network: [softmax]\ndata: {augment: []}\n")
    assert refusal(path, "data.augment.0=flip") == "override `data.augment.0=flip`: `data.augment` is empty"


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.optimizer.learning_rate=1", "training.optimizer.sgd.learning_rate"),
        ("training.optimizer.lr=1", "training.optimizer.sgd.learning_rate"),
        ("training.schedule.end=0.1", "training.schedule.cosine.end"),
    ],
)
def test_an_argument_without_its_name_does_not_replace_what_takes_it(write, override, meant):
    assert refusal(write(BASE), override) == f"override `{override}`: did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("override", "column", "expected"),
    [
        ("training.epochs=0", 17, "`epochs` should be greater than 0, not 0"),
        ("training.epoch=5", 16, "unknown key `epoch`; did you mean `epochs`?"),
        ("trainin.epochs=5", 16, "unknown key `trainin`; did you mean `training`?"),
        ("training..epochs=5", 18, "unknown key ``; known: "),
        ("training.=5", 11, "unknown key ``; known: "),
        ("a.b.c.d=5", 9, "unknown key `a`; known: "),
        ("seed=", 6, "`seed` should be an integer, not None"),
        ("training.early_stopping.paitence=3", 34, "unknown key `paitence`; did you mean `patience`?"),
        ("training.optimizer.adm.eps=1", 28, "unknown optimizer `adm`; did you mean `adam`?"),
        ("training.optimizer.adam.epz=1", 29, "unknown key `epz`; did you mean `eps`?"),
        ("network.0.conv.filter=16", 23, "unknown key `filter`; did you mean `filters`?"),
        ("network=[sofmax]", 9, "unknown layer `sofmax`; did you mean `softmax`?"),
        ("extends=base.yaml", 9, "unknown key `extends`; known: "),
        (
            "training.optimizer.sgd.learning_rate=1e39",
            38,
            f"`learning_rate` should be less than or equal to 3{'0' * 38}, not 1e+39",
        ),
        ("training.schedule={one_cycle: {div_factor: 1e-200}}", 19, "`div_factor` should be greater than or equal to"),
        ("training.schedule={halve_on_plateau: {stop_at: 1}}", 19, "`stop_at` should be less than 1"),
        ("training.schedule={halve_on_plateau: {stop_at: 1e-310}}", 19, "`stop_at` should be greater than or equal"),
        ("data.5=3", 8, "unknown key `5`; known: "),
        ("expect.test_accuracy.at_least=0.985", 31, "`at_least` is in percent: 98.5, not 0.985"),
        ("training.lr=1", 13, "unknown key `lr`; did you mean `training.optimizer.sgd.learning_rate`?"),
        ("training.optimizer={sgd: {lr: 1}}", 20, "unknown key `lr`; did you mean `learning_rate`?"),
        (
            "training.optimizer={lr: 1}",
            20,
            "unknown optimizer `lr`; it is an argument, as in `adam: {learning_rate: ...}`",
        ),
        (
            "training.optimizer={learning_rate: 1}",
            20,
            "unknown optimizer `learning_rate`; it is an argument, as in `adam: {learning_rate: ...}`",
        ),
        ("epochs=5", 8, "unknown key `epochs`; did you mean `training.epochs`?"),
        ("momentum=0.9", 10, "unknown key `momentum`; did you mean `training.optimizer.sgd.momentum`?"),
        ("training.nesterov=true", 19, "unknown key `nesterov`; did you mean `training.optimizer.sgd.nesterov`?"),
        ("data.epochs=1", 13, "unknown key `epochs`; did you mean `training.epochs`?"),
        ("training.seed=1", 15, "unknown key `seed`; it belongs to the top level"),
        ("training.optimizer.sgd.epochs=1", 31, "unknown key `epochs`; known: learning_rate, "),
        ("training.betas=1", 16, "unknown key `betas`; known: batch_size, "),
        ("training.patience=1", 19, "unknown key `patience`; did you mean `training.early_stopping.patience`?"),
        ("network.1.max_pool.strid=1", 26, "unknown key `strid`; did you mean `stride`?"),
        ("data.source=MNIST", 13, "unknown data source `MNIST`; did you mean `mnist`?"),
        ("\u00b2=3", 3, "unknown key `\u00b2`; known: "),
        ("a." * 60 + "b=1", 123, "an override's key has at most 60 parts"),
    ],
)
def test_wrong_overrides_point_into_themselves(write, override, column, expected):
    said, line, pointer = refusal(write(BASE), override).split("\n")
    assert said.startswith(f"override:1:{column}: {expected}")
    assert line == f"    1 | {override}"
    assert pointer == "      | " + " " * (column - 1) + "^"


@pytest.mark.parametrize("value", ["[", "{a: 1", "'", "!!python/name:os.system x", "a: b: c", "&a [*a]"])
def test_overrides_that_are_no_yaml(write, value):
    assert refusal(write(BASE), f"seed={value}").startswith("override:1:")


# --- anything at all

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.sampled_from([0, 1, 2, -1, 0.5, 1e-9, 1e300, "relu", "softmax", "same", "digits", "sgd", "cosine", "he"])
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["conv", "dense", "softmax", "repeat", "layers", "times", "units", "size", "extends"])
            | st.text(st.characters(codec="utf-8"), max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def holders(values):
    """All mappings and lists in `values`, itself first."""
    if isinstance(values, dict | list):
        yield values
        for inner in values.values() if isinstance(values, dict) else values:
            yield from holders(inner)


@st.composite
def mutated(draw):
    values = parse(EVERYTHING, "f").value
    for _ in range(draw(st.integers(1, 3))):
        holder = draw(st.sampled_from(list(holders(values))))
        keys = sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))
        what = draw(st.sampled_from(["change", "remove", "add"]))
        if what == "add" or not keys:
            value = draw(VALUES)
            if isinstance(holder, dict):
                holder[draw(st.text(st.characters(codec="utf-8"), max_size=8))] = value
            else:
                holder.insert(draw(st.integers(0, len(holder))), value)
        elif what == "remove":
            del holder[draw(st.sampled_from(keys))]
        else:
            holder[draw(st.sampled_from(keys))] = draw(VALUES)
    return values


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(values=mutated())
def test_any_mutation_loads_or_is_refused(values, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    try:
        config = load(path)
    except ConfigError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
    else:
        path.write_text(to_yaml(config), encoding="utf-8")
        assert to_yaml(load(path)) == to_yaml(config)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    key=st.lists(
        st.sampled_from(["network", "training", "optimizer", "schedule", "sgd", "adam", "data", "augment", "0", "1"])
        | st.text(st.characters(codec="utf-8"), max_size=4),
        min_size=1,
        max_size=4,
    ),
    value=st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["3", "0.5", "adam", "[softmax]", "{}"]),
)
def test_any_override_works_or_is_refused(key, value):
    start = parse(BASE, "f").value
    try:
        from_resolved(start, [f"{'.'.join(key)}={value}"])
    except ConfigError as error:
        assert error.problems
