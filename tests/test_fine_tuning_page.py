"""docs/fine-tuning.md is true: its commands run, and fine-tuning helps as it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PAGE = (ROOT / "docs" / "fine-tuning.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_its_commands(data_dir, tmp_path):
    (script,), (commands,) = ([text for language, text in BLOCKS if language == kind] for kind in ("python", "sh"))
    (tmp_path / "own.py").write_text(script)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CNNTRAIN_DATA_DIR": str(data_dir.absolute())}
    done = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before = float(re.search(r"test: 1,647 images, .*? accuracy ([0-9.]+) %", done.stdout)[1])
    summary = json.loads((tmp_path / "runs" / "own" / "summary.json").read_text())
    assert 100 * summary["best"]["test_accuracy"] > before + 2
    assert (summary["init_from"]["taken"], summary["images"]["train"]) == (8, 120)
    told = done.stderr
    for line in PAGE.split("```text\n")[1].split("```")[0].splitlines():
        assert line == "..." or re.sub(r"[0-9.]+", "N", line) in re.sub(r"[0-9.]+", "N", told)
