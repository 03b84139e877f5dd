"""What a run was made with, for its summary."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from cnntrain.text import as_command


def environment() -> dict[str, str | None]:
    """Versions, the command line, and the git commit of the folder that the command ran in."""
    return {
        "cnntrain": _version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "command": as_command(sys.argv),
        "git_commit": _git_commit(),
    }


def _version() -> str | None:
    try:
        return version("cnntrain")
    except PackageNotFoundError:  # run from its sources, which the commit tells more of
        return None


def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
