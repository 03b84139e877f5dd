"""Configs with the whole vocabulary at hand; imports no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import cnntrain.data.augment
import cnntrain.data.sources
import cnntrain.network.initializers
import cnntrain.network.layers
import cnntrain.training.optimizers
import cnntrain.training.schedules  # noqa: F401  (each of these registers its names)
from cnntrain.config.load import from_resolved, load, resolved
from cnntrain.config.schema import Config
from cnntrain.errors import ConfigError, UsageError
from cnntrain.files import as_paths
from cnntrain.registry import ALL
from cnntrain.text import listed

# The SHA-256 of each plugin as it was imported, by its module's name.
_imported: dict[str, str] = {}


def load_config(
    path: str | Path, overrides: Sequence[str] = (), plugins: str | Path | Sequence[str | Path] = ()
) -> Config:
    """The config at `path` with overrides applied, checked against the vocabulary and the plugins' own.

    Raises `ConfigError` with every problem, and `UsageError` for a plugin that can't be imported.
    """
    import_plugins(plugins)
    config = load(Path(path), overrides)
    if plugins:
        _check_defaults(config)
    return config


def _check_defaults(config: Config) -> None:
    """Raise `UsageError` for a plugin whose defaults no config can hold: nobody could read the run's own one again."""
    try:
        from_resolved(resolved(config))
    except (ConfigError, ValueError, TypeError) as error:
        said = "what is read with these plugins can't be written into a config, perhaps a default of theirs"
        raise UsageError(f"{said}: {error}") from error


def import_plugins(paths: str | Path | Sequence[str | Path]) -> dict[str, str]:
    """Import modules that register names of their own; gives each file's SHA-256."""
    return {str(path): _import(path) for path in as_paths(paths)}


def forgotten(plugins: Collection[str], named: Sequence[Path]) -> str:
    """What to say of a network that was trained with plugins, where none is named: nothing, if there were none."""
    needed = "".join(f" --plugin {name}" for name in plugins)
    return f"; it was trained with{needed}" if needed and not named else ""


def edited(plugins: Mapping[str, str], imported: Mapping[str, str]) -> str:
    """What to say where plugins are not the files that a network was trained with, by their SHA-256; else nothing."""
    others = [name for name, digest in plugins.items() if digest not in imported.values()]
    said = "the plugins are not those that the network was trained with"
    return f"{said} ({listed(others)})" if others and imported else ""


def _import(path: Path) -> str:
    # Files of one name in two folders are two plugins.
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"cnntrain_plugin_{path.stem}_{place}"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: can't read the plugin ({error.strerror})") from error
    if name in sys.modules:
        if _imported.get(name, digest) != digest:
            raise UsageError(f"{path}: the plugin has changed since it was imported; start Python anew")
        return digest
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: a plugin is a Python file")
    module = importlib.util.module_from_spec(spec)
    # Annotations that are strings are looked up in the module that holds them.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        for registry in ALL.values():
            registry.forget(name)
        if not isinstance(error, Exception | SystemExit):
            raise
        raise UsageError(f"{path}: the plugin fails on import: {type(error).__name__}: {error}") from error
    _imported[name] = digest
    return digest
