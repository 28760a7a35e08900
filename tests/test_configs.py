"""Whole environments, and what ``check-config`` says about each; see tests/cases/configs/README.md."""

import asyncio
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from service.cli import local
from tests.process import spawn

CASES = Path(__file__).parent / "cases" / "configs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CASES / "expected.json").read_text("utf-8"))
ON_ITS_OWN = {f"{n:02}" for n in (8, 10, 11, 12, 14, 18)}
"""Numbers of the files for which a process is started; for the others the command runs in the tests' own."""
Answer = tuple[int, str]
"""Exit code, and everything that was printed."""


def environment(name: str, folder: Path) -> dict[str, str]:
    """The variables of one file, with ``@DIR@`` filled in."""
    lines = (CASES / name).read_text("utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line)
    return {key: value.replace("@DIR@", str(folder)) for key, _, value in pairs}


async def service(folder: Path, *arguments: str, **environ: str) -> Answer:
    """``python -m service …`` with nothing else in its environment; killed if it has not ended in time."""
    folder.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": str(folder / "data"), **environ}
    env["PYTHONPATH"] = str(Path.cwd())
    process = await spawn(
        sys.executable, "-m", "service", *arguments, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def command(folder: Path, name: str, flags: Sequence[str]) -> Answer:
    """check-config for one file, as a process of its own."""
    return await service(folder, "check-config", *flags, **environment(name, folder))


def command_here(folder: Path, name: str, flags: Sequence[str]) -> Answer:
    """The same within this process, which saves the start of an interpreter."""
    output = io.StringIO()
    environ = {"HOME": str(folder), "DATA_DIR": str(folder / "data"), **environment(name, folder)}
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        code = local.main(["check-config", *flags])
    return code, output.getvalue()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Answer]:
    """What check-config says about each file that gets a process; two at once."""
    places = asyncio.Semaphore(2)

    async def ask(name: str) -> Answer:
        async with places:
            return await command(*_prepared(tmp_path_factory.mktemp(Path(name).stem), name))

    async def ask_about_all(names: Sequence[str]) -> list[Answer]:
        return await asyncio.gather(*map(ask, names))

    names = [name for name in EXPECTED if _gets_a_process(name)]
    return dict(zip(names, asyncio.run(ask_about_all(names)), strict=True))


def _gets_a_process(name: str) -> bool:
    return name[:2] in ON_ITS_OWN or "connect" in EXPECTED[name]


def _prepared(folder: Path, name: str) -> tuple[Path, str, list[str]]:
    for file, text in EXPECTED[name].get("files", {}).items():
        (folder / file).write_text(text)
    return folder, name, [] if EXPECTED[name].get("connect") else ["--offline"]


def told(output: str, item: str) -> bool:
    """Whether one of the words ``a|b`` is there as a whole word."""
    return any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", output, re.IGNORECASE) for word in item.split("|")
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_an_environment_is_answered_as_expected(
    answers: Mapping[str, Answer], tmp_path: Path, name: str
) -> None:
    code, output = answers[name] if name in answers else command_here(*_prepared(tmp_path, name))
    expected = EXPECTED[name]

    assert [secret for secret in expected["must_not"] if secret in output] == []
    assert [item for item in expected["must"] if not told(output, item)] == [], output
    if expected["verdict"] == "ok":
        assert code == 0, output
    if expected["verdict"] == "refused":
        assert code != 0, output


def test_every_file_has_an_expectation() -> None:
    assert {path.name for path in CASES.glob("*.env")} == set(EXPECTED)
