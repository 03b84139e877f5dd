"""What a run needs besides its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnntrain.files import as_paths


@dataclass(frozen=True, init=False)
class Where:
    """Where data lies, what to compute on, whose layers to use."""

    data_dir: Path | None
    device: str
    plugins: Sequence[Path]

    def __init__(
        self, data_dir: str | Path | None = None, device: str = "auto", plugins: str | Path | Sequence[str | Path] = ()
    ) -> None:
        object.__setattr__(self, "data_dir", None if data_dir is None else Path(data_dir))
        object.__setattr__(self, "device", device)
        object.__setattr__(self, "plugins", as_paths(plugins))

    def options(self) -> list[str]:
        """The same as words of a command line."""
        words = ["--data-dir", str(self.data_dir)] if self.data_dir else []
        words += ["--device", self.device] if self.device != "auto" else []
        return words + [word for plugin in self.plugins for word in ("--plugin", str(plugin))]
