"""goalDeadlines for N users with 20 % due: ``python -m benchmarks.reminder_run [N …]``.

Prints, for each N (10,000 and 100,000 unless told), the seconds for the first load, for deciding and
planning, and for delivery to a recording SMTP server in a process of its own, with the service's CPU,
its peak memory, and how long a probe waits meanwhile. In the same run, over the same server: the raw
limit (ready-made bytes over the same pool) and a plain sender (EmailMessage and aiosmtplib.send for
each message). Ratios are what counts; machines differ.
"""

import asyncio
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiohttp
import aiosmtplib
import asyncpg

from benchmarks.mail_server import mail_server
from benchmarks.smtp_pool import send_ready
from service import app, log, server
from service.clock import SystemClock
from service.demo.sample import SampleDashboard, people, write
from service.engine import embedded
from service.messages.mail.compose import Email, email_of
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope
from service.settings import Settings
from service.setup import databases

_PLAIN = 300
_RAW = 5_000
_CONNECTIONS = 8


def dashboard(count: int, today: date, due: int = 5) -> SampleDashboard:
    """``count`` users in many zones, one goal each; one in ``due`` is due tomorrow, whatever the zone."""
    base = people(1, today, 300)
    dice = random.Random(2)
    at = datetime.combine(today - timedelta(days=20), datetime.min.time(), UTC)
    users, goals = [], []
    for n in range(count):
        like = base.users[n % 300]
        users.append(
            {
                **like,
                "id": f"u{n:07d}",
                "email": f"u{n}@example.org",
                "updated_at": at + timedelta(seconds=n),
                "is_active": True,
                "preferences": {"notifications": {"email": True}},
            }
        )
        zone_today = (datetime.combine(today, datetime.min.time(), UTC) + timedelta(hours=12)).date()
        date_ = zone_today + timedelta(days=1 if n % due == 0 else 40 + dice.randrange(100))
        goals.append(
            {
                **base.goals[0],
                "id": f"g{n:07d}",
                "user_id": f"u{n:07d}",
                "title": f"Goal {n}",
                "status": "active",
                "current_value": 3.0,
                "target_value": 10.0,
                "created_at": at,
                "updated_at": at + timedelta(seconds=n),
                "due_at": datetime.combine(date_, datetime.min.time(), UTC),
            }
        )
    return SampleDashboard(users, goals, base.timer_sessions)


async def _probe(url: str, waits: list[float], stop: asyncio.Event) -> None:
    async with aiohttp.ClientSession() as http:
        while not stop.is_set():
            began = time.perf_counter()
            async with http.get(f"{url}/livez") as answer:
                await answer.read()
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.02)


async def raw_limit(port: int, content: bytes) -> float:
    """Mails per second with ready-made bytes over the same pool."""
    config = SmtpConfig("127.0.0.1", port, "none", connections=_CONNECTIONS)
    pool = SmtpPool(config, SystemClock())
    mails = [Envelope(n, "a@example.org", f"b{n}@example.org", content) for n in range(_RAW)]
    rate = await send_ready(pool, mails)
    await pool.close()
    return rate


async def plain_sender(port: int, text: str, html: str) -> float:
    """Mails per second the usual way."""

    async def one(n: int) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "a@example.org", f"b{n}@example.org", f"Due tomorrow: {n}"
        mail.set_content(text)
        mail.add_alternative(html, subtype="html")
        await aiosmtplib.send(mail, hostname="127.0.0.1", port=port, start_tls=False)

    async def some(k: int) -> None:
        for n in range(k, _PLAIN, _CONNECTIONS):
            await one(n)

    began = time.perf_counter()
    await asyncio.gather(*(some(k) for k in range(_CONNECTIONS)))
    return _PLAIN / (time.perf_counter() - began)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(count: int, folder: Path, dashboard_dsn: str, port: int) -> dict[str, Any]:
    """One whole run in this process."""
    settings = Settings.load(
        {
            "DATA_DIR": str(folder),
            "DASHBOARD_URL": dashboard_dsn,
            "FRONTEND_URL": "http://localhost:3000",
            "PUBLIC_URL": "http://localhost:8080",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_CONNECTIONS": str(_CONNECTIONS),
            "PORT": "0",
            "MAIL_FROM": "Dashboard <a@example.org>",
        }
    )
    found: dict[str, Any] = {"users": count}
    async with app.open_service(settings) as service:
        http = await server.listen(service)
        url = f"http://127.0.0.1:{http.addresses[0][1]}"
        waits: list[float] = []
        stop = asyncio.Event()
        probing = asyncio.ensure_future(_probe(url, waits, stop))
        began = time.perf_counter()
        await service.sync.run_once()
        found["sync_s"] = time.perf_counter() - began
        began = time.perf_counter()
        result = await service.runner.run_manual("reminder.goalDeadlines")
        found["decide_s"] = time.perf_counter() - began
        found["planned"] = result.counts.get("planned", 0)
        row = await service.pool.fetchrow(
            "SELECT * FROM service.delivery_with_state WHERE channel = 'email' LIMIT 1"
        )
        assert row is not None
        began, cpu = time.perf_counter(), _cpu()
        while await service.delivery.run_once():
            continue
        found["deliver_s"] = time.perf_counter() - began
        found["cpu_per_1000_s"] = (_cpu() - cpu) / max(found["planned"], 1) * 1000
        found["mails_per_s"] = found["planned"] / found["deliver_s"]
        stop.set()
        await probing
        found["probe_p99_ms"] = sorted(waits)[int(len(waits) * 0.99)] * 1000
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sample = _sample(service, row)
        text, html = sample
        content = service.composer.compose(_letter(row))
        found["raw_per_s"] = await raw_limit(port, content)
        found["plain_per_s"] = await plain_sender(port, text, html)
        await http.cleanup()
    return found


def _letter(row: asyncpg.Record) -> Email:
    return email_of(row.__getitem__)


def _sample(service: app.Service, row: asyncpg.Record) -> tuple[str, str]:
    made = service.composer.render(
        row["template"],
        row["facts"],
        locale="en",
        name=row["recipient_name"],
        links=service.composer.links(row["token"]),
    )
    return made.text, made.html


async def one_size(count: int) -> None:
    """Prepare a dashboard of this size, measure, print."""
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as name, mail_server() as port:
        folder = Path(name)
        dsn, server = embedded.start(folder / "postgres")
        try:
            sample = await databases.ensure_database(dsn, "sample_dashboard")
            filler = [sys.executable, "-m", "benchmarks.reminder_run", "--fill", sample, str(count)]
            subprocess.run(filler, check=True)  # its memory is not the service's
            _print(await measure(count, folder, sample, port))
        finally:
            server.stop()


def _print(f: dict[str, Any]) -> None:
    raw, plain = f["mails_per_s"] / f["raw_per_s"], f["mails_per_s"] / f["plain_per_s"]
    print(
        f"\n{f['users']:,} users, {f['planned']:,} mails\n"
        f"  first load            {f['sync_s']:8.2f} s\n"
        f"  decide and plan       {f['decide_s']:8.2f} s\n"
        f"  deliver               {f['deliver_s']:8.2f} s   {f['mails_per_s']:,.0f} mails/s\n"
        f"  service CPU           {f['cpu_per_1000_s']:8.2f} s per 1,000 mails\n"
        f"  peak memory           {f['peak_mb']:8.0f} MB\n"
        f"  probe p99 meanwhile   {f['probe_p99_ms']:8.1f} ms\n"
        f"  raw limit             {f['raw_per_s']:8,.0f} mails/s   ratio {raw:.2f} (aim 0.2)\n"
        f"  plain sender          {f['plain_per_s']:8,.0f} mails/s   ratio {plain:.1f} (aim 6)",
        flush=True,
    )


def main() -> None:
    """Each size in a process of its own, so that peak memory is its own."""
    log.configure("error", json=True)
    if sys.argv[1:2] == ["--fill"]:
        asyncio.run(write(sys.argv[2], dashboard(int(sys.argv[3]), datetime.now(UTC).date())))
    elif sys.argv[1:2] == ["--one"]:
        with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
            runner.run(one_size(int(sys.argv[2])))
    else:
        for count in sys.argv[1:] or ["10000", "100000"]:
            subprocess.run([sys.executable, "-m", "benchmarks.reminder_run", "--one", count], check=True)


if __name__ == "__main__":
    main()
