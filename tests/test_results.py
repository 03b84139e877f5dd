"""The scripts that write pages from runs, and measure how cost grows, do what they say."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from benchmarks import scaling

ROOT = Path(__file__).parent.parent


@pytest.fixture
def results(monkeypatch, tmp_path):
    """docs/results.py, which writes beside itself, in a folder of its own."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "results.py", tmp_path / "docs")
    specification = importlib.util.spec_from_file_location("results", tmp_path / "docs" / "results.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_of_results_says_what_runs_reached(results, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs" / "02-conv" / "seed-0")
    results.main(tmp_path / "runs")
    page = (tmp_path / "docs" / "RESULTS.md").read_text()
    summary = json.loads((trained / "summary.json").read_text())
    reached = f"{100 * summary['best']['test_accuracy']:.2f}"
    # Of fewer epochs than the book's, which is said.
    assert f"| `02-conv` | **{summary['epochs']}** | 60 | 98.78 | 0 | {reached} | {reached} |" in page
    assert f"| `02-conv/seed-0` | 0 | {summary['epochs']} |" in page
    assert "| `01-shallow` | not run | 60 | 97.80 | | | |" in page
    with pytest.raises(SystemExit, match="there are no finished runs"):
        results.main(tmp_path)
    assert (tmp_path / "docs" / "RESULTS.md").read_text() == page


def test_how_cost_grows_is_measured(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "SECONDS", 0.05)
    scaling.write_data(tmp_path / "data.npz", 1)
    point = next(point for point in scaling.points() if point["series"] == "width")
    found = scaling.measure(tmp_path, point)
    assert found["series"] == "width"
    assert found["images_per_second"] > 10
    assert found["epochs_per_second"] == pytest.approx(found["images_per_second"] / 50_000, abs=1e-4)
    assert 50 < found["own_mib"] < 5000
