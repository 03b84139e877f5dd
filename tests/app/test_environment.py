"""What a summary says of where its run was made."""

import importlib.metadata
import subprocess

import torch

from cnntrain.app import environment


def test_versions_and_the_command(monkeypatch):
    monkeypatch.setattr("sys.argv", ["cnntrain", "train", "c.yaml", "data.augment=[shift, flip]"])
    found = environment.environment()
    assert found["cnntrain"] == importlib.metadata.version("cnntrain")
    assert found["torch"] == torch.__version__
    assert found["command"] == "cnntrain train c.yaml 'data.augment=[shift, flip]'"


def test_the_commit_of_the_folder_that_the_command_ran_in(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert environment.environment()["git_commit"] is None
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    said = (tmp_path / ".git" / "logs" / "HEAD").read_text().split()[1]
    assert environment.environment()["git_commit"] == said


def test_sources_that_are_not_installed_have_no_version(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", version)
    assert environment.environment()["cnntrain"] is None
