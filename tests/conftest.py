"""What many tests need: a small config, a trained run, real data where it is there, the command line in-process."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest

# Small networks gain nothing from a second thread, and test processes side by side lose much by it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is compared to the bit is compared on the CPU; what needs a GPU is marked so, and runs where that is asked for.
if not os.environ.get("CNNTRAIN_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# cuBLAS reads it once; a test that asks for determinism may not be the first to use it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# A shell starts what it puts into the background with Ctrl-C ignored, `nohup` with a hangup ignored, and what is
# ignored stays so in children.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parent.parent

TINY = """
data: {source: digits, augment: [{shift: 1}]}
network:
  - conv: {filters: 8, kernel_size: 3, activation: relu}
  - batch_norm
  - max_pool: 2
  - fully_connected: {units: 32, activation: relu, dropout: 0.2}
  - softmax
training:
  epochs: 3
  batch_size: 32
  optimizer: {sgd: {learning_rate: 0.1, momentum: 0.9}}
  schedule: cosine
"""


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        reason = "needs a GPU with CUDA, and CNNTRAIN_TEST_GPU=1"
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Keep decoded images out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        # matplotlib takes half a minute to list the fonts, and keeps the list there.
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or platformdirs.user_cache_dir("matplotlib"))
        patch.setenv("CNNTRAIN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny(tmp_path):
    """The path of a config that trains in about a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of the tiny config; tests must not change it."""
    from cnntrain.app.configure import load_config
    from cnntrain.app.train import train_run
    from cnntrain.app.where import Where

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    train_run(load_config(folder / "tiny.yaml"), folder / "run", Where())
    return folder / "run"


@pytest.fixture(scope="session")
def data_dir():
    """The folder with real MNIST and CIFAR-10."""
    folder = os.environ.get("CNNTRAIN_DATA_DIR")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("CNNTRAIN_DATA_DIR does not name a folder with mnist/ in it")
    return Path(folder)


@pytest.fixture
def rare(tmp_path):
    """The path of an .npz of two classes, of which 1, of 1 in 21 images, is a little brighter than 0."""
    import numpy as np

    drawn, labels = np.random.default_rng(0), (np.arange(1260) % 21 == 0).astype(int)
    images = drawn.normal(100 + 20 * labels[:, None, None], 40, (1260, 4, 4)).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "rare.npz", images=images, labels=labels)
    return tmp_path / "rare.npz"


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def cnntrain(monkeypatch, capsys):
    """Run the command line in this process."""
    from cnntrain.cli.main import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["cnntrain", *map(str, arguments)])
        # What it sets for its children is not meant for those of other tests.
        monkeypatch.setenv("PYTHONSAFEPATH", "")
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code or 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def group_of_one():
    """Lets this process be a group, as those that train together are."""
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
