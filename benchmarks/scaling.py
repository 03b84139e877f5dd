"""How cost grows: with data, batch size and width, in memory and streamed from a disk.

python -m benchmarks.scaling [--output benchmarks/scaling.json]

Needs CNNTRAIN_DATA_DIR with MNIST; takes some minutes. Every point is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import ctime, perf_counter
from typing import Any

CONV = "{conv_pool: {filters: %d, activation: relu}}"
DENSE = "{fully_connected: {units: %d, activation: relu, dropout: %s}}"
# The book's network with dropout, and its first one with a convolution.
W4 = f"[{CONV % 20}, {CONV % 40}, {DENSE % (1000, 0.5)}, {DENSE % (1000, 0.5)}, {{softmax: {{dropout: 0.5}}}}]"
W2 = f"[{CONV % 20}, {DENSE % (100, 0)}, softmax]"
ROUNDS = 5
SECONDS = 0.6


def points() -> list[dict[str, Any]]:
    """What is measured: how often MNIST is repeated, the network, the batch size, and whether images are streamed."""
    found = [
        {"series": series, "times": times, "network": W4, "batch": 128, "streamed": series == "data, streamed"}
        for series in ("data, resident", "data, streamed")
        for times in (1, 2, 3, 4, 5)
    ]
    for batch in (10, 32, 128, 512, 1024, 4096):
        found.append({"series": "batch size", "times": 1, "network": W2, "batch": batch, "streamed": False})
    for units in (100, 300, 1000, 3000):
        network = f"[{CONV % 20}, {DENSE % (units, 0)}, softmax]"
        found.append(
            {"series": "width", "times": 1, "network": network, "batch": 128, "streamed": False, "units": units}
        )
    return found


def write_data(file: Path, times: int) -> None:
    """MNIST, its training images repeated."""
    import numpy as np

    from cnntrain.data.images import Folders
    from cnntrain.data.sources.idx import mnist

    data = mnist(Folders.standard(None))
    assert data.test is not None
    np.savez(
        file,
        x_train=np.tile(data.train.pixels[:][:, 0], (times, 1, 1)),
        y_train=np.tile(data.train.labels, times),
        x_test=data.test.pixels[:][:, 0],
        y_test=data.test.labels,
    )


def steps(folder: Path, point: dict[str, Any]) -> Any:
    """A generator that trains on, and gives how many images it has trained on since the last time."""
    from cnntrain.app.configure import load_config
    from cnntrain.app.display import Silent
    from cnntrain.app.preparation import prepared
    from cnntrain.app.ranks import joined
    from cnntrain.app.where import Where
    from cnntrain.training.loop import train

    config = folder / "config.yaml"
    source = f"{{npz: {{path: {folder / 'data.npz'}}}}}"
    config.write_text(f"data: {{source: {source}, validation: 10000}}\nnetwork: {point['network']}\n")
    overrides = [f"training.batch_size={point['batch']}", "training.epochs=1000"]
    budget = ["data.memory_budget=1"] if point["streamed"] else ["data.memory_budget=100GiB"]
    with joined("cpu") as ranks:
        given = prepared(load_config(config, overrides + budget), Where(), ranks, Silent())
    yield len(given.splits.train)
    done = 0
    for _ in train(given.plan, given.state):
        yield point["batch"] * (given.state.step - done)
        done = given.state.step


def burst(training: Any) -> float:
    """Seconds an image, over a while of training."""
    started, images = perf_counter(), 0
    while perf_counter() - started < SECONDS:
        images += next(training)
    return (perf_counter() - started) / images


def memory() -> dict[str, float]:
    """MiB of this process: its own, and with the pages of files, which the system takes back when it needs them."""
    status = Path("/proc/self/status").read_text()
    found = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("RssAnon", "VmHWM")}  # type: ignore[index]
    return {"own_mib": round(found["RssAnon"] / 1024, 1), "peak_mib": round(found["VmHWM"] / 1024, 1)}


def machine() -> dict[str, Any]:
    """Where these figures hold."""
    import torch

    return {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__, "at": ctime()}


def measure(folder: Path, point: dict[str, Any]) -> dict[str, Any]:
    """One point, in this process."""
    training = steps(folder, point)
    images = next(training)
    burst(training)
    rate = 1 / min(burst(training) for _ in range(ROUNDS))
    return {**point, "images_per_second": round(rate), "epochs_per_second": round(rate / images, 4), **memory()}


def compare(folder: Path) -> dict[str, Any]:
    """Streamed beside resident, in turns, so that both meet the same machine."""
    point = {"network": W4, "batch": 128}
    both = [steps(folder, {**point, "streamed": streamed}) for streamed in (False, True)]
    for training in both:
        next(training)
        burst(training)
    pairs = [[burst(training) for training in both] for _ in range(2 * ROUNDS)]
    return {
        "series": "streamed beside resident, W4, batch 128",
        "rounds": len(pairs),
        "speed_of_streamed": round(median(one / other for one, other in pairs), 3),
        "fastest_rounds": round(min(one for one, _ in pairs) / min(other for _, other in pairs), 3),
    }


def main() -> None:
    """Measure everything, or (in a process of its own) one point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--point", nargs=2)
    given = parser.parse_args()
    if given.point:
        folder, point = Path(given.point[0]), json.loads(given.point[1])
        print(json.dumps(compare(folder) if point is None else measure(folder, point)))
        return
    results = []
    with tempfile.TemporaryDirectory() as name:
        environment = {**os.environ, "CNNTRAIN_CACHE_DIR": name}
        written = 0
        for point in [None, *points()]:
            if (point or {"times": 1})["times"] != written:
                written = (point or {"times": 1})["times"]
                write_data(Path(name) / "data.npz", written)
            command = [sys.executable, "-m", "benchmarks.scaling", "--point", name, json.dumps(point)]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
            print(done.stdout, end="", file=sys.stderr)
            given.output.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
