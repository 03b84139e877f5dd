"""`cnntrain probe`: how signals and gradients fare in a network, before or after it is trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.options import AsJson, DataDir, Device, Overrides, Plugins
from cnntrain.cli.output import print_json
from cnntrain.errors import UsageError

if TYPE_CHECKING:
    from cnntrain.app.probe import Probed

Network = Annotated[
    Path,
    typer.Argument(metavar="CONFIG|CHECKPOINT", help="A YAML file; or a .pt file or run directory (its best one)."),
]


def run(
    network: Network,
    overrides: Overrides = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Print each layer's activations and gradient norm, and what scaling all weights does, over training images.

    A config's network is probed as it begins, a checkpoint's as it was trained.
    """
    is_trained = network.is_dir() or network.suffix == ".pt"
    if is_trained and overrides:
        raise UsageError(f"`{overrides[0]}`: {network} is trained, and can't be changed; overrides are for configs")
    from cnntrain.app.configure import load_config

    config = None if is_trained else load_config(network, overrides or [], plugins or [])
    from cnntrain.app.probe import probe_checkpoint, probe_config
    from cnntrain.app.where import Where
    from cnntrain.cli.console import Terminal

    where = Where(data_dir, device, plugins or [])
    with Terminal(quiet=False) as display:
        found = probe_config(config, where, display) if config else probe_checkpoint(network, where, display)
    if as_json:
        print_json(asdict(found))
    else:
        _print(found, is_trained)


def _print(found: Probed, is_trained: bool) -> None:
    from cnntrain.reports.text import table

    rows: list[tuple[str, ...]] = [("layer", "mean", "std", "dead", "saturated", "gradient norm")]
    for layer in found.layers:
        shares = ["" if share is None else f"{100 * share:.1f} %" for share in (layer.dead, layer.saturated)]
        gradient = "" if layer.gradient is None else f"{layer.gradient:.3g}"
        rows.append((layer.name, f"{layer.mean:.3g}", f"{layer.std:.3g}", *shares, gradient))
    when = "after training" if is_trained else "at initialization"
    typer.echo(f"{when}, over {found.images} training images:\n{table(rows)}\n")
    gradients = [layer.gradient for layer in found.layers if layer.gradient is not None]
    if not is_trained and len(gradients) > 1 and gradients[-1] and not any(gradients[:-1]):
        typer.echo(
            "the last layer's weights start at zero, so no gradient passes below it yet, and all logits equal its "
            "bias; give that layer its own `init`, such as lecun, to see more\n"
        )
    rows = [("all weights times", "logits times", f"c^{found.depth}", "confidence", "loss")]
    for one in found.scaling:
        ratio = "-" if one.ratio is None else f"{one.ratio:.4g}"
        figures = (ratio, f"{one.predicted:.4g}", f"{100 * one.confidence:.1f} %", f"{one.loss:.3f}")
        rows.append((f"c = {one.factor:g}", *figures))
    typer.echo(f"with all biases zero, and {found.depth} layers of weights:\n{table(rows)}")
    typer.echo("confidence: the mean of the largest softmax probability; loss in nats")
    typer.echo("dead: ReLU units that are zero for all images; saturated: sigmoid or tanh values near their limits")
