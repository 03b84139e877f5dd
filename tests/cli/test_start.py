"""The first touch: help comes back in under half a second of CPU time, errors in one, both without torch."""

import resource
import subprocess
import sys

import pytest

BAD = "network: [{conv: {filters: 0}}, sofmax]\n"


def cpu_seconds(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "cnntrain", *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help(tmp_path):
    results = [cpu_seconds("--help") for _ in range(3)]
    assert all(done.returncode == 0 and "train" in done.stdout for done, _ in results)
    assert min(seconds for _, seconds in results) < 0.5


def test_config_error(tmp_path):
    (tmp_path / "bad.yaml").write_text(BAD)
    results = [cpu_seconds("train", str(tmp_path / "bad.yaml")) for _ in range(3)]
    assert all(done.returncode == 2 and "did you mean `softmax`" in done.stderr for done, _ in results)
    assert min(seconds for _, seconds in results) < 1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["layers"], ["schema"], ["check", "bad.yaml"], ["train", "bad.yaml"]]
)
def test_without_torch(arguments, tmp_path):
    (tmp_path / "bad.yaml").write_text(BAD)
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['cnntrain', *{arguments!r}]\n"
        "try:\n    runpy.run_module('cnntrain', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'PIL', 'matplotlib', 'multiprocessing'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_does_not_search_all_of_torch_at_the_end():
    code = (
        "import atexit, gc, sys\n"
        "from cnntrain.cli.main import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"
        "sys.argv = ['cnntrain', '--help']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout.splitlines()[-1]) > 10_000


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_training_without_torchs_compiler(optimizer, tmp_path):
    """torch would import its compiler with the first optimizer, and again to be deterministic: for a second each."""
    code = (
        "import sys, runpy\n"
        "sys.argv = ['cnntrain', 'train', 'c.yaml']\n"
        "try:\n    runpy.run_module('cnntrain', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "slow = {'torch._dynamo', 'torch._inductor'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)\n"
    )
    (tmp_path / "c.yaml").write_text(
        "data: {source: digits, validation: 100}\nnetwork: [softmax]\n"
        f"training: {{epochs: 2, deterministic: true, clip_grad_norm: 1, optimizer: {optimizer}}}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all 2 epochs are done" in done.stderr
