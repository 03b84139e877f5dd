"""Looking at a config's network before it is trained."""

from __future__ import annotations

from pathlib import Path

from cnntrain.config.schema import Config
from cnntrain.data.images import Folders
from cnntrain.network.build import check
from cnntrain.network.summary import summarize


def layer_table(config: Config, data_dir: Path | None) -> str:
    """The layers with output shapes, parameters and multiply-accumulates for one image, as a table."""
    dataset = config.data.source.make(Folders.standard(data_dir))
    shape = dataset.train.pixels.shape[1:]
    rows = summarize(check(config, shape, len(dataset.classes)), shape)
    cells = [("layer", "output", "parameters", "MACs"), ("input", str(shape), "", "")]
    cells += [(row.name, str(row.output), f"{row.parameters:,}", f"{row.macs:,}") for row in rows]
    cells.append(("total", "", f"{sum(row.parameters for row in rows):,}", f"{sum(row.macs for row in rows):,}"))
    widths = [max(len(cell[column]) for cell in cells) for column in range(4)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in cells)
