"""Plugins: modules that register names of their own."""

from cnntrain import registry
from cnntrain.app.configure import import_plugins

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
