"""Configs made to hurt: refused within a second and little memory, at their place, and nothing runs."""

import gc
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from cnntrain.app.configure import load_config
from cnntrain.errors import ConfigError

CANARY = "touch {canary}"
HOSTILE = {
    "alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)),
    "deep lists": "network: " + "[" * 100_000,
    "deep mappings": "{a: " * 30_000,
    "deep blocks": "- " * 95_000,
    "deep keys": "? " * 100_000,
    "too many keys": "".join(f"k{i}: 1\n" for i in range(19_000)),
    "many wrong keys": "".join(f"k{i}: 1\n" for i in range(2_500)),
    "many wrong layers": "network:\n" + "- softmaxx\n" * 3_500,
    "keys twice": "network: [softmax]\n" + "seed: 1\n" * 2_500,
    "python tag": "network: !!python/object/apply:os.system ['touch {canary}']\n",
    "tag by directive": "%TAG ! tag:yaml.org,2002:python/\n---\nnetwork: !object/apply:os.system ['touch {canary}']\n",
    "NUL": "network: [softmax]\nseed: \0\n",
    "NUL in quotes": 'network: [softmax]\ninit_from: "a\\0b"\n',
    "terminal escapes": 'network: ["\\e[2J\\e]0;owned\\a"]\n',
    "half a character": '"\\ud800": 1\nnetwork: [softmax]\n',
    "long text": "network: [softmax]\nseed: '" + "x" * 190_000 + "'\n",
    "long key": "? " + "x" * 190_000 + "\n: 1\n",
    "long line": "network: [" + ",".join(["q" * 3_000] * 60) + "]\n",
    "digits": "network: [softmax]\nseed: " + "9" * 190_000 + "\n",
    "merge key": "network: [softmax]\n<<: {seed: 1}\n",
    "recursive": "network: &a [*a]\n",
    "directives": "%a\n" * 60_000,
    "itself": "extends: c.yaml\n",
    "a device": "extends: /dev/zero\n",
    "a pipe": "extends: pipe\n",
    "a chain": "extends: e0.yaml\n",
    "not UTF-8": b"network: [softmax]\nseed: \xff\n",
    "UTF-16": "network: [softmax]\n".encode("utf-16"),
}


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("name", HOSTILE)
def test_refused_quickly_at_its_place(tmp_path, name):
    text = HOSTILE[name]
    canary = tmp_path / "canary"
    content = text if isinstance(text, bytes) else text.replace("{canary}", str(canary)).encode()
    (tmp_path / "c.yaml").write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    for number in range(30):
        (tmp_path / f"e{number}.yaml").write_text(f"extends: e{number + 1}.yaml\n")
    with only_its_own_garbage():
        started = time.process_time()
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "c.yaml")
        assert time.process_time() - started < 1
    assert len(str(caught.value)) < 120_000
    assert all(problem.position for problem in caught.value.problems)
    assert not canary.exists()


@contextmanager
def only_its_own_garbage():
    """Spare the collector the half a million objects that other tests left: a third of a second to look through."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def test_a_hundred_megabytes_a_device_and_a_pipe(tmp_path):
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(100_000_000)
    os.mkfifo(tmp_path / "pipe")
    for path, expected in ((tmp_path / "big.yaml", "larger"), ("/dev/zero", "larger"), (tmp_path / "pipe", "empty")):
        done, peak, seconds = measured("check", str(path))
        assert done.returncode == 2
        assert expected in done.stderr
        assert peak < 300 * 2**20
        assert seconds < 1


def measured(*arguments):
    """A command in a process of its own: the process, its peak of memory in bytes, its seconds of CPU."""
    code = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_maxrss, used.ru_utime + used.ru_stime); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "cnntrain", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    peak, seconds = done.stdout.split()[-2:]
    return done, int(peak) * 1024, float(seconds)
