"""Words: who knows only docs/glossary.md finds the code by searching, and no name is a bare participle."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_PARTICIPLES = {"found", "told", "asked", "shown", "wanted", "said"}
"""They say what happened to a thing, not what the thing is."""


@pytest.fixture(scope="module")
def names() -> Mapping[Path, list[str]]:
    """The public names of each module."""
    paths = sorted(Path("service").rglob("*.py"))
    return {path: list(_public_names(ast.parse(path.read_text("utf-8")).body)) for path in paths}


def _public_names(body: list[ast.stmt]) -> Iterator[str]:
    """Classes with their fields and methods, and functions with their arguments."""
    for node in body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.ClassDef(name=name, body=inner) if not name.startswith("_"):
                yield name
                yield from _public_names(inner)
            case ast.FunctionDef(name=name, args=args) | ast.AsyncFunctionDef(name=name, args=args) if (
                name == "__init__" or not name.startswith("_")
            ):
                yield name
                yield from (arg.arg for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs])


def _words(name: str) -> set[str]:
    """``RetryPolicy`` and ``retry_policy``: retry, policy."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


@pytest.mark.parametrize("word", ["timeout", "retry", "preferences", "export", "audit", "heartbeat"])
def test_a_common_word_leads_to_a_file_or_a_public_name(names: Mapping[Path, list[str]], word: str) -> None:
    assert any(
        word in path.stem or any(word in _words(name) for name in public) for path, public in names.items()
    )


def test_no_public_name_is_a_participle(names: Mapping[Path, list[str]]) -> None:
    bare = {
        f"{path}: {name}" for path, public in names.items() for name in public if _words(name) & _PARTICIPLES
    }

    assert bare == set()
