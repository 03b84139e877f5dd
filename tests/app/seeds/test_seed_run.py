"""What runs side by side tell of themselves reaches the display under their numbers."""

from cnntrain.app.seeds import run as seed_run
from cnntrain.app.seeds.run import Failure, Relay, SeedRuns


class Heard:
    """A display that keeps all that it is told."""

    def __init__(self):
        self.told = []

    def say(self, line):
        self.told.append(("say", line))

    def warn(self, line):
        self.told.append(("warn", line))

    def progress(self, *what):
        self.told.append(("progress", *what))


def test_how_far_all_are_together():
    display = Heard()
    runs = SeedRuns(display, 2)
    for number, done in ((3, 10), (5, 4), (3, 12)):
        runs.hear("progress", number, done, 40)
    assert display.told == [
        ("progress", 10, 40, "seeds 3"),
        ("progress", 14, 80, "seeds 3, 5"),
        ("progress", 16, 80, "seeds 3, 5"),
    ]


def test_lines_and_warnings_bear_the_seed():
    display = Heard()
    relay = Relay(7, SeedRuns(display, 1).hear)
    relay.say("epoch 1/2")
    relay.warn("no disk")
    assert display.told == [("say", "seed 7: epoch 1/2"), ("warn", "seed 7: no disk")]


def test_a_failure_is_told_at_once_where_others_go_on_and_else_at_the_end():
    display = Heard()
    runs = SeedRuns(display, 3)
    runs.hear("failed", 1, "no disk", 2)
    runs.hear("summary", 0, {"seed": 0})
    runs.hear("interrupted", 4)
    assert display.told == [("warn", "seed 1: no disk")]
    runs.hear("failed", 2, "no memory")
    assert display.told == [("warn", "seed 1: no disk")]
    assert runs.summaries == {0: {"seed": 0}}
    assert runs.failures == {
        1: Failure("no disk", 2),
        4: Failure("interrupted; repeat the command to continue", 130),
        2: Failure("no memory", 1),
    }


def test_progress_is_relayed_a_few_times_a_second(monkeypatch):
    clock, heard = [0.0], []
    monkeypatch.setattr(seed_run, "monotonic", lambda: clock[0])
    relay = Relay(7, lambda *message: heard.append(message))
    for done, after in ((1, 0), (2, 0.1), (3, 0.15), (4, 0.1), (5, 0.3), (9, 0)):
        clock[0] += after
        relay.progress(done, 9, "epoch 1/1")
    assert heard == [("progress", 7, 1, 9), ("progress", 7, 3, 9), ("progress", 7, 5, 9), ("progress", 7, 9, 9)]
