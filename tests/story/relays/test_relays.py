"""Real mail servers as relays: what they answer and what they report is judged by whom it is about."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from service.demo import sample
from tests.process import process_of, until
from tests.story.relays.conftest import Relay, started
from tests.story.relays.internet import FATES, address, dashboard
from tests.story.relays.relay import DOMAIN, PASSWORD, USER, Setup
from tests.story.watching import answer, run, until_ready, until_true

pytestmark = pytest.mark.long(only=True)


def environment(given: Setup, dsn: str, theirs: str) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "DASHBOARD_URL": theirs,
        "FRONTEND_URL": "http://localhost:3000",
        "PUBLIC_URL": "http://localhost:8080",
        "MAIL_FROM": f"Dashboard <reminders@{DOMAIN}>",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(given.port),
        "SMTP_TLS": "starttls",
        "SMTP_CA_FILE": str(given.certificate.authority),
        "SMTP_PER_CONNECTION": "10",
        "BOUNCE_ADDRESS": f"bounce@{DOMAIN}",
        "BOUNCE_SECRET": "a secret of the operator",
        "BOUNCE_MAILDIR": str(given.mailbox),
        "CLAIM_JITTER_SECONDS": "0",
        "LEASE_SECONDS": "5",
    }


@asynccontextmanager
async def served(folder: Path, environ: Mapping[str, str]) -> AsyncIterator[str]:
    """The service, from when it is ready; stopped after, so that it leaves nothing claimed."""
    async with process_of(folder / "data", "serve", **environ) as (process, url):
        await until_ready(url)
        yield url
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def test_every_report_of_a_relay_is_judged_by_whom_it_is_about(
    kind: Relay, pool: asyncpg.Pool, dsn: str, databases: tuple[str, str], tmp_path: Path
) -> None:
    """First without a log-in, then with it; the reports arrive while the service is down."""
    fates = {**FATES, **kind.own}
    failed = [name for name, fate in fates.items() if fate.about]
    await sample.write(databases[1], dashboard(fates))
    async with started(kind, fates) as given:
        environ = environment(given, dsn, databases[1])
        arrived = given.mailbox / "new"

        async with served(tmp_path, environ) as url:
            await run(url)
            await until_true(lambda: gate(pool))
            assert await problems(url) >= {"mail_refused", "gate_shut"}
            assert {state for state, _ in (await mails(pool)).values()} <= {"planned", "claimed"}

        environ |= {"SMTP_USER": USER, "SMTP_PASS": PASSWORD}
        async with served(tmp_path, environ) as url:
            await until_true(lambda: gate(pool, shut=False))
            await answer(url, "/api/admin/deliveries/try-now", {"reason": "our_fault"})
            await until_true(lambda: all_sent(pool))
        await until(lambda: len(list(arrived.iterdir())) == len(failed))

        async with served(tmp_path, environ) as url:
            await until(lambda: not list(arrived.iterdir()))
            assert "gate_shut" not in await problems(url)

    assert await mails(pool) == {name: _BECOMES[fate.about] for name, fate in fates.items()}
    suppressed = {row["address"] for row in await pool.fetch("SELECT address FROM service.suppression")}
    assert suppressed == {address(name, fate) for name, fate in fates.items() if fate.at_once}
    assert await pool.fetchval("SELECT count(*) FROM service.mailbox_rest") == 0


_BECOMES = {
    None: ("sent", None),
    "address": ("bounced", "hard_bounce"),
    "mailbox": ("bounced", "about_mailbox"),
    "us": ("bounced", "about_us"),
    "way": ("bounced", "about_way"),
}


async def gate(pool: asyncpg.Pool, *, shut: bool = True) -> bool:
    """Whether the relay's gate is like that."""
    count = await pool.fetchval("SELECT count(*) FROM service.shut_gate WHERE scope = 'relay'")
    return bool(count) is shut


async def problems(url: str) -> set[str]:
    """The keys of what health calls a problem."""
    _, health = await answer(url, "/api/admin/jobs/health")
    return {one["key"] for one in health["conditions"] if one["severity"] == "problem"}


async def mails(pool: asyncpg.Pool) -> dict[str, tuple[str, str | None]]:
    """State and reason of each person's mail."""
    rows = await pool.fetch(
        "SELECT user_id, s.state, s.reason FROM service.delivery_state AS s"
        " JOIN service.delivery AS d USING (id) WHERE d.channel = 'email'"
    )
    return {row["user_id"]: (row["state"], row["reason"]) for row in rows}


async def all_sent(pool: asyncpg.Pool) -> bool:
    return {state for state, _ in (await mails(pool)).values()} == {"sent"}
