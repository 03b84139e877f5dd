"""What a container or a job's control group grants: https://docs.kernel.org/admin-guide/cgroup-v2.html."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# Where Linux tells of it.
OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory() -> int:
    """Bytes that this process may take; `sys.maxsize` where nothing limits them."""
    return min((int(said) for said in _limits("memory.max") if said.isdigit()), default=sys.maxsize)


def cores() -> float:
    """How many cores' time this process may take; infinity where nothing limits it."""
    shares = (re.fullmatch(r"(\d+) ([1-9]\d*)", said) for said in _limits("cpu.max"))
    return min((int(share[1]) / int(share[2]) for share in shares if share), default=math.inf)


def _limits(name: str) -> Iterator[str]:
    """What the group of this process and each that it is in say in the file of that name."""
    try:
        group = GROUPS / OWN_GROUP.read_text().rpartition("::")[2].strip().lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(GROUPS) and (folder / name).is_file():
                yield (folder / name).read_text().strip()
    except (OSError, ValueError):  # there are no groups, or not as they should be
        return
