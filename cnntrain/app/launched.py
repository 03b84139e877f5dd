"""Whether a launcher, torchrun or our own, has started this process as one rank of several; imports no torch."""

import os

# What torch's launcher says to each process that it starts.
VARIABLES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def is_launched() -> bool:
    """Whether this process is a rank."""
    return set(os.environ) >= VARIABLES


def is_first() -> bool:
    """Whether this process speaks for all: it is rank 0, or alone."""
    return not is_launched() or os.environ["RANK"] == "0"


def local_rank() -> int:
    """This rank's number on its machine."""
    return int(os.environ["LOCAL_RANK"])


def local_size() -> int:
    """How many ranks this machine has."""
    return int(os.environ["LOCAL_WORLD_SIZE"])
