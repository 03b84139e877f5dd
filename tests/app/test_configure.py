"""Plugins: modules that register names of their own."""

import json
import sys

import pytest

from cnntrain import registry
from cnntrain.app.configure import import_plugins, load_config
from cnntrain.app.train import resume_run, train_run
from cnntrain.app.where import Where
from cnntrain.errors import CheckpointError, UsageError

LAYER = """
from torch import nn

from cnntrain.registry import layers


@layers.register("{name}")
def make(shape, /):
    \"\"\"What came in.\"\"\"
    return nn.Identity()
"""


def test_plugins_of_one_name_in_two_folders_are_two(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    files = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "mine.py")
        files[-1].write_text(LAYER.format(name=f"{name}_of_mine"))
    digests = import_plugins(files)
    assert len(set(digests.values())) == 2
    assert {"first_of_mine", "second_of_mine"} <= set(registry.layers)
    assert import_plugins(files) == digests


def test_a_plugin_that_was_mended_is_imported_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    plugin = tmp_path / "mine.py"
    for text, error in (("1 / 0\n", "ZeroDivisionError: "), ("raise SystemExit(7)\n", "SystemExit: 7")):
        plugin.write_text(text)
        for _ in range(2):
            with pytest.raises(UsageError, match=rf"^{plugin}: the plugin fails on import: {error}"):
                import_plugins([plugin])
    plugin.write_text(LAYER.format(name="mended"))
    import_plugins([plugin])
    assert "mended" in registry.layers


def test_what_is_no_plugin(tmp_path):
    with pytest.raises(UsageError, match=r"none\.py: can't read the plugin \(No such file or directory\)$"):
        import_plugins([tmp_path / "none.py"])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UsageError, match=r"notes\.txt: a plugin is a Python file$"):
        import_plugins([tmp_path / "notes.txt"])


def test_a_run_that_goes_on_without_its_plugin_names_it(tmp_path, monkeypatch):
    before = dict(registry.layers._entries)
    monkeypatch.setattr(registry.layers, "_entries", dict(before))
    plugin, config, run = tmp_path / "own.py", tmp_path / "c.yaml", tmp_path / "run"
    plugin.write_text(LAYER.format(name="own_layer"))
    config.write_text("network: [own_layer, softmax]\ntraining: {epochs: 1}\n")
    train_run(load_config(config, plugins=[plugin]), run, Where(plugins=[plugin]))
    assert set(registry.of_plugins()) & {"own_layer", "softmax"} == {"own_layer"}
    registry.layers._entries = before
    with pytest.raises(
        CheckpointError, match=rf"last\.pt: [\s\S]*own_layer[\s\S]*; it was trained with --plugin {plugin}$"
    ):
        resume_run(run, ["training.epochs=2"], Where())
    (tmp_path / "other.py").write_text("")
    with pytest.raises(CheckpointError, match="unknown layer `own_layer`") as caught:
        resume_run(run, ["training.epochs=2"], Where(plugins=[tmp_path / "other.py"]))
    assert "it was trained with" not in str(caught.value)


def test_a_plugin_that_changed_after_training_is_told(cnntrain, tiny, tmp_path, monkeypatch):
    # Where `ensemble` draws.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry.layers, "_entries", dict(registry.layers._entries))
    plugin = tmp_path / "mine.py"
    plugin.write_text(LAYER.format(name="mine_too"))
    tiny.write_text(tiny.read_text().replace("  - batch_norm\n", "  - mine_too\n"))
    where = ("--plugin", plugin)
    assert cnntrain("train", tiny, "training.epochs=1", "--run-dir", tmp_path / "run", *where).code == 0
    assert "plugin" not in cnntrain("eval", tmp_path / "run", *where).err
    plugin.write_text(plugin.read_text() + "# Another.\n")
    outcome = cnntrain("eval", tmp_path / "run", *where)
    said = f"{plugin}: the plugin has changed since it was imported; start Python anew"
    assert outcome.code == 2 and said in outcome.err
    for name in [name for name in sys.modules if name.startswith("cnntrain_plugin_mine_")]:
        # As in another process.
        del sys.modules[name]
        registry.layers.forget(name)
    said = f"the plugins are not those that the network was trained with ({plugin})"
    for command in (("eval", tmp_path / "run"), ("report", tmp_path / "run"), ("ensemble", tmp_path / "run")):
        outcome = cnntrain(*command, *where)
        assert outcome.code == 0, outcome.err
        assert said in " ".join(outcome.err.split())
    outcome = cnntrain("train", "--resume", tmp_path / "run", "training.epochs=2", *where)
    assert outcome.code == 0, outcome.err
    assert "warning" in outcome.err and said in " ".join(outcome.err.split())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [change for change in summary["changes"] if said in change] == [f"after epoch 1, batch 0: {said}"]
    assert "plugin" not in cnntrain("eval", tmp_path / "run", *where).err
