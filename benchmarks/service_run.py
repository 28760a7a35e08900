"""One measured run of goalDeadlines by ordinary replicas of this service.

The people are chosen and their mails planned while a gate holds the mails back; then the gate is opened.
The rate and the costs are those between a tenth and nine tenths of the mails, as the mail server took them.
"""

import asyncio
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg

from benchmarks.mail_server import NotedMails, noting_mail_server
from benchmarks.postgres_cost import PostgresCost, PostgresMeter
from benchmarks.stages import STAGES
from service.jobs import all_jobs
from service.messages.reminder import reminders
from tests.process import free_port, spawn

JOB = "reminder.goalDeadlines"
_KIND = reminders(all_jobs())[JOB].kind.name
_POLL = 0.02
_STANDSTILL = 120.0
_RUN = """
SELECT state, counts, error, extract(epoch FROM finished_at - started_at)::float8 AS seconds
FROM service.job_run WHERE id = $1 AND finished_at IS NOT NULL"""


@dataclass(frozen=True)
class Case:
    """How the service runs."""

    dashboard: str = "mongodb"
    processes: int = 1
    level: str = "warning"
    stages: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        count = "one process" if self.processes == 1 else f"{self.processes} processes"
        return f"{count}, {self.dashboard}, {self.level}" + ", stages" * self.stages


@dataclass(frozen=True)
class Place:
    """Where runs take place. ``server``: DSN of a database of a server on this machine.

    ``base``: the database that is copied for each run, with the copy of the dashboard in it.
    """

    folder: Path
    server: str
    base: str
    dashboard: str


@dataclass
class Replica:
    """A process that serves. ``url``: of its API."""

    process: asyncio.subprocess.Process
    url: str
    lags: list[float] = field(default_factory=list)

    async def told(self) -> dict[str, Any]:
        """What it has cost so far; see ``benchmarks.replica``."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(b"\n")
        told: dict[str, Any] = json.loads(await self.process.stdout.readline())
        self.lags += told["lags"]
        return told

    async def stop(self) -> None:
        """End it, as an operator does."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.process.wait()


@asynccontextmanager
async def replica(
    place: Place, database: str, smtp: int, case: Case, number: int, until: str = "startupz"
) -> AsyncIterator[Replica]:
    """A replica that says yes to this probe; it is killed at the end, if it has not been stopped."""
    port, folder = free_port(), place.folder / f"replica{number}"
    folder.mkdir(exist_ok=True)
    environ = {
        "DATA_DIR": str(folder), "DATABASE_URL": database, "DASHBOARD_URL": place.dashboard,
        "PORT": str(port),
        "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(smtp), "MAIL_FROM": "Dashboard <a@example.org>",
        "FRONTEND_URL": "http://localhost:3000", "PUBLIC_URL": "http://localhost:8080",
        "LOG_LEVEL": case.level, "LOG_FORMAT": "json",
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.replica", *["--stages"] * case.stages]
    pipe = asyncio.subprocess.PIPE
    with (folder / "stderr").open("wb") as err:
        process = await spawn(
            *command, env={**os.environ, **environ}, stdin=pipe, stdout=pipe, stderr=err, limit=1 << 26
        )
        try:
            started = Replica(process, f"http://127.0.0.1:{port}")
            await _until(until, started, folder / "stderr")
            yield started
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _until(probe: str, started: Replica, errors: Path) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            if started.process.returncode is not None:
                raise RuntimeError(f"a replica ended: {errors.read_text()[-2000:]}")
            try:
                async with http.get(f"{started.url}/{probe}") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(_POLL)


@asynccontextmanager
async def probed(url: str) -> AsyncIterator[list[float]]:
    """Ask whether it lives, fifty times a second; the seconds that each answer took."""
    waits: list[float] = []

    async def probe() -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                began = time.perf_counter()
                async with http.get(f"{url}/livez") as answer:
                    await answer.read()
                waits.append(time.perf_counter() - began)
                await asyncio.sleep(_POLL)

    task = asyncio.ensure_future(probe())
    try:
        yield waits
    finally:
        task.cancel()


def named(dsn: str, database: str) -> str:
    """The DSN of another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that is closed at the end."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def load(place: Place) -> dict[str, float]:
    """Let a replica make the base: how long that took, and probes meanwhile."""
    async with connected(place.server) as server:
        await server.execute(f'CREATE DATABASE "{place.base}"')
    dsn = named(place.server, place.base)
    async with replica(place, dsn, free_port(), Case(), 0, until="livez") as loading:
        began = time.perf_counter()
        async with probed(loading.url) as waits:
            await _until("startupz", loading, place.folder / "replica0" / "stderr")
        seconds = time.perf_counter() - began
        await loading.stop()
    async with connected(dsn) as connection:
        await connection.execute("VACUUM ANALYZE")
    return {"first_load_s": seconds, "first_load_probe_p99_ms": 1000 * percentile(waits, 0.99)}


_runs = itertools.count(1)


async def measure(place: Place, case: Case) -> dict[str, float]:
    """One whole run on a copy of the base."""
    database = f"run_{os.getpid()}_{next(_runs)}"
    async with connected(place.server) as server:
        await server.execute(f'CREATE DATABASE "{database}" TEMPLATE "{place.base}" STRATEGY file_copy')
        try:
            with noting_mail_server(place.folder) as mails:
                return await _measure(place, case, named(place.server, database), mails, server)
        finally:
            await server.execute(f'DROP DATABASE "{database}" WITH (FORCE)')


async def _measure(
    place: Place, case: Case, dsn: str, mails: NotedMails, server: asyncpg.Connection
) -> dict[str, float]:
    meter = PostgresMeter(server)
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(replica(place, dsn, mails.port, case, number))
            for number in range(case.processes)
        ]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        shut = partial(_post, http, f"{replicas[0].url}/api/admin/gates", reason="benchmark")
        for job in all_jobs().keys() - {JOB}:
            await shut(scope="job", name=job)
        gate = await shut(scope="kind", name=_KIND)
        start = await _reading_at(0, mails, meter, replicas)
        await _lags(replicas)
        run = await _plan(http, replicas[0].url, dsn)
        plan_lags = await _lags(replicas)
        before = await meter.read()
        async with probed(replicas[0].url) as waits:
            await _post(http, f"{replicas[0].url}/api/admin/gates/{gate['id']}/open")
            first = await _reading_at(run.planned // 10, mails, meter, replicas)
            last = await _reading_at(run.planned * 9 // 10, mails, meter, replicas)
            end = await _reading_at(run.planned, mails, meter, replicas)
        lags = await _lags(replicas)
        for one in replicas:
            await one.stop()
        planned = await _all_planned(dsn)  # slots may have become due by themselves
        assert mails.count == planned, f"{mails.count} mails for {planned} messages"
        after = await meter.read()
    times = mails.times()
    return {
        "mails": run.planned,
        "plan_s": run.seconds,
        "plan_lag_max_ms": 1000 * max(plan_lags, default=0.0),
        **rates(times, run.seconds),
        "cpu_us": _cpu(start, end) / run.planned * 1e6,
        **_costs(first, last),
        "fsyncs": (after.fsyncs - before.fsyncs) / run.planned,
        "loop_lag_p99_ms": 1000 * percentile(lags, 0.99),
        "probe_p99_ms": 1000 * percentile(waits, 0.99),
    }


async def _lags(replicas: Iterable[Replica]) -> list[float]:
    """The lags of their event loops since this was asked for the last time."""
    lags: list[float] = []
    for one in replicas:
        await one.told()
        lags += one.lags
        one.lags.clear()
    return lags


@dataclass(frozen=True)
class Planned:
    """A run that has planned its mails."""

    planned: int
    seconds: float


async def _plan(http: aiohttp.ClientSession, url: str, dsn: str) -> Planned:
    kind, _, name = JOB.partition(".")
    run = await _post(http, f"{url}/api/admin/jobs/run", jobType=kind, jobName=name, wait=False)
    async with connected(dsn) as connection:
        while (ended := await connection.fetchrow(_RUN, run["runId"])) is None:
            await asyncio.sleep(_POLL)
    if ended["state"] != "succeeded":
        raise RuntimeError(f"the run ended as {ended['state']}: {ended['error']}")
    return Planned(json.loads(ended["counts"])["planned"], ended["seconds"])


async def _all_planned(dsn: str) -> int:
    async with connected(dsn) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM service.delivery WHERE channel = 'email'"))


async def _post(http: aiohttp.ClientSession, url: str, **body: Any) -> dict[str, Any]:
    async with http.post(url, json=body) as answer:
        if answer.status >= 300:
            raise RuntimeError(f"{url}: {answer.status} {await answer.text()}")
        data: dict[str, Any] = await answer.json()
        return data


@dataclass(frozen=True)
class Reading:
    """What all had cost when the mail server had taken so many mails."""

    mails: int
    postgres: PostgresCost
    replicas: Sequence[Mapping[str, Any]]


async def _reading_at(
    count: int, mails: NotedMails, meter: PostgresMeter, replicas: Iterable[Replica]
) -> Reading:
    seen, since = -1, time.monotonic()
    while (now := mails.count) < count:
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > _STANDSTILL:
            raise RuntimeError(f"the mail server has taken {now} of {count} mails, and no more")
        await asyncio.sleep(_POLL)
    told = [await one.told() for one in replicas]
    return Reading(mails.count, await meter.read(), told)


def _cpu(first: Reading, last: Reading) -> float:
    """Seconds of all replicas and of PostgreSQL."""
    ours = zip(first.replicas, last.replicas, strict=True)
    spent = sum(after["process"] - before["process"] for before, after in ours)
    return float(spent) + last.postgres.cpu - first.postgres.cpu


def _costs(first: Reading, last: Reading) -> dict[str, float]:
    """Of each mail between two readings: microseconds, bytes."""
    mails = max(1, last.mails - first.mails)
    ours = list(zip(first.replicas, last.replicas, strict=True))

    def spent(key: str) -> float:
        return float(sum(after[key] - before[key] for before, after in ours)) / mails * 1e6

    def counted(table: str, key: str) -> float:
        return float(sum(after[table].get(key, 0) - before[table].get(key, 0) for before, after in ours))

    stages: dict[str, float] = {}
    if last.replicas[0]["stages"]:
        stages = {f"{stage}_us": counted("stages", stage) / mails * 1e6 for stage in STAGES}
        stages["rest of the loop_us"] = spent("loop") - sum(stages.values())
    return {
        "loop_us": spent("loop"),
        "other_threads_us": spent("process") - spent("loop"),
        **stages,
        "postgres_us": (last.postgres.cpu - first.postgres.cpu) / mails * 1e6,
        "wal_bytes": (last.postgres.wal - first.postgres.wal) / mails,
        "group": counted("groups", "dots") / max(1, counted("groups", "statements")),
        "rss_after_import_mb": max(one["rss_after_import"] for one in last.replicas) / 2**20,
        "rss_peak_mb": max(one["rss_peak"] for one in last.replicas) / 2**20,
    }


def rates(times: Sequence[float], prepared_s: float) -> dict[str, float]:
    """Mails per second. ``times``: when each was taken; ``prepared_s``: how long making them ready took.

    Steady: between a tenth and nine tenths of them. End to end: first made ready, then sent.
    """
    first, last = len(times) // 10, len(times) * 9 // 10
    steady = (last - first) / max(times[last - 1] - times[first], 1e-9)
    return {"steady_per_s": steady, "end_to_end_per_s": len(times) / (prepared_s + times[-1] - times[0])}


def percentile(values: Sequence[float], share: float) -> float:
    """0 without any values."""
    return float(sorted(values)[int(len(values) * share)]) if values else 0.0


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {key: float(statistics.median(run[key] for run in runs)) for key in runs[0]}
