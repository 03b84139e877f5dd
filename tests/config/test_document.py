"""YAML to values with their places: YAML 1.2's scalars, no duplicate keys, nothing that costs time or runs code."""

import math
import os
import threading
import time

import pytest

from cnntrain.config.document import MAX_BYTES, Document, parse, read
from cnntrain.errors import ConfigError, Position


def value(text):
    return parse(f"a: {text}\n", "f").value["a"]


def problems(text):
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-.5e1", -5.0),
        ("+.5", 0.5),
        ("6.", 6.0),
        ("1.5", 1.5),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("1", 1),
        ("-1", -1),
        ("+1", 1),
        ("010", 10),
        ("9" * 40, 10**40 - 1),
        ("1_000", 1000),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("NULL", None),
        ("Null", None),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01 12:30:45", "2026-01-01 12:30:45"),
        ("12:30:45", "12:30:45"),
        ("0x10", "0x10"),
        ("0o7", "0o7"),
        ("1_", "1_"),
        ("1__0", "1__0"),
        (".", "."),
        ("e5", "e5"),
        (".e5", ".e5"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
        ("'1'", "1"),
        ('"null"', "null"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("!!int '1'", 1),
        ("|\n  1\n", "1\n"),
        ("[]", []),
        ("{}", {}),
        ("[1, [2, {b: no}]]", [1, [2, {"b": "no"}]]),
    ],
)
def test_scalars(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_nan():
    assert math.isnan(value(".nan"))


def test_keys_are_strings():
    assert parse("1: a\nno: b\nnull: c\n1.5: d\ntrue: e\n", "f").value == {
        "1": "a",
        "no": "b",
        "null": "c",
        "1.5": "d",
        "true": "e",
    }


def test_a_merge_key_has_no_meaning():
    assert parse("a: &a {x: 1}\nb:\n  <<: *a\n", "f").value == {"a": {"x": 1}, "b": {"<<": {"x": 1}}}


def test_aliases_give_values_of_their_own():
    document = parse("a: &a {x: [1]}\nb: *a\n", "f")
    assert document.value["b"] == {"x": [1]}
    document.value["b"]["x"].append(2)
    assert document.value["a"] == {"x": [1]}


def test_places():
    text = "seed: 1\ntraining:\n  epochs: 5\nnetwork:\n  - conv: {filters: 3}\n  - softmax\n"
    places = parse(text, "f.yaml").places
    lines = text.splitlines()

    def at(line, column):
        return Position("f.yaml", line, column, lines[line - 1])

    assert places == {
        (): at(1, 1),
        ("seed",): at(1, 1),
        ("training",): at(2, 1),
        ("training", "epochs"): at(3, 3),
        ("network",): at(4, 1),
        ("network", 0): at(5, 5),
        ("network", 0, "conv"): at(5, 5),
        ("network", 0, "conv", "filters"): at(5, 12),
        ("network", 1): at(6, 5),
    }


def test_the_nearest_place():
    document = parse("a:\n  b: [1]\n", "f")
    assert document.position(("a", "b", 0)) == Position("f", 2, 7, "  b: [1]")
    assert document.position(("a", "b", 7, "c")) == Position("f", 2, 3, "  b: [1]")
    assert document.position(("a", "z")) == Position("f", 1, 1, "a:")
    assert document.position(("z",)) == Position("f", 1, 1, "a:")
    assert document.position(("a", "unwritten", 0)) == Position("f", 1, 1, "a:")
    assert document.position(("a", "b", "unwritten", 0)) == Position("f", 2, 7, "  b: [1]")
    assert Document({"a": 1}).position(("a",)) is None


def test_lines_are_yamls_own():
    # NEL and the line and paragraph separators end a line for YAML.
    document = parse("a: 1\u2028b: 2\x85c: 3\r\nd: 4\re: 5\n", "f")
    assert [document.places[(key,)].line for key in "abcde"] == [1, 2, 3, 4, 5]
    assert document.places[("e",)].text == "e: 5"


def test_duplicate_keys_with_both_lines():
    found = problems("seed: 1\nnetwork: [a]\nseed: 2\ntraining: {epochs: 1, epochs: 2}\n")
    assert [str(problem) for problem in found] == [
        "f:3:1: `seed` is given twice; it is already in line 1\n    3 | seed: 2\n      | ^",
        "f:4:23: `epochs` is given twice; it is already in line 4\n"
        "    4 | training: {epochs: 1, epochs: 2}\n      |                       ^",
    ]


def test_the_same_key_in_two_mappings_is_fine():
    assert parse("a: {x: 1}\nb: {x: 2}\n", "f").value == {"a": {"x": 1}, "b": {"x": 2}}


def test_keys_that_differ_in_spelling_only():
    assert len(problems("'a': 1\n\"a\": 2\na: 3\n")) == 2


@pytest.mark.parametrize("key", ["? [a]\n: 1", "? {a: 1}\n: 1", "!!python/name:os.system a: 1", "!x a: 1"])
def test_odd_keys(key):
    [found] = problems(key + "\n")
    assert found.message == "a key must be a plain word"
    assert found.position.line == 1


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [id]",
        "!!python/object/new:os.system [id]",
        "!!python/name:os.system",
        "!!python/tuple [1]",
        "!own 3",
        "!!set {a, b}",
        "!!binary aGk=",
        "!!timestamp 2026-01-01",
        "!!int [1]",
        "!!float {a: b}",
        "!!str [a]",
        "!!null [1]",
        "!!map [1]",
        "!!bool yes",
        "!!int abc",
        "!!null x",
    ],
)
def test_tags_and_values_that_are_no_plain_values(text):
    [found] = problems(f"b: 1\na: {text}\n")
    assert found.message.startswith("a config holds plain values only")
    assert (found.position.line, found.position.column) == (2, 4)


def test_a_number_has_so_many_digits():
    assert parse(f"-{'9' * 39}_9", "f").value == -(10**40 - 1)
    [found] = problems(f"b: 1\na: -{'9' * 41}\n")
    assert found.message == "a number of 41 digits; the limit in a config is 40"
    assert (found.position.line, found.position.column) == (2, 4)


def test_all_problems_of_a_file():
    found = problems("a: !x 1\na: 2\nb: [!y 3, {c: 1, c: 2}]\n")
    assert [problem.position.line for problem in found] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: b: c\n", 1, 5),
        ("a:\n\t- 1\n", 2, 1),
        ("a: [1, 2\nb: 3\n", 2, 2),
        ("a: *b\n", 1, 4),
        ("a: 'x\n", 2, 1),
        ("a: 1\n b: 2\n", 2, 3),
        ("a: 1\n---\nb: 2\n", 2, 1),
        ("a: %\n- @\n", 1, 4),
        ("%YAML 3.0\n---\na: 1\n", 1, 1),
    ],
)
def test_not_yaml(text, line, column):
    [found] = problems(text)
    assert found.message.startswith("not YAML: ")
    assert (found.position.line, found.position.column) == (line, column)


@pytest.mark.parametrize("character", ["\x00", "\x0c", "\x1b", "\ud800"])
def test_characters_that_yaml_forbids(character):
    [found] = problems(f"a: {character}\n")
    assert found.message == f"not YAML: the character {ord(character):#x} may not be in it"
    assert str(found.position) == "f:1:4"


def test_byte_order_mark(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    document = read(path)
    assert document.value == {"a": 1}
    assert document.places[("a",)].column == 1


def bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(bomb(), id="billion laughs"),
        pytest.param("a: &a [*a]", id="recursive list"),
        pytest.param("a: &a {b: *a}", id="recursive mapping"),
        pytest.param("a: " + "[" * 90 + "]" * 90, id="deep list"),
        pytest.param("a: " + "[" * 3000 + "]" * 3000, id="very deep list"),
        pytest.param("a: " + "{a: " * 3000 + "}" * 3000, id="very deep mapping"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(1000)), id="deep blocks"),
        pytest.param("- " * 200_000, id="deep dashes"),
        pytest.param("? " * 200_000, id="deep keys"),
        pytest.param("".join(f"k{i}: 1\n" for i in range(100_000)), id="many keys"),
        pytest.param("a: [" + "1," * 490_000 + "]", id="many items"),
        pytest.param("%X\n" * 60_000, id="many directives"),
    ],
)
def test_bombs_are_refused_quickly(text):
    start = time.process_time()
    [found] = problems(text)
    assert time.process_time() - start < 3
    assert found.message in ("more than 4,000 values", "values are nested too deeply")
    assert found.position


@pytest.mark.parametrize("depth", [1, 50])
def test_moderate_depth_is_fine(depth):
    found = parse("a: " + "[" * depth + "]" * depth, "f").value["a"]
    for _ in range(depth - 1):
        [found] = found
    assert found == []


def test_a_long_list_is_fine():
    assert value("[" + "1," * 5_000 + "]") == [1] * 5_000


def test_the_longest_text():
    assert parse(f"{'k' * 100}: {'x' * 4_000}\n", "f").value == {"k" * 100: "x" * 4_000}
    for text in (f"a: {'x' * 4_001}\n", f"? {'x' * 4_001}\n: a\n"):
        [found] = problems(text)
        assert found.message == "a text of 4,001 characters; the limit in a config is 4,000"


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        read(path)
    [found] = caught.value.problems
    return found


def test_a_hundred_megabytes(tmp_path):
    path = tmp_path / "c.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    start = time.process_time()
    assert refusal(path).message == f"{path}: larger than {MAX_BYTES:,} bytes; that is no config"
    assert time.process_time() - start < 0.5


def test_a_file_may_be_as_large_as_it_is_said(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\n" + "#" * (MAX_BYTES - 5))
    assert read(path).value == {"a": 1}
    path.write_text("a: 1\n" + "#" * (MAX_BYTES - 4))
    assert "larger" in refusal(path).message


def test_a_system_that_sets_pipes_alone_to_wait_reads_files(tmp_path, monkeypatch):
    """As Windows does since Python 3.12."""

    def refuse(*_):
        raise OSError(1, "Incorrect function")

    (tmp_path / "c.yaml").write_text("seed: 1\n")
    monkeypatch.delattr(os, "O_NONBLOCK")
    monkeypatch.setattr(os, "set_blocking", refuse)
    assert read(tmp_path / "c.yaml").value == {"seed": 1}


def test_a_pipe_whose_writer_takes_its_time(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.fdopen(os.open(path, os.O_RDWR), "w")

    def write():
        time.sleep(0.2)
        with writer:
            writer.write("a: 1\n")

    thread = threading.Thread(target=write)
    thread.start()
    assert read(path).value == {"a": 1}
    thread.join()


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null\n", "~"])
def test_empty(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert refusal(path).message == "the config is empty; it needs at least `network:`"


@pytest.mark.parametrize("text", ["[a]", "a", "3", "- a\n- b\n", "'x'"])
def test_not_a_mapping(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    found = refusal(path)
    assert found.message == "a config is a mapping of keys to values"
    assert str(found.position) == f"{path}:1:1"


def test_files_that_can_not_be_read(tmp_path):
    missing, binary = tmp_path / "missing.yaml", tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert refusal(missing).message == f"{missing}: there is no such file"
    assert refusal(binary).message == "not a text file in UTF-8"
    binary.write_bytes(b"a: 1\nb: e\xff\n")
    assert refusal(binary).position == Position(str(binary), 2, 5, "b: e")
    binary.write_bytes(b"a: 1\nb: \xc3\xa9\xff\n")
    assert refusal(binary).position == Position(str(binary), 2, 5, "b: \u00e9")
    assert refusal(tmp_path).message.startswith(f"{tmp_path}: ")
    assert refusal(tmp_path / ("x" * 5000)).message.endswith("File name too long; that is no config")
    assert "null" in refusal(tmp_path / "a\0b").message


def test_a_run_directory_is_no_config_but_holds_one(tmp_path):
    assert refusal(tmp_path).message == f"{tmp_path}: Is a directory; that is no config"
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert refusal(tmp_path).message == (
        f"{tmp_path}: Is a directory; that is no config; did you mean {tmp_path / 'config.yaml'}?"
    )
