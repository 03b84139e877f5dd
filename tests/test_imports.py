"""Imports run downwards only, and what the command line starts with imports nothing heavy."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cnntrain"

FLOORS = {
    "__main__": 8,
    "cli": 7,
    "app": 6,
    "reports": 5,
    "run": 4,
    "training": 3,
    "network": 2,
    "data": 2,
    "config": 1,
    "registry": 0,
    "atomic": 0,
    "cores": 0,
    "cgroup": 0,
    "layout": 0,
    "errors": 0,
    "files": 0,
    "text": 0,
    "unheard": 0,
    "strict": 0,
}
WITHIN_THE_GROUND_FLOOR = {("cores", "cgroup"), ("registry", "strict"), ("errors", "text")}


def room_of(module):
    """`cnntrain.data.images` -> `data`; nothing for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imported(tree, module, is_package):
    """The modules of ours that `tree` imports, anywhere in it, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            # `from cnntrain import registry` names a module in what it imports.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def wrong_edges(source, module, is_package=False):
    """`line: module -> imported` for each import that leads upwards or sideways."""
    here = room_of(module)
    found = []
    for line, name in imported(ast.parse(source), module, is_package):
        there = room_of(name) if name.split(".")[0] == "cnntrain" else None
        if there is None or there == here or (here, there) in WITHIN_THE_GROUND_FLOOR:
            continue
        if here is None or FLOORS[here] <= FLOORS[there]:
            found.append(f"{line}: {module} -> {name}")
    return found


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["cnntrain", *path.relative_to(PACKAGE).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        yield path, ".".join(parts[:-1] if is_package else parts), is_package


def test_every_room_has_a_floor():
    rooms = {room_of(module) for _, module, _ in modules()} - {None}
    assert rooms == set(FLOORS)


def test_imports_run_downwards():
    found = [
        edge for path, module, is_package in modules() for edge in wrong_edges(path.read_text(), module, is_package)
    ]
    assert not found, "\n".join(found)


def graph_of(sources):
    """For each module what it imports of the others, anywhere in it: the longest name that is one of them."""
    graph = {}
    for module, (source, is_package) in sources.items():
        names = [name.split(".") for _, name in imported(ast.parse(source), module, is_package)]
        found = ([".".join(name[:end]) for end in range(len(name), 0, -1)] for name in names)
        graph[module] = {next((name for name in longer if name in sources), module) for longer in found} - {module}
    return graph


def test_there_are_no_circles():
    sources = {module: (path.read_text(), is_package) for path, module, is_package in modules()}
    graph = graph_of(sources)
    assert sum(map(len, graph.values())) > 300
    TopologicalSorter(graph).prepare()


def test_a_circle_is_seen():
    sources = {
        "cnntrain.a": ("from cnntrain.b import c", False),
        "cnntrain.b": ("", True),
        "cnntrain.b.c": ("def f():\n    from .. import a", False),
    }
    with pytest.raises(CycleError):
        TopologicalSorter(graph_of(sources)).prepare()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cnntrain.data.images", "from cnntrain.network import build"),
        ("cnntrain.network.stack", "import cnntrain.training.loop"),
        ("cnntrain.network.stack", "def f():\n    from cnntrain import data"),
        ("cnntrain.network.layers.book", "from ...run import atomic"),
        ("cnntrain.errors", "from cnntrain.strict import Strict"),
        ("cnntrain.strict", "from cnntrain import registry"),
        ("cnntrain.config.load", "if TYPE_CHECKING:\n    from cnntrain.app.where import Where"),
        ("cnntrain", "from cnntrain.errors import DataError"),
    ],
)
def test_a_wrong_edge_is_seen(module, source):
    assert len(wrong_edges(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cnntrain.app.train", "from cnntrain import registry, errors\nimport cnntrain.run.directory"),
        ("cnntrain.registry", "from cnntrain.strict import Strict"),
        ("cnntrain.data.images", "from . import batches\nfrom .batches import Resident\nimport torch"),
    ],
)
def test_a_right_edge_is_let_through(module, source):
    assert wrong_edges(source, module) == []


@pytest.mark.parametrize("module", ["cnntrain.cli.main", "cnntrain.app.configure"])
def test_light_imports(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'scipy', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
