"""Options that several commands share."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.files import matching

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder with the data sets.",
        envvar="CNNTRAIN_DATA_DIR",
        show_envvar=True,
        exists=True,
        file_okay=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto (CUDA, else CPU), cpu, cuda, cuda:1, mps.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="A Python file that registers your own layers, data sources, ...; may be repeated.",
        dir_okay=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result, warnings and errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that replace the config's.")
]


def expanded(paths: list[Path]) -> list[Path]:
    """The paths, with what globs among them match."""
    return [match for path in paths for match in matching(str(path))]


def _is_png(path: Path | None) -> Path | None:
    if path and path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path}: pictures are PNG files; call it {path.with_suffix('.png')}")
    return path


Picture = partial(typer.Option, dir_okay=False, callback=_is_png)
Jobs = Annotated[int | None, typer.Option(min=1, help="How many runs to train at once; by default as many as cores.")]
