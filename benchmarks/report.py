"""Writes `docs/PERFORMANCE.md` from the results: `python -m benchmarks.report`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks import starts as starting
from benchmarks.run import IMAGES, PEERS, RESULTS
from benchmarks.starts import BATCH_SIZE, STARTS, STEPS, WORKLOAD
from benchmarks.workloads import WORKLOADS

NOTES = Path(__file__).parent / "notes.md"
PAGE = Path(__file__).parent.parent / "docs" / "PERFORMANCE.md"
TITLES = {
    "cnntrain": "cnntrain",
    "tuned": "tuned loop",
    "idiomatic": "idiomatic loop",
    "lightning": "Lightning",
    "keras-jax": "Keras, JAX",
    "keras-torch": "Keras, torch",
}
ON_A_GPU = {
    "epoch": "CUDA graph",
    "eager": "plain steps",
    "idiomatic": "idiomatic loop",
    "lightning_trainer": "Lightning",
    "keras_fit": "Keras",
}
Case = dict[str, Any]
# Turns that a figure needs.
FEWEST = 5


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seconds_a_step(figures: Case) -> float:
    """The median over the turns that count; not a number where too few do."""
    turns = [seconds for seconds in figures["step_seconds"] if seconds is not None]
    return median(turns) if len(turns) >= FEWEST else math.nan


def ratios(case: Case, peer: str) -> list[float]:
    """How many times as long as cnntrain a peer takes: lower quartile, median, upper quartile.

    Over the rounds in which both turns count, so that what slows a round slows both; nothing where those are too few.
    """
    pairs = zip(case[peer]["step_seconds"], case["cnntrain"]["step_seconds"], strict=True)
    found = [one / other for one, other in pairs if one is not None and other is not None]
    return quantiles(found, n=4, method="inclusive") if len(found) >= FEWEST else []


def spread(case: Case, peer: str) -> str:
    """The median ratio, and the quartiles."""
    found = ratios(case, peer)
    return f"{found[1]:.2f} ({found[0]:.2f}-{found[2]:.2f})" if found else "-"


def shown(value: float, form: str) -> str:
    """A figure, or that there is none."""
    return "-" if math.isnan(value) else format(value, form)


def steps_an_epoch(case: str) -> int:
    """Of 50,000 images."""
    return math.ceil(IMAGES / int(case.split("-")[1]))


def name_of(case: str) -> str:
    """`W2-10` for people."""
    workload, batch_size = case.split("-")
    return f"{workload}, batch {batch_size}"


def comparison(cases: dict[str, Case]) -> str:
    """How many times as long as cnntrain each peer takes."""
    peers = [peer for peer in PEERS if peer != "cnntrain"]
    rows = [[name_of(case), *(spread(figures, peer) for peer in peers)] for case, figures in sorted(cases.items())]
    return table(["times as long as cnntrain", *(TITLES[peer] for peer in peers)], rows)


def epochs(cases: dict[str, Case]) -> str:
    """Seconds for 50,000 images, and images a second."""
    rows = []
    for case, figures in sorted(cases.items()):
        times = [seconds_a_step(figures[peer]) * steps_an_epoch(case) for peer in PEERS]
        rows.append([name_of(case), *(shown(time, ".2f") for time in times), shown(IMAGES / times[0], ",.0f")])
    return table(["seconds an epoch", *(TITLES[peer] for peer in PEERS), "cnntrain, images/s"], rows)


def starts(results: dict[str, Any]) -> str:
    """Time to the first step and peak memory."""
    figures = results["peers"]
    first = [f"{median(figures[peer]['first_step_seconds']):.1f}" for peer in PEERS]
    memory = [f"{median(figures[peer]['peak_mib']):,.0f}" for peer in PEERS]
    rows = [["seconds to the end of the first step", *first], ["peak memory, MiB", *memory]]
    return table([f"{WORKLOAD}, batch {BATCH_SIZE}", *(TITLES[peer] for peer in PEERS)], rows)


def shares(results: dict[str, Any]) -> str:
    """How much of what the machine can compute is used."""
    rows = []
    for case, figures in sorted(results["cases"].items()):
        rate = results["gflop_a_step"][case] / seconds_a_step(figures["cnntrain"])
        rows.append([name_of(case), shown(rate, ".0f"), shown(rate / results["peaks"]["gflops"], ".0%")])
    return table(["cnntrain", "GFLOP/s", "of the peak"], rows)


def besides(case: Case) -> str:
    """What augmentation costs, and the speed of evaluation."""
    evaluated = 500 / seconds_a_step(case["cnntrain-evaluation"])
    return (
        f"With augmentation (rotation, shear and shift, a different transform for each image) a step of W4 at batch "
        f"128 takes {spread(case, 'cnntrain-augmented')} times as long. "
        f"W4 evaluates {shown(evaluated, ',.0f')} images a second."
    )


def machine(place: dict[str, Any]) -> str:
    """Where and with what it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items() if name != "cnntrain")
    return (
        f"Measured on {place['date']}: {place['processor']}, {place['cores']} cores, {place['threads']} threads; "
        f"Python {place['python']}, {versions}."
    )


def peak(peaks: dict[str, float]) -> str:
    """What the machine can do at best."""
    return (
        f"The machine's measured peaks: {peaks['gflops']:.0f} GFLOP/s in a float32 product of 2048x2048 matrices, "
        f"{peaks['copy_gbytes']:.0f} GB/s in a copy of 256 MiB."
    )


def on_a_gpu() -> str:
    """Seconds for an epoch on a GPU, where that was measured."""
    if not RESULTS.with_name("gpu.json").exists():
        return "Not measured yet: `bash benchmarks/gpu.sh` checks and times it on a machine with a GPU."
    results = json.loads(RESULTS.with_name("gpu.json").read_text())
    rows = [
        [
            name_of(case),
            *(shown(figures.get(name, math.nan), ".3f") for name in ON_A_GPU),
            shown(figures.get("idiomatic", math.nan) / figures.get("epoch", math.nan), ".1f"),
            shown(figures.get("first_step_seconds", math.nan), ".2f"),
            shown(figures.get("peak_mib", math.nan), ",.0f"),
        ]
        for case, figures in results["cases"].items()
    ]
    header = [f"seconds an epoch on {results['gpu']}", *ON_A_GPU.values(), "idiomatic / CUDA graph"]
    header += ["cnntrain: seconds to the first step", "peak memory, MiB"]
    return "\n\n".join([table(header, rows), *_besides_on_a_gpu(results)])


def _besides_on_a_gpu(results: dict[str, Any]) -> Iterator[str]:
    """What else was measured, as far as it was."""
    if "in turns" in results["more"]:
        one, five = (results["more"]["in turns"][networks] for networks in ("1", "5"))
        yield f"Five networks of W4 at batch 10, in turns in one process, take {five / one:.2f} times as long as one."
    for name, found in results["more"].items():
        if name.startswith("kernels of "):
            whole = f"{found['kernels']:.1f} kernels, which take {found['microseconds']:.0f} µs"
            totals = ("kernels", "microseconds")
            rows = [[kernel, f"{figure:.2f}"] for kernel, figure in found.items() if kernel not in totals]
            yield f"A step of {name_of(name.removeprefix('kernels of '))} has {whole}; the longest, times a step:"
            yield table(["kernel", "µs"], rows)
        case, _, trial = name.partition(", ")
        if trial:
            yield f"{name_of(case)}, as a CUDA graph, {trial}: {found['epoch']:.3f} s an epoch."
    for engine, how in {"graph": "as a CUDA graph", "compiled": "compiled"}.items():
        if halves := results["more"].get(f"W5-512 bfloat16 {engine}"):
            yield f"W5 in bfloat16, {how}: {halves['epoch']:.2f} s an epoch."
    for config, found in results["accurate"].items():
        yield (
            f"`cnntrain train {config}`: {found['accuracy']:.2%} of the test images (mean of {found['seeds']} seeds, "
            f"at least {found['lowest']:.2%}) in {found['steady']:.2f} s of training, {found['seconds']:.2f} s with "
            f"what its first epoch sets up, {found['wall']:.1f} s of the whole command."
        )


def page(results: dict[str, Any], started: dict[str, Any]) -> str:
    """The whole page: of what `benchmarks.run` and `benchmarks.starts` measured."""
    cases = results["cases"]
    workloads = "\n".join(f"- {name}: {workload.title}" for name, workload in WORKLOADS.items())
    notes = NOTES.read_text()
    return f"""# Performance

Written by `python -m benchmarks.report` from `benchmarks/results`, measured by `python -m benchmarks.run` and others.

## Ratios on a CPU

{comparison(cases)}

The median over rounds in which every peer has its turn, with the quartiles in brackets: if the quartiles lie on
both sides of 1, it is a tie.

{workloads}

float32; W1 to W4 on MNIST with plain SGD, W5 with momentum. All peers of a row run at once, each in its own process,
and train in turns: up to 15 turns of 300 steps (batch 10) or 24 (batch 128), or 7 turns of one step (batch 512),
after a warm-up, within one epoch: a part of an epoch stands for the whole. Work between epochs (validation, logs,
checkpoints) is not timed for any peer. Turns in which other processes took more than a twentieth of a processor are
left out; if fewer than five are left, there is no figure. cnntrain is timed in `training.loop`, the code that
`cnntrain train` runs; its peers are in `benchmarks/peers/`.

{machine(results["environment"])} {peak(results["peaks"])}

## Seconds

{epochs(cases)}

{besides(cases["W4-128"])}

{shares(results)}

## Starts and memory

{starts(started)}

By `python -m benchmarks.starts`: each peer alone, the median of {STARTS} starts, {STEPS} steps each. cnntrain keeps the
images as bytes, all other peers as float32. {machine(started["environment"])}

## Ratios on a GPU

{on_a_gpu()}

{notes}"""


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(json.loads(RESULTS.read_text()), json.loads(starting.RESULTS.read_text())))


if __name__ == "__main__":
    main()
