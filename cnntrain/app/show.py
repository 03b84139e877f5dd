"""Looking at a config before it is trained: its layers, its learning rate, its augmented images."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from cnntrain import atomic
from cnntrain.app.display import Display
from cnntrain.app.transfer import matched, named
from cnntrain.config.schema import Config
from cnntrain.data.batches import Resident, Shifted, derived_seed
from cnntrain.data.images import Folders
from cnntrain.data.preprocess import Preprocessing
from cnntrain.errors import UsageError
from cnntrain.network.build import check
from cnntrain.network.summary import summarize
from cnntrain.reports.pictures import grid
from cnntrain.reports.text import area_plot, table
from cnntrain.training.rows import in_words
from cnntrain.training.schedules import NoImprovement, warmed_up

EXAMPLES, VARIANTS = 8, 9
MOST_EPOCHS = 10_000
# How often a plot looks at a schedule: in an epoch, and in all.
FEWEST_STEPS, STEPS = 40, 2_000
ROUNDING = 1e-12


def layer_table(config: Config, data_dir: str | Path | None, display: Display | None = None) -> str:
    """The layers with output shapes, parameters, multiply-accumulates and memory for one image, as a table.

    A second table has what is taken from `init_from`, where the config has it.
    """
    dataset = config.data.source.make(Folders.standard(data_dir, display))
    shape = dataset.train.pixels.shape[1:]
    network = check(config, shape, len(dataset.classes))
    rows = summarize(network, shape)
    cells = [("layer", "output", "parameters", "MACs", "activations"), ("input", str(shape), "", "", "")]
    cells += [
        (row.name, str(row.output), f"{row.parameters:,}", f"{row.macs:,}", _kilobytes(row.memory)) for row in rows
    ]
    parameters, macs, memory = (sum(getattr(row, name) for row in rows) for name in ("parameters", "macs", "memory"))
    cells.append(("total", "", f"{parameters:,}", f"{macs:,}", _kilobytes(memory)))
    text = table(cells, left=2)
    if config.init_from is not None:
        text += f"\n\n{matched(*named(config.init_from), network, dataset.classes).text}"
    return text


def _kilobytes(count: int) -> str:
    return f"{count / 1024:,.1f} KiB"


def schedule_plot(config: Config) -> str:
    """The learning rate over all epochs, as text; what depends on results is drawn as if nothing ever improved."""
    training = config.training
    rate, epochs = training.optimizer.arguments.model_dump().get("learning_rate"), training.epochs
    if rate is None:
        raise UsageError(f"the optimizer `{training.optimizer.name}` has no `learning_rate` to plot")
    if epochs > MOST_EPOCHS:
        raise UsageError(f"a schedule over {epochs:,} epochs can't be plotted; the limit is {MOST_EPOCHS:,}")
    schedule, stopping = training.schedule.make(epochs), NoImprovement()
    # Where a schedule is known beforehand, there is more to see than until nothing has improved for long enough.
    patience = training.early_stopping.patience if training.early_stopping and schedule.state() else math.inf
    steps, ending = max(FEWEST_STEPS, STEPS // epochs), ""
    values: list[float] = []
    epoch, last = 0, 0.0
    while epoch < epochs and not ending:
        times = [epoch + step / steps for step in range(steps)]
        values += [rate * warmed_up(schedule.factor(time), time, training.warmup_epochs, 1 / steps) for time in times]
        end = math.nextafter(epoch + 1, 0)
        last = rate * warmed_up(schedule.factor(end), end, training.warmup_epochs, 0)
        schedule.observe(0.0)
        ending = "`training.early_stopping`" if stopping.observe(0.0) >= patience else schedule.finished
        epoch += 1
    # A straight line to 0 is a rounding error away from it.
    last = last if last > ROUNDING * max(values) else 0.0
    title = f"learning rate by epoch: {training.schedule.name}, {max(values):.4g} at most, {last:.3g} at the end"
    said = f"\nif {in_words(training.monitor)} never improved, training would end after epoch {epoch}: {ending}"
    return f"{title}\n{area_plot(values, 0, epoch)}" + (said if ending else "")


def augmented_picture(config: Config, data_dir: Path | None, path: Path, display: Display | None = None) -> None:
    """Write a grid: in each row an image as it is, and then as training may see it, expanded and augmented."""
    images = config.data.source.make(Folders.standard(data_dir, display)).train
    step = max(1, len(images) // EXAMPLES)
    chosen = images.take(slice(0, EXAMPLES * step, step))
    resident = Resident.of(chosen, Preprocessing.of(chosen, normalize=False), torch.device("cpu"))
    source = Shifted.around(resident) if config.data.expand else resident
    rows, variants = torch.arange(len(chosen))[:, None], torch.arange(VARIANTS)
    plain, _ = resident.gather(rows.flatten())
    augmented, _ = source.gather((rows + variants * len(chosen)).flatten() % len(source))
    torch.manual_seed(derived_seed(config.seed, "training"))
    for spec in config.data.augment:
        augmented = spec.make()(augmented)
    shown = torch.cat([plain[:, None], augmented.view(len(plain), VARIANTS, *plain.shape[1:])], dim=1)
    atomic.write(path, grid(shown.flatten(0, 1).numpy(), columns=VARIANTS + 1))
