"""The README is true: its commands run, in their order, and its configs load."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = [text for language, text in BLOCKS if language == "sh"]


def needs_mnist(block):
    return "quick" in block


def run(block, folder):
    commands = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["bash", "-ec", block], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone's configs, the README's plugin, and some pictures."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "my_layers.py").write_text(next(text for language, text in BLOCKS if language == "python"))
    (folder / "photos").mkdir()
    Image.new("L", (28, 28), 255).save(folder / "photos" / "blank.png")
    return folder


def test_the_two_commands_are_there_as_they_are_tested_elsewhere():
    assert "pip install -e . && cnntrain train configs/digits.yaml\n" in SHELL
    assert 'pip install -e ".[test]" && pytest -n auto\n' in SHELL
    assert re.search(r"^pip install --quiet -e '\.\[test\]'\n(.*\n)*pytest -n auto$", CI, re.MULTILINE)


def test_every_command_block_runs(folder):
    ran = 0
    for block in SHELL:
        if "pip install" in block or (needs_mnist(block) and not os.environ.get("CNNTRAIN_DATA_DIR")):
            continue
        done = run(block, folder)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 6


def test_every_config_in_it_is_right(cnntrain, tmp_path):
    yaml = [text for language, text in BLOCKS if language == "yaml"]
    assert len(yaml) == 3
    for index, text in enumerate(yaml):
        whole = text if "network:" in text else text + "network: [softmax]\n"
        (tmp_path / f"{index}.yaml").write_text(whole)
        outcome = cnntrain("check", tmp_path / f"{index}.yaml")
        assert (outcome.code, outcome.err) == (0, "")


def test_every_command_is_in_its_table():
    done = run("cnntrain --help", ROOT)
    commands = re.findall(r"│ (\w+)  +\w", done.stdout)
    assert {"train", "eval", "predict"} <= set(commands)
    for command in commands:
        assert f"| `{command}" in README


def test_its_error_message_is_what_one_gets(cnntrain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("network:\n  - conv: {filters: 8, kernal_size: 3}\ntraining:\n  batch_size: -1\n")
    outcome = cnntrain("check", "c.yaml")
    assert outcome.code == 2 and outcome.err in README


def test_every_shipped_config_is_right_and_says_how_to_run_it(cnntrain):
    found = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(found) >= 2
    for path in found:
        outcome = cnntrain("check", path)
        assert (outcome.code, outcome.err) == (0, ""), path
        assert path.read_text().startswith(f"# cnntrain train {path.relative_to(ROOT)}\n"), path
