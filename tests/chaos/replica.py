"""One replica of the service: a process with its own port that is started, killed, frozen and stopped."""

import asyncio
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.process import free_port, spawn
from tests.releases import ROOT

TOKEN = "t0ken-of-the-chaos-suite"
_BEARER = {"Authorization": f"Bearer {TOKEN}"}
_TASKS = re.compile(r"^jobs_asyncio_tasks (\d+)", re.MULTILINE)
_RUN = {"jobType": "reminder", "jobName": "goalDeadlines"}


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: open files and sockets, threads, tasks, and resident memory in MiB."""

    files: int
    threads: int
    tasks: int
    memory: int


class Replica:
    """``name`` is that of its folder, for its data and what it prints."""

    def __init__(self, folder: Path, environ: dict[str, str], code: Path = ROOT) -> None:
        folder.mkdir()
        self.log = folder / "log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._code = code
        paths = os.pathsep.join(dict.fromkeys([str(code), str(ROOT)]))
        own = {"DATA_DIR": str(folder / "data"), "PORT": str(self.port), "PYTHONPATH": paths}
        self._environ = {**os.environ, **environ, **own}
        self._process: asyncio.subprocess.Process | None = None
        self._command: tuple[str, ...] = ()
        self.frozen = False
        self.answers = False
        """Whether it answered anything since its start."""
        self.trouble = ""

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Of the process that was started last."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None: it did not end."""
        return self._process.returncode if self._process else None

    async def start(self, *command: str) -> None:
        """Start it (again). ``command``: the module and its arguments, instead of ``service serve``."""
        self._command = command or self._command or ("service", "serve")
        self.answers = False
        with self.log.open("ab") as out:
            self._process = await spawn(
                sys.executable, "-m", *self._command,
                env=self._environ, cwd=self._code, stdout=out, stderr=out,
            )  # fmt: skip

    async def kill(self) -> None:
        """SIGKILL, in whatever state it is."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self, seconds: float) -> float:
        """SIGTERM; how many seconds its end took. Raises TimeoutError after ``seconds``."""
        assert self._process
        started = asyncio.get_running_loop().time()
        self._process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self._process.wait(), seconds)
        return asyncio.get_running_loop().time() - started

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._send(signal.SIGCONT)
        self.frozen = False

    def _send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    async def healthy(self) -> bool:
        """Whether health is green; no answer within four seconds is red. ``trouble``: what it said."""
        status, told = await self._get("/api/admin/jobs/health")
        checks: dict[str, Any] = told.get("checks", {})
        bad = {name: one for name, one in checks.items() if one["status"] not in {"running", "stopped"}}
        self.trouble = "" if status == 200 else str(bad or told.get("error") or "no answer")[:600]
        return status == 200

    async def until_started(self) -> None:
        """Raises TimeoutError if it does not, and RuntimeError with its log if it ends."""
        async with asyncio.timeout(90):
            while (await self._get("/startupz"))[0] != 200:
                if not self.alive:
                    raise RuntimeError(self.log.read_text()[-3000:])
                await asyncio.sleep(0.05)

    async def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and answer; 0: there is none."""
        timeout = aiohttp.ClientTimeout(total=4)
        async with aiohttp.ClientSession(headers=_BEARER, timeout=timeout) as http:
            try:
                async with http.get(f"{self.url}{path}") as answer:
                    self.answers = True
                    return answer.status, await answer.json()
            except (aiohttp.ClientError, TimeoutError):
                return 0, {}

    async def run(self, job: dict[str, str] = _RUN, *, wait: bool = True) -> str:
        """Ask for a run; the state in which the answer leaves it."""
        return str((await self.post("/api/admin/jobs/run", {**job, "wait": wait})).get("state"))

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer."""
        async with (
            aiohttp.ClientSession(headers=_BEARER) as http,
            http.post(f"{self.url}{path}", json=body) as answer,
        ):
            told: dict[str, Any] = await answer.json()
            return told

    async def held(self) -> Held:
        """What it holds now."""
        assert self._process
        async with (
            aiohttp.ClientSession(headers=_BEARER) as http,
            http.get(f"{self.url}/metrics") as answer,
        ):
            tasks = _TASKS.search(await answer.text())
        process = psutil.Process(self._process.pid)
        return Held(
            process.num_fds(),
            process.num_threads(),
            int(tasks[1]) if tasks else 0,
            process.memory_info().rss // 2**20,
        )
