"""docs/files.md names every column and every main key that there is, and no other."""

import json
import re
from dataclasses import fields

import pytest
from conftest import ROOT

from cnntrain.app.compare import Comparison
from cnntrain.app.doctor import Examination
from cnntrain.app.ensemble import Ensemble
from cnntrain.app.probe import Probed
from cnntrain.app.verify import Verification
from cnntrain.training.rows import EpochResult, LayerHealth

PAGE = (ROOT / "docs" / "files.md").read_text()


def section(title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def first_cells(title):
    """The names in the first column of a section's table."""
    cells = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return [name for cell in cells for name in re.findall("`(.*?)`", cell)]


def printed(command):
    """The names that the page gives for what a command prints."""
    [cell] = re.findall(rf"^\| `{command}` \| (.*) \|$", section("What `--json` prints"), re.MULTILINE)
    return set(re.findall("`(.*?)`", cell))


def names(kind):
    return [field.name for field in fields(kind)]


def test_columns(trained):
    assert first_cells("metrics.csv") == names(EpochResult)
    assert set(re.findall("`(.*?)`", section("diagnostics.csv"))) == set(names(LayerHealth))
    summary = json.loads((trained / "summary.json").read_text())
    assert set(first_cells("summary.json")) == set(summary)
    assert set(summary["verdict"]) <= set(re.findall("`(.*?)`", section("summary.json")))


def test_what_eval_prints(cnntrain, trained):
    report = json.loads(cnntrain("eval", trained, "--json").out)
    inner = {*report["classes"][0], *report["mistakes"][0], *report["accepted"][0]}
    # Files have a path, and many classes the other.
    assert printed("eval") == {*report, *inner, "path", "top_5_accuracy"}


@pytest.mark.parametrize(
    ("command", "kind", "further"),
    [
        ("ensemble", Ensemble, {"picture", "probability"}),
        ("verify", Verification, {"claims"}),
        ("compare", Comparison, {"runs", "mean", "standard_error"}),
        ("doctor", Examination, {"what", "fix", "sound", "runs"}),
        ("probe", Probed, set()),
    ],
)
def test_what_other_commands_print(command, kind, further):
    assert printed(command) == {*names(kind), *further}
