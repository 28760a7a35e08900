"""The wheel holds everything: installed elsewhere it runs the demo, and inside a foreign application."""

import asyncio
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import aiohttp
import pytest

from service.demo import sample
from tests.process import printed_object, running, until
from tests.releases import ROOT, git

pytestmark = pytest.mark.long(only=True)

_FOREIGN = """
import os

from aiohttp import web

import service

app = web.Application()
{readme}

async def ask(request: web.Request) -> web.Response:
    asked = service.RunRequest(dry_run=True)
    result = await request.app[MANAGER].run_job("reminder", "goalDeadlines", asked)
    return web.json_response({{"state": result.state, "package": service.__file__}})


app.router.add_get("/", ask)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]))
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """The wheel, and the environment that it is installed in."""

    wheel: Path
    environment: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin/python"

    @property
    def script(self) -> Path:
        return self.environment / "bin/dashboard-jobs"


def _tracked() -> list[str]:
    """The files that git knows, as paths below the repository's top level."""
    return git("ls-files", "-z").decode().rstrip("\0").split("\0")


def _run(command: Sequence[str | Path], cwd: Path) -> str:
    """What a command prints; fails with all of it when the command does."""
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _built(folder: Path) -> Path:
    """A wheel of a copy of the tracked files: nothing else that lies about in this checkout gets into it."""
    for name in _tracked():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist"]
    _run([sys.executable, "-m", "pip", "wheel", *options, "./source"], folder)
    (wheel,) = (folder / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in a fresh environment, which finds what it depends on in the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    made = Installed(_built(folder), folder / "environment")
    venv.create(made.environment, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(made.python)]
    _run([*pip, "install", "--no-index", "--no-deps", str(made.wheel)], folder)
    (packages,) = made.environment.glob("lib/python*/site-packages")
    (packages / "development.pth").write_text("\n".join(site.getsitepackages()), "utf-8")
    return made


def test_the_wheel_holds_every_file_of_the_package_and_the_contract(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        contract = wheel.read("service/openapi.yaml")

    assert held == {name for name in _tracked() if name.startswith("service/")} | {"service/openapi.yaml"}
    assert contract == (ROOT / "openapi.yaml").read_bytes()


def test_the_installed_package_says_the_version_of_the_project(installed: Installed, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    code = "from importlib.metadata import version; print(version('dashboard-jobs'))"

    assert _run([installed.python, "-c", code], tmp_path).strip() == version
    assert _run([installed.script, "--version"], tmp_path).strip() == version


async def test_the_script_runs_the_demo_to_its_first_mail(installed: Installed, tmp_path: Path) -> None:
    output = tmp_path / "stdout"
    command = [str(installed.script), "demo", "--json"]
    async with running(command, tmp_path, tmp_path / "data", PYTHONPATH="") as (process, url):
        await until(lambda: printed_object(output) is not None or process.returncode is not None)
        assert process.returncode is None, (tmp_path / "stderr").read_text("utf-8")
        async with aiohttp.ClientSession() as http:
            listing = await (await http.get(f"{url}/inbox")).text()
            mail = re.findall(r'href="(/inbox/\d+\.mail)"', listing)[0]
            shown = await http.get(f"{url}{mail}/html")
            contract = await (await http.get(f"{url}/api/openapi.yaml")).text()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            code = await process.wait()

    assert (printed_object(output) or {})["counts"]["planned"] > 50
    assert (shown.status, code) == (200, 0)
    assert contract == (ROOT / "openapi.yaml").read_text("utf-8")


async def test_the_installed_package_lives_inside_a_foreign_application(
    installed: Installed, dsn: str, tmp_path: Path
) -> None:
    await sample.write(dsn, sample.people(1, date(2026, 3, 10), 20))
    (tmp_path / "foreign.py").write_text(_FOREIGN.format(readme=_embedding()), "utf-8")
    command = [str(installed.python), "foreign.py"]
    urls = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn}

    async with running(command, tmp_path, tmp_path / "data", PYTHONPATH="", **urls) as (process, url):
        answer = await _answer(url, process, tmp_path / "stderr")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            code = await process.wait()

    assert answer["state"] == "succeeded"
    assert Path(answer["package"]).is_relative_to(installed.environment)
    assert code == 0


def _embedding() -> str:
    """The lines that README.md gives to those who embed the service."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if "cleanup_ctx" in block)
    return str(block)


async def _answer(url: str, process: asyncio.subprocess.Process, errors: Path) -> dict[str, str]:
    """What the foreign application says, once it listens."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(90):
        while process.returncode is None:
            with suppress(aiohttp.ClientConnectorError):
                return dict(await (await http.get(url)).json())
            await asyncio.sleep(0.05)
    pytest.fail(errors.read_text("utf-8"))
