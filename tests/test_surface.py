"""The public surface, written out: what configs can name, what the command line takes, and the JSON Schema of both.

A test that fails here asks one question: was that change meant? If it was, the literal changes with it.
"""

import inspect
import json
from pathlib import Path

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from cnntrain.app.configure import load_config
from cnntrain.cli.main import app
from cnntrain.config import schema as models
from cnntrain.config.document import parse, read
from cnntrain.config.load import from_resolved, to_yaml
from cnntrain.errors import ConfigError
from cnntrain.network.activations import NAMES
from cnntrain.registry import ALL
from cnntrain.reports.settings import settings
from cnntrain.reports.vocabulary import json_schema
from cnntrain.strict import Strict

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.y*ml"))

VOCABULARY = {
    "layer": {
        "activation": "name",
        "avg_pool": "kernel_size=2, stride=None, padding=0",
        "batch_norm": "momentum=0.1, eps=1e-05",
        "branches": "branches",
        "conv": "filters, kernel_size=3, stride=1, padding=0, dilation=1, groups=1, bias=True, "
        "activation='linear', init=None",
        "conv_pool": "filters, kernel_size=5, pool_size=2, activation='sigmoid', init=None",
        "dense": "units, bias=True, activation='linear', init=None",
        "depthwise_conv": "kernel_size=3, stride=1, padding=0, bias=True, activation='linear', init=None",
        "dropout": "p=0.5",
        "flatten": "",
        "fully_connected": "units, activation='sigmoid', dropout=0.0, init=None",
        "global_avg_pool": "",
        "group_norm": "groups, eps=1e-05",
        "layer_norm": "eps=1e-05",
        "max_pool": "kernel_size=2, stride=None, padding=0",
        "repeat": "times, layers",
        "residual": "layers, shortcut='auto', activation='linear'",
        "scale": "factor",
        "softmax": "dropout=0.0, init=None",
        "whitened_conv": "kernel_size=2, activation='linear', eps=0.0005",
    },
    "initializer": {
        "auto": "",
        "book": "",
        "book_corrected": "",
        "glorot": "distribution='uniform'",
        "he": "distribution='normal'",
        "lecun": "distribution='normal'",
        "normal": "std=0.01",
        "orthogonal": "gain=1.0",
        "zeros": "",
    },
    "optimizer": {
        "adam": "learning_rate=0.001, betas=[0.9, 0.999], eps=1e-08, weight_decay=0.0",
        "adamw": "learning_rate=0.001, betas=[0.9, 0.999], eps=1e-08, weight_decay=0.01",
        "rmsprop": "learning_rate=0.001, alpha=0.99, eps=1e-08, momentum=0.0, weight_decay=0.0",
        "sgd": "learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0",
    },
    "schedule": {
        "constant": "",
        "cosine": "end=0.0",
        "exponential": "gamma",
        "halve_on_plateau": "patience=10, stop_at=0.0078125",
        "linear": "end=0.0",
        "multi_step": "milestones, gamma=0.1",
        "one_cycle": "pct_start=0.3, div_factor=25.0, final_div_factor=10000.0",
        "step": "step_size, gamma=0.1",
    },
    "augmentation": {
        "affine": "degrees=0.0, shear=0.0, translate=0.0, scale=0.0",
        "brightness": "amount=0.2",
        "contrast": "amount=0.2",
        "elastic": "alpha=34.0, sigma=4.0",
        "erase": "size, p=1.0",
        "flip": "p=0.5, direction='horizontal'",
        "resized_crop": "scale=[0.08, 1.0], ratio=[0.75, 1.3333]",
        "shift": "pixels=1",
    },
    "data source": {
        "cifar10": "",
        "cifar100": "labels='fine'",
        "csv": "path, test=None, validation=None, size=None, channels=None, fit='stretch'",
        "digits": "",
        "emnist": "split='balanced'",
        "fashion_mnist": "",
        "idx": "train_images, train_labels, test_images=None, test_labels=None, classes=None",
        "image_folder": "path, size=None, channels=None, fit='stretch'",
        "kmnist": "",
        "mnist": "",
        "nielsen_pickle": "path='mnist.pkl.gz'",
        "npz": "path, classes=None",
    },
}

KEYS = {
    "Config": "seed=0, data, network, init, init_from=None, dropout_scaling='inverted', training, expect=None",
    "DataConfig": "source, validation=None, test=None, limit=None, normalize=False, expand=None, augment=[], "
    "memory_budget=None",
    "SplitConfig": "size=0.1, seed=None",
    "TrainingConfig": "epochs=10, batch_size=64, optimizer, schedule, warmup_epochs=0.0, l2=0.0, "
    "label_smoothing=0.0, clip_grad_norm=None, ema_decay=None, shuffle='always', precision='float32', engine, "
    "monitor='validation_accuracy', freeze=0, early_stopping=None, "
    "checkpoint_every=None, on_divergence='stop', deterministic=False",
    "CheckpointEveryConfig": "minutes=None, steps=None",
    "EarlyStoppingConfig": "patience=10, min_delta=0.0, restore_best=False",
    "ExpectConfig": "seeds=None, test_accuracy=None, ensemble_accuracy=None",
    "ClaimConfig": "at_least, of='best', source=None",
}

COMMANDS = {
    "train": "[CONFIG [KEY=VALUE]...] --resume --force --run-dir --data-dir --seeds --jobs --device --devices --plugin "
    "--quiet/-q --json",
    "eval": "CHECKPOINT --data --split --fail-under --data-dir --device --plugin --quiet/-q --json",
    "predict": "CHECKPOINT INPUTS... --top-k --invert --format --evidence --device --plugin --quiet/-q",
    "report": "RUN --data-dir --device --plugin --quiet/-q",
    "doctor": "RUN... --plugin --json",
    "compare": "RUN... --picture --json",
    "verify": "CONFIG... --seeds --jobs --data-dir --device --plugin --quiet/-q --json",
    "ensemble": "RUN... --vote --picture --data-dir --device --plugin --quiet/-q --json",
    "calibrate": "CHECKPOINT --data-dir --device --plugin --quiet/-q",
    "export": "CHECKPOINT --format --output --plugin",
    "check": "CONFIG [[KEY=VALUE]...] --plugin",
    "show": "CONFIG [[KEY=VALUE]...] --schedule --augment --data-dir --plugin",
    "probe": "CONFIG|CHECKPOINT [[KEY=VALUE]...] --data-dir --device --plugin --json",
    "layers": "[NAME] --plugin",
    "schema": "--plugin",
}


def signature(model, shown=lambda value: True):
    """`name` or `name=default` of each field, where the default is to be shown."""
    parts = []
    for name, field in model.model_fields.items():
        is_plain = not field.is_required() and field.default_factory is None and shown(field.default)
        parts.append(f"{name}={field.default!r}" if is_plain else name)
    return ", ".join(parts)


@pytest.mark.parametrize("kind", ALL)
def test_vocabulary(kind):
    registry = ALL[kind]
    assert {name: signature(registry[name].arguments) for name in registry} == VOCABULARY[kind]


def test_layers_lists_the_vocabulary_with_what_each_is(cnntrain):
    sections = dict(section.split(":\n", 1) for section in cnntrain("layers").out.rstrip("\n").split("\n\n"))
    assert sections.pop("activations") == f"  {', '.join(NAMES)}"
    keys = sections.pop("keys").splitlines()
    assert keys[:2] == [
        "  seed: 0",
        "      for initial weights, order, dropout and augmentation; the same seed gives the same bits",
    ]
    assert keys[-4:] == [
        "  expect.ensemble_accuracy.source: null",
        "      where the figure was published",
        "  extends:",
        "      another config, relative to this file, whose values this one overrides",
    ]
    assert sections == {
        f"{kind}s": "\n".join(
            f"  {name}({arguments})\n      {ALL[kind][name].summary}" for name, arguments in VOCABULARY[kind].items()
        )
        for kind in ALL
    }


def test_layers_tells_all_of_one_name(cnntrain):
    doc = inspect.getdoc(ALL["augmentation"]["erase"].factory)
    assert cnntrain("layers", "erase").out == f"erase(size, p=1.0)\n\n{doc}\n" and "Zhong" in doc
    assert cnntrain("layers", "relu").out == (
        "relu\n\nOne of torch's activations: a layer's `activation`, or a layer: activation: relu\n"
    )
    patience, of = cnntrain("layers", "training.early_stopping.patience").out, cnntrain("layers", "on_divergence").out
    assert (
        patience == "training.early_stopping.patience: 10\n\nepochs without an improvement; an equal figure is none\n"
    )
    assert of.startswith("training.on_divergence: stop\n\nat a value that") and of.endswith(" (stop, rollback)\n")
    assert cnntrain("layers", "expand").out.endswith("up, down, left, right (one_pixel_shifts)\n")
    assert cnntrain("layers", "momentum").out == "momentum\n\nAn argument of batch_norm, rmsprop, sgd.\n"
    layer, argument = cnntrain("layers", "dropout").out.split("\n\ndropout\n\n")
    assert layer.startswith("dropout(") and argument == "An argument of fully_connected, softmax.\n"
    assert cnntrain("layers", "flip").out.endswith("\ndirection: horizontal, vertical\n")
    assert cnntrain("layers", "extends").out.startswith("extends:\n\nanother config, ")
    assert cnntrain("layers", "training.epoch").err.endswith("; did you mean `training.epochs`?\n")
    outcome = cnntrain("layers", "convv")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: nothing is called `convv`; did you mean `conv`?\n"


def test_every_key_is_told_with_what_it_is():
    found = {path: (default, text) for path, default, text in settings()}
    document = yaml.safe_load(to_yaml(from_resolved({"network": ["softmax"]})))
    assert {f"training.{key}" for key in document["training"]} | set(document) <= set(found)
    assert found["training.checkpoint_every.minutes"][0] == "null"
    assert [path for path, (_, text) in found.items() if len(text) < 5] == []


def test_every_name_says_what_it_is():
    nameless = [f"{kind} {name}" for kind, registry in ALL.items() for name in registry if not registry[name].summary]
    assert not nameless


def test_keys():
    found = {
        name: model
        for name, model in vars(models).items()
        if isinstance(model, type) and issubclass(model, Strict) and model is not Strict
    }
    # What a name stands for by default is part of the vocabulary, and tested with the resolved config.
    is_shown = {"digits", "sgd", "constant", "auto"}.isdisjoint
    assert {name: signature(model, lambda value: is_shown([str(value)])) for name, model in found.items()} == KEYS


def test_the_defaults_that_are_names():
    config = models.Config.model_validate({"network": ["softmax"]})
    names = (config.data.source, config.init, config.training.optimizer, config.training.schedule)
    assert [spec.name for spec in names] == ["digits", "auto", "sgd", "constant"]


def written(parameter):
    if parameter.param_type_name == "option":
        return "/".join(parameter.opts)
    name = parameter.metavar or parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def test_commands():
    commands = typer.main.get_command(app).commands
    assert {name: " ".join(map(written, command.params)) for name, command in commands.items()} == COMMANDS


def test_version_and_help(cnntrain):
    version = cnntrain("--version")
    assert (version.code, version.err) == (0, "")
    assert version.out.startswith("cnntrain ")
    for command in COMMANDS:
        for option in ("-h", "--help"):
            shown = cnntrain(command, option)
            assert (shown.code, shown.err) == (0, "")
            assert command in shown.out


# --- the configs that we ship


def test_there_are_configs():
    assert len(CONFIGS) >= 2


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads(path):
    assert load_config(path).network


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_opens_with_its_command(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# cnntrain train ")
    assert path.samefile(Path(__file__).parent.parent / first.split()[3])


# --- the JSON Schema


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_command_prints_the_schema(cnntrain):
    assert json.loads(cnntrain("schema").out) == json_schema()


def test_every_reference_leads_somewhere(validator):
    schema = validator.schema

    def references(node):
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            node = list(node.values())
        if isinstance(node, list):
            for inner in node:
                yield from references(inner)

    found = set(references(schema))
    assert {f"#/$defs/{kind}" for kind in ALL} <= found
    for reference in found:
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_schema_takes_every_config(validator, path):
    assert [error.message for error in validator.iter_errors(read(path).value)] == []


GOOD = [
    "network: [softmax]",
    "network: [{max_pool: 2}, {max_pool: {kernel_size: [2, 3]}}, {conv: 3}, flatten, {dense: 5}]",
    "network: [{conv: {filters: 3, padding: same, init: {he: uniform}}}, {fully_connected: {units: 5, init: book}}]",
    "network: [{repeat: {times: 2, layers: [{residual: {layers: [batch_norm]}}]}}, {branches: [[softmax], [softmax]]}]",
    "network: [softmax]\ndata: {source: mnist, validation: 100, test: {size: 0.1, seed: 3}, augment: [flip]}",
    "network: [softmax]\ndata: {source: {npz: {path: a.npz}}, validation: 0.1, test: {seed: 3}, augment: [{shift: 1}]}",
    "network: [softmax]\ntraining: {optimizer: {sgd: 0.1}, schedule: {step: {step_size: 3}}, early_stopping: {}}",
    "network: [softmax]\ntraining: {optimizer: adam, schedule: halve_on_plateau, l2: 0, clip_grad_norm: 1}",
    "network: [softmax]\ninit: {normal: 0.5}\nexpect: {test_accuracy: {at_least: 99.5, source: x}}",
]
BAD = [
    "network: []",
    "network: softmax",
    "network: [sofmax]",
    "network: [conv]",
    "network: [{conv: {filters: 0}}]",
    "network: [{conv: {filters: 3, filter: 4}}]",
    "network: [{conv: {filters: 3, padding: smae}}]",
    "network: [{conv: 3, dense: 4}]",
    "network: [{activation: rleu}]",
    "network: [{dropout: 1.5}]",
    "network: [{repeat: {times: 2, layers: [sofmax]}}]",
    "network: [softmax]\nsed: 1",
    "network: [softmax]\nseed: -1",
    "network: [softmax]\ntraining: {epochs: 1.5}",
    "network: [softmax]\ntraining: {shuffle: no}",
    "network: [softmax]\ntraining: {optimizer: {sgd: {lr: 0.1}}}",
    "network: [softmax]\ntraining: {schedule: step}",
    "network: [softmax]\ninit: hee",
    "network: [softmax]\ndata: {source: nmist}",
    "network: [softmax]\ndata: {augment: shift}",
    "network: [softmax]\ndata: {validation: '100'}",
    "network: [softmax]\ndata: {validation: 0}",
    "network: [softmax]\ndata: {validation: {size: 100, sed: 3}}",
    "network: [softmax]\nexpect: {test_accuracy: 99}",
    "network: [softmax]\nexpect: {test_accuracy: {at_least: 101}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_schema_and_program_take_the_same(validator, text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    load_config(tmp_path / "c.yaml")
    assert [error.message for error in validator.iter_errors(parse(text, "f").value)] == []


@pytest.mark.parametrize("text", BAD)
def test_schema_and_program_refuse_the_same(validator, text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "c.yaml")
    assert not validator.is_valid(parse(text, "f").value)


def test_a_config_with_a_base_may_lack_a_network(validator):
    assert validator.is_valid({"extends": "base.yaml", "seed": 3})
    assert not validator.is_valid({"extends": 3})
