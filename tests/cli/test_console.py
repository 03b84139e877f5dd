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


def test_only_warnings_break_the_quiet(capsys):
    with Terminal(quiet=True) as display:
        display.say("a line")
        display.warn("a warning")
    assert capsys.readouterr().err == "warning: a warning\n"
