"""All six mails through the real outbox, delivery and pool to an SMTP server in a process of its own.

Beside it, in the same run and over the same server: the bare rate, that is the same mails as ready-made bytes
over the same pool, nothing recorded. Every recipient's user and goals are answered for as the dashboard would
answer, from memory; the rest is what happens in production, with fsync.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.mail_server import mail_server
from benchmarks.smtp_pool import send_ready
from service.clock import SystemClock
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.model import Goal, Preferences, User
from service.engine import embedded
from service.engine.database import migrate, open_pool
from service.jobs import all_jobs
from service.messages.delivery import DeliveryLoop
from service.messages.delivery_settings import DeliverySettings
from service.messages.mail.compose import Composer
from service.messages.mail.sample_goals import RECIPIENT
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope
from service.messages.outbox import Outbox
from service.messages.planner import PlannerSettings
from service.messages.replacement import Replacements
from service.settings import Settings
from service.setup.parts import email_of_delivery
from tests.given import ADOPT
from tests.samples import samples_of

_CONNECTIONS = 8
_DOMAINS = 20
_SENDER = "hello@example.org"
_PLAN = """
WITH n AS (
    INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
        address, recipient_name, facts, message_id, message_date, token, not_before, expires_at)
    SELECT $1 || ':' || n, 'email', $2, $3, 'u' || n, 'UTC', current_date, $1, 'en',
        'u' || n || '@d' || n % $5 || '.example.net', $4, $6, $1 || n || '@example.org', now(), md5($1 || n),
        date_trunc('minute', now()) + n * interval '1 microsecond', now() + interval '1 day'
    FROM generate_series(1, $7::int) AS n RETURNING user_id, kind
)
INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)
SELECT user_id, kind, 'email', true, 'benchmark' FROM n WHERE kind = 'breaks'
"""


async def mixed(mails: int, composer: Composer) -> tuple[float, float]:
    """Mails per second through the whole way, and of ready-made bytes over the bare pool."""
    async with _open() as (pool, port):
        await _plan(pool, mails)
        config = SmtpConfig("127.0.0.1", port, "none", connections=_CONNECTIONS)
        transport = SmtpPool(config, SystemClock())
        delivery = DeliveryLoop(
            Outbox(pool, "benchmark", timedelta(seconds=60)),
            transport,
            lambda claimed: composer.compose(email_of_delivery(claimed)),
            _current_state,
            all_jobs(),
            Replacements(pool, all_jobs(), PlannerSettings("example.org"), composer.notice),
            sender=lambda _id: _SENDER,
            clock=SystemClock(),
            wake=asyncio.Event(),
            settings=DeliverySettings(connections=_CONNECTIONS, limits=Settings.load({}).domain_limits),
        )
        planned = await pool.fetchval("SELECT count(*) FROM service.delivery_state")
        began = time.perf_counter()
        await delivery.run_once()
        whole = planned / (time.perf_counter() - began)
        assert dict(delivery.totals) == {"sent": planned}, delivery.totals
        bare = await send_ready(transport, await _ready_made(pool, composer))
        await transport.close()
    return whole, bare


@asynccontextmanager
async def _open() -> AsyncIterator[tuple[asyncpg.Pool, int]]:
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as folder, mail_server() as port:
        dsn, server = embedded.start(Path(folder) / "postgres")
        try:
            pool = await open_pool(dsn, max_size=10)
            await migrate(pool)
            yield pool, port
            await pool.close()
        finally:
            server.stop()


async def _plan(pool: asyncpg.Pool, mails: int) -> None:
    """The first sample of each template for as many people, in turn."""
    samples = {sample.template: sample for sample in reversed(samples_of(all_jobs()))}.values()
    for sample in samples:
        values = (sample.template, sample.job, str(sample.kind), RECIPIENT, _DOMAINS, dict(sample.facts))
        await pool.execute(_PLAN, *values, mails // len(samples))
    await pool.execute(ADOPT)
    for table in ("delivery", "delivery_state"):
        await pool.execute(f"ANALYZE service.{table}")


async def _current_state(query: StateQuery) -> DashboardState:
    now = datetime.now(UTC)
    people = {
        id_: User(
            id=id_,
            name=RECIPIENT,
            email=_address(id_),
            timezone="UTC",
            locale="en",
            active=True,
            preferences=Preferences(),
            created_at=now - timedelta(days=100),
            last_login_at=now,
        )
        for id_ in query.users
    }
    goals = {id_: goal for id_ in query.goals if (goal := _goals().get(id_))}
    return DashboardState(people, goals, frozenset(query.sessions))


@cache
def _goals() -> dict[str, Goal]:
    """The goals of the samples, as the dashboard would have them."""
    found: dict[str, Goal] = {}
    values: list[Any] = [dict(sample.facts) for sample in samples_of(all_jobs())]
    while values:
        value = values.pop()
        if isinstance(value, dict) and {"id", "title", "due"} <= value.keys():
            found[value["id"]] = _goal(value)
        values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found


def _goal(facts: dict[str, Any]) -> Goal:
    due = facts["due"] and date.fromisoformat(facts["due"])
    values = {"target_value": facts["target"], "current_value": facts["current"], "unit": facts["unit"]}
    times: dict[str, Any] = dict.fromkeys(("due_at", "created_at", "completed_at"))
    return Goal(
        id=facts["id"],
        user_id="",
        title=facts["title"],
        category=None,
        open=True,
        priority="medium",
        progress=facts["percent"],
        due_date=due,
        **values,
        **times,
    )


def _address(user_id: str) -> str:
    return f"{user_id}@d{int(user_id[1:]) % _DOMAINS}.example.net"


async def _ready_made(pool: asyncpg.Pool, composer: Composer) -> list[Envelope]:
    """The same mails in the same order."""
    await pool.execute("UPDATE service.delivery_state SET claim = NULL, state = 'planned', attempt = 0")
    claimed = await Outbox(pool, "bare", timedelta(seconds=60)).claim(await pool.fetchval(_COUNT))
    return [
        Envelope(one.id, _SENDER, one.address, composer.compose(email_of_delivery(one))) for one in claimed
    ]


_COUNT = "SELECT count(*) FROM service.delivery_state"
