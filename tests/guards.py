"""``make mutants``: takes each guard of ``tests/guards.toml`` out, in a copy, and runs the test that notices.

``python -m tests.guards [part of a guard's name …]``; without an argument: all. The exit code is 1 if a guard
is missed by nobody.
"""

import ast
import asyncio
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from service.engine import embedded
from tests import conftest, memory
from tests.releases import ROOT

LIST = ROOT / "tests/guards.toml"
_SECTIONS = {".sql": r"^-- name: (\w+)$", ".py": r"^ *(?:async )?def (\w+)\("}
_COPIED = ("service", "tests", "pyproject.toml", "openapi.yaml")
_PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider")
_WORKERS = min(4, (os.cpu_count() or 1) + 1)


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition: ``old`` becomes ``new`` in one query or function of a file, and ``test`` notices."""

    file: str
    section: str
    old: str
    new: str
    test: str

    @property
    def name(self) -> str:
        """Where it is, and what is taken out."""
        changed = f" → {self.new.strip()}" if self.new.strip() else ""
        return " ".join(f"{Path(self.file).name} {self.section}: {self.old}{changed}".split())

    def without(self, text: str) -> str:
        """The text of its file without it. Raises ValueError if it is not there exactly once."""
        spans = [(a, b) for name, a, b in _sections(self.file, text) if name == self.section]
        places = [(a, b) for a, b in spans if self.old in text[a:b]]
        if len(places) != 1 or text[slice(*places[0])].count(self.old) != 1:
            raise ValueError(f"not there exactly once: {self.name}")
        start, end = places[0]
        return text[:start] + text[start:end].replace(self.old, self.new) + text[end:]

    @property
    def tested(self) -> bool:
        """Whether there is a function of its test's name."""
        path, _, name = self.test.partition("::")
        return name in _functions(ROOT / path)


@cache
def _functions(path: Path) -> frozenset[str]:
    """Those of a module that are not in a class."""
    body = ast.parse(path.read_text("utf-8")).body if path.is_file() else []
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _sections(file: str, text: str) -> list[tuple[str, int, int]]:
    """Queries or functions: name, start and end; what comes before the first has no name."""
    found = list(re.finditer(_SECTIONS[Path(file).suffix], text, re.MULTILINE))
    begins = [("", 0), *((match[1], match.start()) for match in found)]
    ends = [start for _, start in begins[1:]] + [len(text)]
    return [(name, start, end) for (name, start), end in zip(begins, ends, strict=True)]


def guards(path: Path = LIST) -> list[Guard]:
    """All that a list holds."""
    listed = tomllib.loads(path.read_text("utf-8"))
    return [
        Guard(file, section, **{"new": "", **guard})
        for file, sections in listed.items()
        for section, of_section in sections.items()
        for guard in of_section
    ]


class Mutants:
    """A process that takes guards out of a copy of its own, and runs tests there."""

    def __init__(self, folder: Path, dsn: str, template: str) -> None:
        self._tree = folder / str(os.getpid())
        self._servers = {"TEST_DATABASE_URL": dsn, "TEST_TEMPLATE": template}
        for name in _COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, self._tree / name)

    def problem(self, guard: Guard) -> str | None:
        """Why taking it out was not noticed; None: its test failed."""
        path = self._tree / guard.file
        path.write_text(guard.without(path.read_text("utf-8")), "utf-8")
        try:
            code = self.run([guard.test], own_schema="/migrations/" in guard.file)
        finally:
            shutil.copy2(ROOT / guard.file, path)
        if code == pytest.ExitCode.TESTS_FAILED:
            return None
        return f"{guard.test} passes" if code == pytest.ExitCode.OK else f"pytest returned {code}"

    def run(self, tests: Sequence[str], *, own_schema: bool = False) -> int:
        """What pytest returns. It runs in a child, which has the libraries, slow to import, already."""
        child = os.fork()
        if not child:
            os._exit(self._pytest(tests, own_schema=own_schema))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _pytest(self, tests: Sequence[str], *, own_schema: bool) -> int:
        with (self._tree / "output").open("w") as output:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
        os.chdir(self._tree)
        sys.path.insert(0, str(self._tree))
        for name in [name for name in sys.modules if name.partition(".")[0] in {"service", "tests"}]:
            del sys.modules[name]
        os.environ.update(self._servers, PYTHONPATH=str(self._tree), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        if own_schema:
            del os.environ["TEST_TEMPLATE"]
        return pytest.main(["-q", "-x", "--timeout=120", *_PLUGINS, *tests])


_mutants: Mutants


def _begin(*arguments: Any) -> None:
    global _mutants  # noqa: PLW0603 — one in each process of the pool
    _mutants = Mutants(*arguments)


def _problem(guard: Guard) -> str | None:
    return _mutants.problem(guard)


def _run(tests: Sequence[str]) -> int:
    return _mutants.run(tests)


def unnoticed(chosen: Sequence[Guard], dsn: str, template: str) -> list[str]:
    """Those whose absence no test noticed: name and why. ``template``: a migrated database, which tests copy.

    Raises ValueError where the tests fail anyway.
    """
    tests = sorted({guard.test for guard in chosen})
    groups = [list(group) for _, group in groupby(tests, key=lambda test: test.partition("::")[0])]
    missed = []
    with (
        tempfile.TemporaryDirectory(prefix="guards-") as folder,
        ProcessPoolExecutor(_WORKERS, get_context("fork"), _begin, (Path(folder), dsn, template)) as pool,
    ):
        if failed := [group for group, code in zip(groups, pool.map(_run, groups), strict=True) if code]:
            raise ValueError(f"fail, or are not found, although no guard is taken out: {failed}")
        for guard, problem in zip(chosen, pool.map(_problem, chosen), strict=True):
            print("unnoticed" if problem else "noticed  ", guard.name, flush=True)
            missed += [f"{guard.name}: {problem}"] if problem else []
    return missed


def main(words: Sequence[str]) -> int:
    """The exit code."""
    chosen = [guard for guard in guards() if not words or any(word in guard.name for word in words)]
    folder = memory.folder("guards-pg-")
    dsn, server = embedded.start(folder / "data")
    try:
        asyncio.run(conftest.hurry(dsn))
        missed = unnoticed(chosen, dsn, conftest.migrated(dsn))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(chosen)} guards, {len(chosen) - len(missed)} noticed", *missed, sep="\n  ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
