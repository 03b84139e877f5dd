"""Files and functions short enough to be seen at once."""

import ast
from pathlib import Path
from statistics import median

FILES = sorted((Path(__file__).parent.parent / "cnntrain").rglob("*.py"))


def test_files_are_short():
    assert len(FILES) > 100
    assert {path.name: count for path in FILES if (count := len(path.read_text().splitlines())) > 350} == {}


def test_functions_are_short():
    functions = [
        (f"{path.name}:{node.lineno}", node.end_lineno - node.lineno + 1)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [place for place, lines in functions if lines > 50] == []
    assert median(lines for _, lines in functions) <= 12
