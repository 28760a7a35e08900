"""The admin API over a year of messages: ``python -m benchmarks.api [--messages N] [--users N]``.

Over N messages (1,000,000 unless told), first alone, then while a reminder run for so many users (100,000) is
being delivered to an SMTP server in a process of its own: requests per second over four connections that ask
as fast as they can, as a ratio to a bare aiohttp handler of the same process just before and after; and the
99th percentile of what one asker waits who comes a hundred times a second (twenty times, where it is no
probe). Whoever asks is a process of its own. Ratios are what counts; machines differ.
``--messages 20000 --users 2000 --seconds 0.2`` for a quick look.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

from benchmarks.mail_server import mail_server
from benchmarks.reminder_people import fill_postgres
from service import app, log, server
from service.engine import embedded
from service.settings import Settings
from service.setup import databases
from tests.given import ADOPT

_CONNECTIONS = 4
_AIM_MS = 50
_BARE = "bare aiohttp"
_PROBES = ("livez", "startupz", "readyz")

_RUNS = """
INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before, started_at, finished_at, done)
SELECT d.job, 'cron', at, 'succeeded', at, at + interval '1 second', at + interval '9 seconds', 100
FROM service.job_def AS d, generate_series(
    date_trunc('hour', now()) - interval '395 days', now() - interval '1 hour', interval '1 hour') AS at
WHERE d.job LIKE 'reminder.%'"""
_ORDERED = """
CREATE TEMP TABLE ordered ON COMMIT DROP AS
    SELECT row_number() OVER (ORDER BY nominal_at, id) - 1 AS nth, id, job, nominal_at FROM service.job_run"""
_MESSAGES = """
INSERT INTO service.delivery (dedupe_key, channel, job, run_id, kind, user_id, zone, local_date, template,
    locale, address, facts, message_id, message_date, token, state, reason, attempt, not_before, expires_at,
    dot_at, settled_at, smtp_code, planned_at)
SELECT 'bench:' || n, channel, r.job, r.id, 'deadlines', 'u' || lpad(who::text, 7, '0'), 'UTC', at::date,
       'goal_deadlines', 'en', CASE channel WHEN 'email' THEN 'u' || who || '@example.org' END, '{}',
       'bench' || n || '@example.org', at, md5('bench' || n), m.state,
       CASE m.state WHEN 'failed' THEN (ARRAY['hard_bounce', 'content_refused'])[1 + n % 2]
                    WHEN 'skipped' THEN 'revalidated_away' WHEN 'expired' THEN 'stale'
                    WHEN 'unconfirmed' THEN 'no answer after the dot' END,
       1, at, at + interval '10 hours', at, at,
       CASE m.state WHEN 'sent' THEN 250 WHEN 'failed' THEN 550 END, at
FROM (SELECT n, n::bigint * 7919 % $2 AS who, CASE WHEN n % 3 = 0 THEN 'in_app' ELSE 'email' END AS channel,
             CASE WHEN n % 10007 = 0 THEN 'unconfirmed' WHEN n % 997 = 0 THEN 'expired'
                  WHEN n % 331 = 0 THEN 'failed' WHEN n % 50 = 0 THEN 'skipped' ELSE 'sent' END AS state
      FROM generate_series(1, $1::int) AS n) AS m
JOIN (SELECT *, nominal_at AS at FROM ordered) AS r ON r.nth = n::bigint * ($3::bigint - 1) / $1"""
_AGED = """
UPDATE {} AS t SET updated_at = now() - interval '1 day' - nth * interval '20 seconds'
FROM (SELECT id, row_number() OVER (ORDER BY id) AS nth FROM {}) AS n WHERE n.id = t.id"""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one address came to."""

    per_s: float
    bare_per_s: float
    p99_ms: float


# ── Who asks: a process of its own ──────────────────────────────────────────────────────────────────────────


class Line:
    """One connection that is kept, as plain as can be: what is measured is the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        self._reader, self._writer = reader, writer
        self._ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    @classmethod
    async def open(cls, port: int, path: str) -> "Line":
        return cls(*await asyncio.open_connection("127.0.0.1", port), path)

    async def ask(self) -> None:
        """One request and its answer."""
        self._writer.write(self._ask)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if head[9:12] != b"200" and not (head[9:12] == b"503" and b"/health" in self._ask):
            raise RuntimeError(f"{self._ask!r} was answered by {head!r}")
        await self._reader.readexactly(int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]))

    def close(self) -> None:
        self._writer.close()


async def _per_second(port: int, path: str, seconds: float) -> float:
    """How many answers per second four connections get."""
    loop = asyncio.get_running_loop()
    lines = [await Line.open(port, path) for _ in range(_CONNECTIONS)]
    began = loop.time()

    async def hurry(line: Line) -> int:
        n = 0
        while loop.time() - began < seconds:
            await line.ask()
            n += 1
        return n

    answers = await asyncio.gather(*map(hurry, lines))
    took = loop.time() - began
    for line in lines:
        line.close()
    return sum(answers) / took


async def _p99(port: int, path: str, pause: float, seconds: float) -> float:
    """What one waits, in ms, who asks at such a pace; a late answer does not excuse the next."""
    loop = asyncio.get_running_loop()
    line = await Line.open(port, path)
    await line.ask()
    waits: list[float] = []
    due = began = loop.time()
    while due - began < seconds:
        await asyncio.sleep(max(0.0, due - loop.time()))
        await line.ask()
        waits.append(loop.time() - due)
        due += pause
    line.close()
    return sorted(waits)[int(len(waits) * 0.99)] * 1000


async def ask(targets: dict[str, tuple[int, str]], seconds: float) -> dict[str, tuple[float, ...]]:
    """By name: requests per second, those of the bare handler just before and after, and p99 in ms."""
    found: dict[str, tuple[float, ...]] = {}
    bare = targets[_BARE]
    for name, (port, path) in targets.items():
        pause = 0.05 if path.startswith("/api/") else 0.01
        before = await _per_second(*bare, seconds / 2)
        answers = await _per_second(port, path, seconds)
        after = await _per_second(*bare, seconds / 2)
        found[name] = (answers, (before + after) / 2, await _p99(port, path, pause, 2 * seconds))
    return found


async def _asked(targets: dict[str, tuple[int, str]], seconds: float) -> dict[str, Figure]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.api",
        "--ask",
        str(seconds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    told, _ = await process.communicate(json.dumps(targets).encode())
    if process.returncode:
        raise RuntimeError("asking failed")
    return {name: Figure(*figures) for name, figures in json.loads(told).items()}


# ── What is asked ───────────────────────────────────────────────────────────────────────────────────────────


def targets(port: int, bare: int, messages: int) -> dict[str, tuple[int, str]]:
    """Each name's port and path."""
    admin, today = "/api/admin", datetime.now(UTC).date()
    day = today - timedelta(days=200)
    deliveries = {
        "newest": "limit=50",
        "user": "user=u0000042",
        "job": "job=reminder.weeklyReview",
        "state": "state=unconfirmed",
        "reason": "reason=hard_bounce",
        "reason that is not": "reason=never",
        "channel": "channel=in_app",
        "a day": f"from={day}&to={day}",
        "up to a day": f"to={day}",
        "address": "address=u42@",
        "many addresses": "address=u",
        "state, up to a day": f"state=failed&to={day}",
        "the last pages": f"before={max(messages // 1000, 51)}",
    }
    paths = {
        **{name: f"/{name}" for name in _PROBES},
        "status": f"{admin}/jobs/status",
        "health": f"{admin}/jobs/health",
        **{f"deliveries: {name}": f"{admin}/deliveries?{query}" for name, query in deliveries.items()},
        "explain": f"{admin}/users/u0000042/explain?job=goalDeadlines",
    }
    return {_BARE: (bare, "/"), **{name: (port, path) for name, path in paths.items()}}


@asynccontextmanager
async def _bare() -> AsyncIterator[int]:
    """A handler that does nothing, in this process: what aiohttp itself costs now."""

    async def nothing(_request: web.Request) -> web.Response:
        return web.json_response({"success": True})

    bare = web.Application()
    bare.router.add_get("/", nothing)
    runner = web.AppRunner(bare, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def fill(pool: asyncpg.Pool, messages: int, users: int) -> None:
    """A year of runs and their messages."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute(_RUNS)
            await connection.execute(_ORDERED)
            await connection.execute("ANALYZE ordered")
            runs = await connection.fetchval("SELECT count(*) FROM ordered")
            await connection.execute(_MESSAGES, messages, users, runs, timeout=3600)
        await connection.execute(ADOPT, timeout=3600)
        for table in ("delivery", "delivery_state"):
            await connection.execute(f"VACUUM ANALYZE service.{table}", timeout=3600)
        await connection.execute("VACUUM ANALYZE service.job_run")


async def measure(settings: Settings, messages: int, users: int, seconds: float) -> None:
    """Alone, then under a run; prints both."""
    async with app.open_service(settings) as service, _bare() as bare:
        http = await server.listen(service)
        await service.sync.run_once()
        await fill(service.pool, messages, users)
        await service.manager.initialize()
        server.freeze_loaded_objects()
        asked = targets(http.addresses[0][1], bare, messages)
        _print(f"{messages:,} messages, {users:,} users, alone", await _asked(asked, seconds))
        run = asyncio.ensure_future(service.runner.run_manual("reminder.goalDeadlines"))
        await _until_sending(service)
        began, before = time.perf_counter(), service.delivery.totals["sent"]
        found = await _asked(asked, seconds)
        rate = (service.delivery.totals["sent"] - before) / (time.perf_counter() - began)
        await run
        left = await service.pool.fetchval("SELECT count(*) FROM service.delivery_state WHERE claim IS NULL")
        note = f"{rate:,.0f} mails/s meanwhile" if left else "the run was over too soon: more --users"
        _print(f"while a run for {users:,} users is being delivered ({note})", found)
        await service.manager.shutdown()
        await http.cleanup()


async def _until_sending(service: app.Service) -> None:
    while not service.delivery.totals["sent"]:
        await asyncio.sleep(0.05)


def _print(title: str, found: dict[str, Figure]) -> None:
    print(f"\n{title}\n{'':30}{'requests/s':>12}{'ratio to bare':>15}{'p99 ms':>9}", flush=True)
    for name, one in found.items():
        aim = f"   (aim {_AIM_MS})" if name in _PROBES else ""
        print(
            f"  {name:28}{one.per_s:12,.0f}{one.per_s / one.bare_per_s:15.3f}{one.p99_ms:9.1f}{aim}",
            flush=True,
        )


async def bench(messages: int, users: int, seconds: float) -> None:
    """Prepare a dashboard where everybody has a goal due, measure, print."""
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as name, mail_server() as port:
        folder = Path(name)
        dsn, server = embedded.start(folder / "postgres")
        try:
            sample = await databases.ensure_database(dsn, "sample_dashboard")
            filler = [sys.executable, "-m", "benchmarks.api", "--fill", sample, "--users", str(users)]
            subprocess.run(filler, check=True)
            environ = {
                "DATA_DIR": str(folder),
                "DASHBOARD_URL": sample,
                "FRONTEND_URL": "http://localhost:3000",
                "PUBLIC_URL": "http://localhost:8080",
                "SMTP_HOST": "127.0.0.1",
                "SMTP_PORT": str(port),
                "SMTP_CONNECTIONS": "8",
                "SMTP_DOMAIN_LIMITS": "*=0/0",
                "PORT": "0",
                "MAIL_FROM": "Dashboard <a@example.org>",
            }
            await measure(Settings.load(environ), messages, users, seconds)
        finally:
            server.stop()


async def _fill_dashboard(dsn: str, users: int) -> None:
    """Everybody has a goal due tomorrow; all was written some time ago, not at this moment."""
    await fill_postgres(dsn, users, datetime.now(UTC), every=1)
    connection = await asyncpg.connect(dsn)
    for table in ("users", "goals", "timer_sessions"):
        await connection.execute(_AGED.format(table, table))
    await connection.close()


def _parsed() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--ask", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """The service on uvloop, as it is served."""
    log.configure("error", json=True)
    options = _parsed()
    if options.ask:
        print(json.dumps(asyncio.run(ask(json.load(sys.stdin), options.ask))))
    elif options.fill:
        asyncio.run(_fill_dashboard(options.fill, options.users))
    else:
        with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
            runner.run(bench(options.messages, options.users, options.seconds))


if __name__ == "__main__":
    main()
