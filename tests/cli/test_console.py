"""What is told on a terminal is told as it is: no markup, no emoji, no control characters."""

from cnntrain.cli.console import Terminal

LINE = "[bold]a[/bold] [x] :smile: \x1b[2J " + "long " * 60


def test_lines_are_told_as_they_are(capsys):
    with Terminal(quiet=False) as display:
        display.say(LINE)
        display.warn(LINE)
        display.progress(1, 2, "epoch")
    shown = LINE.replace("\x1b", "\\x1b")
    assert capsys.readouterr().err == f"{shown}\nwarning: {shown}\n"


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
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


def test_only_warnings_break_the_quiet(capsys):
    with Terminal(quiet=True) as display:
        display.say("a line")
        display.warn("a warning")
    assert capsys.readouterr().err == "warning: a warning\n"
