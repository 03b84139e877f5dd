"""How long each peer takes to its first step, and the most memory it holds: `python -m benchmarks.starts`.

W4 at batch 128. Each start is a process of its own, alone on the machine, and ends after a number of steps; the median
of several starts counts. `benchmarks.report` adds the figures to the page.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median

from benchmarks.run import PEERS, Worker, environment

RESULTS = Path(__file__).parent / "results" / "starts.json"
WORKLOAD, BATCH_SIZE = "W4", 128
STARTS = 5
STEPS = 100


def start(peer: str, threads: int) -> tuple[float, float]:
    """(seconds from the start of the process to the end of its first step, MiB that it held at most)."""
    worker = Worker(*PEERS[peer], WORKLOAD, BATCH_SIZE, threads)
    answer = worker.run(STEPS)
    worker.close()
    return worker.first["since_start"], answer["peak_mib"]


def main() -> None:
    """Start all peers in turns, and write down what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    threads = parser.parse_args().threads
    turns = [{peer: start(peer, threads) for peer in PEERS} for _ in range(STARTS)]
    peers: dict[str, dict[str, list[float]]] = {}
    for peer in PEERS:
        seconds, mib = zip(*(turn[peer] for turn in turns), strict=True)
        peers[peer] = {"first_step_seconds": list(seconds), "peak_mib": list(mib)}
        print(f"{peer}: {median(seconds):.1f} s, {median(mib):,.0f} MiB")
    RESULTS.write_text(json.dumps({"environment": environment(threads), "peers": peers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
