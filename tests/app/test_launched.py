"""A process is a rank if a launcher has said all that a rank needs."""

import pytest

from cnntrain.app.launched import is_first, is_launched, local_rank, local_size
from cnntrain.cli.train import _check_devices
from cnntrain.errors import UsageError

WORDS = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
}


@pytest.fixture
def said(monkeypatch):
    for word, value in WORDS.items():
        monkeypatch.setenv(word, value)
    return monkeypatch


def test_a_rank(said):
    assert (is_launched(), is_first(), local_rank(), local_size()) == (True, False, 1, 4)
    said.setenv("RANK", "0")
    assert is_first()


@pytest.mark.parametrize("missing", WORDS)
def test_a_process_alone(said, missing):
    said.delenv(missing)
    assert (is_launched(), is_first()) == (False, True)


def test_torchrun_and_devices_must_agree(said):
    _check_devices(4, None)
    with pytest.raises(UsageError, match="^torchrun has already started the processes; leave out `--devices`$"):
        _check_devices(3, None)
    with pytest.raises(UsageError, match="choose one$"):
        _check_devices(None, "0-1")
