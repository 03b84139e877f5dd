"""What all tests of faults need: commands as they are where no folder of data is named."""

import pytest


@pytest.fixture(autouse=True)
def _no_folder_of_data(monkeypatch):
    monkeypatch.delenv("CNNTRAIN_DATA_DIR", raising=False)
