"""What a container or a job's control group grants, in either version of them.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html,
https://docs.kernel.org/scheduler/sched-bwc.html
"""

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
    limits = [*_limits("memory.max"), *_limits("memory.limit_in_bytes", "memory")]
    return min((int(said) for said in limits if said.isdigit()), default=sys.maxsize)


def cores() -> float:
    """How many cores' time this process may take; infinity where nothing limits it."""
    quotas, periods = (_limits(f"cpu.cfs_{name}_us", "cpu") for name in ("quota", "period"))
    limits = [*_limits("cpu.max"), *map(" ".join, zip(quotas, periods, strict=False))]
    shares = (re.fullmatch(r"(\d+) ([1-9]\d*)", said) for said in limits)
    return min((int(share[1]) / int(share[2]) for share in shares if share), default=math.inf)


def _limits(name: str, controller: str = "") -> Iterator[str]:
    """What the group of this process and each that it is in say in the file of that name.

    Version 1 has a tree of groups for each `controller`, version 2 one for all.
    """
    root = GROUPS / controller
    try:
        for line in OWN_GROUP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller not in controllers.split(","):
                continue
            group = root / path.strip().lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(root) and (folder / name).is_file():
                    yield (folder / name).read_text().strip()
    except (OSError, ValueError):  # there are no groups, or not as they should be
        return
