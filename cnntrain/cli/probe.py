"""`cnntrain probe`: how signals and gradients fare in a network before it is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cnntrain.cli.options import AsJson, ConfigPath, DataDir, Device, Overrides, Plugins
from cnntrain.cli.output import print_json

if TYPE_CHECKING:
    from cnntrain.app.probe import Probed


def run(
    config: ConfigPath,
    overrides: Overrides = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Print each layer's activations and gradient norm at initialization, and what scaling all weights does."""
    from cnntrain.app.configure import load_config

    loaded = load_config(config, overrides or [], plugins or [])
    from cnntrain.app.probe import probe_config
    from cnntrain.app.where import Where

    found = probe_config(loaded, Where(data_dir, device, plugins or []))
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)


def _print(found: Probed) -> None:
    from cnntrain.reports.text import table

    rows: list[tuple[str, ...]] = [("layer", "mean", "std", "dead", "saturated", "gradient norm")]
    for layer in found.layers:
        shares = ["" if share is None else f"{100 * share:.1f} %" for share in (layer.dead, layer.saturated)]
        gradient = "" if layer.gradient is None else f"{layer.gradient:.3g}"
        rows.append((layer.name, f"{layer.mean:.3g}", f"{layer.std:.3g}", *shares, gradient))
    typer.echo(f"at initialization, over {found.images} training images:\n{table(rows)}\n")
    gradients = [layer.gradient for layer in found.layers if layer.gradient is not None]
    if len(gradients) > 1 and gradients[-1] and not any(gradients[:-1]):
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
