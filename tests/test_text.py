"""Text that comes from outside is shown as it is, or in escapes."""

import os

import pytest

from cnntrain.text import as_command, counted, either, is_printable, loss, printable, shortened


@pytest.mark.parametrize(
    "text", ["", "a b", "line\nline", "tab\t", "\u3042", "\xa0\xe9", "\u202f\u2065\u206a", "\U0001f600"]
)
def test_what_acts_on_nothing_stays(text):
    assert is_printable(text)
    assert printable(text) == text


@pytest.mark.parametrize(
    "first, last",
    [
        ("\x00", "\x08"),
        ("\x0b", "\x1f"),
        ("\x7f", "\x9f"),
        ("\u202a", "\u202e"),
        ("\u2066", "\u2069"),
        ("\ud800", "\udfff"),
    ],
)
def test_what_acts_is_escaped(first, last):
    for code in {ord(first), (ord(first) + ord(last)) // 2, ord(last)}:
        assert not is_printable(f"a{chr(code)}b")
        escape = f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
        if chr(code) != "\r":
            assert printable(f"a{chr(code)}b") == f"a{escape}b"
    assert printable("a\rb") == r"a\rb"


def test_a_long_text_keeps_both_ends():
    assert shortened("0123456789", 10) == "0123456789"
    assert shortened("0123456789A", 10) == "012...89A"
    assert shortened("0123456789A", 9) == "012...89A"


@pytest.mark.parametrize(("number", "said"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1234, "1,234 runs")])
def test_what_is_counted(number, said):
    assert counted(number, "run") == said


@pytest.mark.parametrize(
    ("system", "line"), [("posix", "train 'a b' 'runs\\x' '\"'"), ("nt", 'train "a b" runs\\x \\"')]
)
def test_a_command_is_for_the_shell_of_the_system(monkeypatch, system, line):
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        said = as_command(["train", "a b", "runs\\x", '"'])
    assert said == line


def test_a_loss_is_short_however_large():
    assert [loss(value) for value in (0.0, 0.12345, 9999.5, 10_000.0, 1.23456e29)] == [
        "0.0000", "0.1235", "9999.5000", "1.000e+04", "1.235e+29",
    ]  # fmt: skip
    assert loss(float("nan")) == "nan"


@pytest.mark.parametrize(("ways", "said"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b, or c")])
def test_ways_are_one_or_the_other(ways, said):
    assert either(ways) == said
