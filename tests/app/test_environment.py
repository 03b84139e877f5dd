"""What a summary says of where its run was made."""

import importlib.metadata

import torch

from cnntrain.app import environment


def test_versions_and_the_command(monkeypatch):
    monkeypatch.setattr("sys.argv", ["cnntrain", "train", "c.yaml"])
    found = environment.environment()
    assert found["cnntrain"] == importlib.metadata.version("cnntrain")
    assert found["torch"] == torch.__version__
    assert found["command"] == "cnntrain train c.yaml"


def test_sources_that_are_not_installed_have_no_version(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", version)
    assert environment.environment()["cnntrain"] is None
