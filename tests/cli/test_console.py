"""What is told on a terminal is told as it is: no markup, no emoji, no control characters."""

import sys

import pytest

from cnntrain.cli import console
from cnntrain.cli.console import Terminal


@pytest.fixture
def on_a_terminal(monkeypatch, capsys):
    """Standard error is taken for one that knows colours."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


LINE = "[bold]a[/bold] [x] :smile: \x1b[2J " + "long " * 60


def test_lines_are_told_as_they_are(capsys):
    with Terminal(quiet=False) as display:
        display.say(LINE)
        display.warn(LINE)
        display.progress(1, 2, "epoch")
    shown = LINE.replace("\x1b", "\\x1b")
    assert capsys.readouterr().err == f"{shown}\nwarning: {shown}\n"


def test_a_terminal_has_a_bar(on_a_terminal, capsys):
    with Terminal(quiet=False) as display:
        display.progress(1, 80, "epoch 1/2")
        display.progress(80, 80, "epoch 2/2")
    drawn = capsys.readouterr().err
    assert "epoch 2/2" in drawn and "80/80" in drawn
    # The cursor is seen again.
    assert "\x1b[?25l" in drawn and "\x1b[?25h" in drawn
    with Terminal(quiet=True) as display:
        display.progress(1, 80, "epoch 1/2")
    assert capsys.readouterr().err == ""


def test_what_is_done_has_no_bar_any_more(on_a_terminal, capsys, monkeypatch):
    monkeypatch.setattr(console, "REFRESH_SECONDS", 0)
    with Terminal(quiet=False) as display:
        display.progress(80, 80, "images")
        assert capsys.readouterr().err == ""
        display.progress(1, 80, "images")
        for _ in range(3):
            display.progress(80, 80, "images")
        # The cursor is seen again, where the bar was.
        drawn = capsys.readouterr().err
        assert drawn.endswith("\x1b[?25h\r\x1b[1A\x1b[2K") and drawn.count("\x1b[?25h") == 1
        assert "1/80" in drawn and "80/80" in drawn
        display.progress(1, 9, "epoch 1/9")
    drawn = capsys.readouterr().err
    assert "1/9" in drawn and "images" not in drawn


def test_what_is_done_now_is_told_at_once(on_a_terminal, capsys, monkeypatch):
    monkeypatch.setattr(console, "REFRESH_SECONDS", 1000)
    # A machine that was just started.
    monkeypatch.setattr(console, "monotonic", lambda: 1.0)
    with Terminal(quiet=False) as display:
        display.progress(1, 9, "epoch 1/3")
        display.progress(2, 9, "epoch 1/3")
        display.progress(3, 9, "epoch 1/3, evaluation")
    drawn = capsys.readouterr().err
    assert "evaluation" in drawn and "3/9" in drawn and "2/9" not in drawn


def test_a_file_has_no_bar_whatever_colours_are_forced_upon_it(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Terminal(quiet=False) as display:
        display.progress(1, 80, "images")
        display.progress(80, 80, "images")
        display.warn("a warning")
    assert capsys.readouterr().err == "\x1b[33mwarning: a warning\x1b[0m\n"


def test_rows_that_fill_a_terminal_meet_no_bar(on_a_terminal, capsys):
    with Terminal(quiet=False, is_shared=True) as display:
        display.progress(1, 80, "images")
        display.say("a line")
    assert capsys.readouterr().err == "a line\n"


def test_only_warnings_break_the_quiet(capsys):
    with Terminal(quiet=True) as display:
        display.say("a line")
        display.warn("a warning")
    assert capsys.readouterr().err == "warning: a warning\n"


@pytest.mark.parametrize("is_plain", [False, True])
def test_no_color_is_honoured(on_a_terminal, capsys, monkeypatch, is_plain):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if is_plain:
        monkeypatch.setenv("NO_COLOR", "1")
    with Terminal(quiet=False) as display:
        display.warn("a warning")
    said = capsys.readouterr().err
    assert "warning: a warning" in said
    assert ("\x1b[33m" in said) is not is_plain
