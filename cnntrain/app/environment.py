"""What a run was made with, for its summary."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from cnntrain.text import as_command, in_a_line


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


def beginning(made: Mapping[str, str | None]) -> str:
    """When a process begins to train, which one it is, and in which environment: for whoever reads the log."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    versions = f"cnntrain {made['cnntrain']}, torch {made['torch']}, commit of this folder {made['git_commit']}"
    return in_a_line(f"{now}: process {os.getpid()} on {socket.gethostname()}, {versions}: {made['command']}")


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
