"""Names: each public class has its own, and files stay small enough to be read."""

import ast
from collections import defaultdict
from pathlib import Path

_SERVICE = Path("service")
_MOST_LINES = 450
_MAY_RECUR = {"Facts"}
"""What a reminder knows about somebody; each reminder has its own."""


def test_no_two_public_classes_share_a_name() -> None:
    where = defaultdict(list)
    for path in _SERVICE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(str(path))

    shared = {name: paths for name, paths in where.items() if len(paths) > 1 and name not in _MAY_RECUR}
    assert shared == {}


def test_no_module_is_too_long_to_be_read() -> None:
    lengths = {str(path): len(path.read_text("utf-8").splitlines()) for path in _SERVICE.rglob("*.py")}
    assert {path: n for path, n in lengths.items() if n > _MOST_LINES} == {}
