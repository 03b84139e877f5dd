"""Every shipped config, changed at random: accepted, or refused at its place; nothing is imported for it."""

import atexit
import shutil
import sys
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnntrain.app.configure import load_config
from cnntrain.config.load import from_resolved, resolved
from cnntrain.errors import ConfigError

from .cases import Outcome, Row, repeat

# A copy, so that what extends another finds it, and nobody else finds what is changed.
FOLDER = Path(tempfile.mkdtemp(prefix="cnntrain-configs-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
shutil.copytree(Path(__file__).parent.parent.parent / "configs", FOLDER, dirs_exist_ok=True)
CONFIGS = sorted(FOLDER.rglob("*.yaml"))
VALUES = [
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e300, 1e-300, float("nan"), float("inf"), 2**31, 2**63, -(10**39),
    "", "relu", "softmax", "conv", "no", "1e3", "../../x", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "x" * 5000,
    "__import__('os')", "!!python/name:os.system", [], {}, [[]], [{}], {"": 1}, ["softmax", "softmax"],
    {"conv": {"filters": 2_000_000_000}}, {"repeat": {"times": 3, "layers": ["flatten"]}}, [1, 2], {"a": {"b": []}},
]  # fmt: skip
KEYS = ["extends", "network", "seed", "<<", "__class__", "kind", "units", "x" * 5000, "\x07", "null", "0", "layers"]


@cache
def shipped(path: Path):
    """The values of a shipped config."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def places(value, above=()):
    """Where every value stands."""
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def at(value, place):
    for key in place:
        value = value[key]
    return value


def change(values, random):
    """One change of keys, values, types or structure, in place."""
    place = random.choice([place for place in places(values) if place])
    holder, key = at(values, place[:-1]), place[-1]
    match random.randrange(6):
        case 0:
            holder[key] = deepcopy(random.choice(VALUES))
        case 1:
            del holder[key]
        case 2:
            holder[key] = [holder[key]]
        case 3:
            holder[key] = {random.choice(KEYS): holder[key]}
        case 4 if isinstance(holder, dict):
            name = str(key)
            spot = random.randrange(len(name) + 1)
            holder[name[:spot] + random.choice("xs_0\t:") + name[spot + 1 :]] = holder.pop(key)
        case 4:
            holder.insert(key, deepcopy(holder[key]))
        case 5:
            holder[key] = deepcopy(at(values, random.choice(list(places(values)))))


def changed_text(random):
    """(a shipped config's path, its text after some changes of the values, and sometimes of the characters)."""
    path = random.choice(CONFIGS)
    values = deepcopy(shipped(path))
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        if [place for place in places(values) if place]:
            change(values, random)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    for _ in range(random.choice([0, 0, 1, 3])):
        spot = random.randrange(len(text) + 1)
        text = (
            text[:spot] + random.choice("\n\t :-[]{}&*!|>'\"%@`#,?\0a0\x85\u2028") + text[spot + random.randrange(3) :]
        )
    return path, text


def check_place(problem, path):
    """A problem stands at a line of one of the config's files; only a file that can't be had has none."""
    assert problem.position, problem.message
    assert problem.position.line >= 1
    assert Path(problem.position.file).suffix == ".yaml" or problem.position.file == "override", path


def check_one(random):
    """A changed config is accepted, and its resolved form too, or is refused at its place."""
    path, text = changed_text(random)
    modules = set(sys.modules)
    changed = path.with_name("changed.yaml")
    changed.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = load_config(changed)
        assert resolved(from_resolved(resolved(config))) == resolved(config)
    except ConfigError as error:
        assert len(str(error)) < 200_000
        for problem in error.problems:
            check_place(problem, path)
    new = {name for name in set(sys.modules) - modules if not name.startswith("encodings")}
    assert not new, new


def check_override(random):
    """So is a changed override."""
    path = random.choice(CONFIGS)
    config = resolved(load_config(path))
    place = list(random.choice([place for place in places(config) if place]))
    if random.random() < 0.3:
        place[random.randrange(len(place))] = random.choice([*KEYS, -1, 99, ""])
    value = yaml.safe_dump(random.choice(VALUES), default_flow_style=True, allow_unicode=True).removesuffix("...\n")
    override = f"{'.'.join(map(str, place))}{random.choice(['=', '=', '=', ''])}{value.strip()}"
    try:
        load_config(path, [override])
    except ConfigError as error:
        assert "override" in str(error) or str(FOLDER) in str(error)


def check_network(random):
    """What is accepted makes a network on the meta device, or is refused at its place."""
    from cnntrain.network.build import check

    path, text = changed_text(random)
    changed = path.with_name("changed.yaml")
    changed.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        check(load_config(changed), (1, 28, 28), 10)
    except ConfigError as error:
        for problem in error.problems:
            check_place(problem, path)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.integers(0, 2**64))
def test_mutated_configs(seed):
    check_one(Random(seed))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.integers(0, 2**64))
def test_mutated_overrides(seed):
    check_override(Random(seed))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.integers(0, 2**64))
def test_mutated_networks(seed):
    check_network(Random(seed))


ABSURD = [
    "{conv: 2000000000}",
    "{dense: 2000000000}",
    "{fully_connected: 2000000000}",
    "{conv_pool: {filters: 2000000000, kernel_size: 1}}",
    "{conv: {filters: 2, padding: 2000000}}",
    "{conv: {filters: 1, kernel_size: 2, dilation: 1000000, padding: 900000}}",
    "{repeat: {times: 1000, layers: [{repeat: {times: 1000, layers: [{activation: relu}]}}]}}",
]


@pytest.mark.parametrize("layer", ABSURD)
def test_absurd_sizes_are_refused_before_memory_is_taken(cnntrain, tmp_path, layer):
    before = "" if "conv" in layer or "repeat" in layer else "flatten, "
    (tmp_path / "c.yaml").write_text(f"network: [{before}{layer}, softmax]\n")
    outcome = cnntrain("train", tmp_path / "c.yaml", "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert f"{tmp_path / 'c.yaml'}:1:" in outcome.err
    assert "the network has more than" in outcome.err
    assert not (tmp_path / "run").exists()


def test_the_schema_takes_what_the_loader_takes():
    """The JSON Schema, which editors use, refuses nothing that is right."""
    import jsonschema

    from cnntrain.reports.vocabulary import json_schema

    validator = jsonschema.Draft202012Validator(json_schema())
    random, accepted = Random(0), 0
    for _ in range(300):
        _, text = changed_text(random)
        try:
            values = yaml.safe_load(text)
            values.pop("extends", None)
            from_resolved(values)
        except Exception:
            continue
        accepted += 1
        assert not list(validator.iter_errors(values)), text
    assert accepted > 5


def _row(case):
    def work(random: Random, deadline: float) -> Outcome:
        return repeat(case, random, deadline)

    return work


ROWS: list[Row] = [
    ("mutated configs: accepted, or refused at file:line", _row(check_one)),
    ("mutated overrides", _row(check_override)),
    ("mutated configs: networks on the meta device", _row(check_network)),
]
