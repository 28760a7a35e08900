"""The stage of a scenario: replicas behind proxies, with work to do, and an operator who sees all of it."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import asyncpg

from tests.chaos.dashboards import Dashboard, store_of
from tests.chaos.proxy import Proxy
from tests.chaos.replica import TOKEN, Replica
from tests.chaos.servers import Servers, SmallDisk
from tests.smtp_server import RecordingServer

SLOTS = "analytics.chaos.everyMinute"
MAILS = "reminder.goalDeadlines"
_REACH = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
_QUICK = {
    "CLAIM_JITTER_SECONDS": "0", "LEASE_SECONDS": "5", "SWEEP_SECONDS": "1", "SYNC_INTERVAL_SECONDS": "1",
    "SHUTDOWN_GRACE_SECONDS": "10", "SMTP_CONNECTIONS": "4", "SMTP_DOMAIN_LIMITS": "*=0/0",
    "LOG_LEVEL": "warning",
}  # fmt: skip

_UNDECIDED = "SELECT min(materialized_through) < $2 FROM service.job_schedule WHERE job = $1"
_PLANNED = "SELECT state FROM service.job_run WHERE job = $1 AND trigger = 'manual'"
_FEED = """
INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before, deadline_at)
SELECT $1, 'catchup', (SELECT min(nominal_at) FROM service.job_run WHERE job = $1) - make_interval(mins => n),
       'pending', service.now(), service.now() + interval '1 day'
FROM generate_series(1, $2 - (
    SELECT count(*) FROM service.job_run WHERE job = $1 AND state = 'pending')::int) AS n
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do: so many slots are due at any time until the fault is over (``fed``; else at its
    begin only), and so many people get a mail each.

    ``mail_seconds``: how long the relay takes for an answer after the dot. ``small_disk``: our database lies
    on one. ``planning``: the mails are planned while the fault is there, not before.
    """

    slots: int = 20
    people: int = 150
    mail_seconds: float = 0.4
    replicas: int = 2
    fed: bool = True
    small_disk: bool = False
    planning: bool = False
    dashboard: Literal["MongoDB", "PostgreSQL"] = "MongoDB"


class Stage:
    """What the faults break and the checks look at. Everything the operator does goes past the proxies."""

    def __init__(self, servers: Servers, load: Load, seed: int, folder: Path) -> None:
        self.servers = servers
        self.load = load
        self.dice = random.Random(seed)
        self.name = f"chaos_{uuid.uuid4().hex[:10]}"
        self.relay = RecordingServer(self._relay_manners, auth=True)
        self.database, self.mail = Proxy(servers.postgres.port), Proxy(0)
        store, port = store_of(load.dashboard, servers.mongo, servers.postgres, self.name)
        self.people, self.dashboard = Dashboard(store), Proxy(port)
        self.replicas: list[Replica] = []
        self.disk: SmallDisk | None = None
        self.faults = 0
        self.kills = 0
        self.problems: list[str] = []
        """What went wrong while the fault was there, in words."""
        self.first_slot = datetime.min.replace(tzinfo=UTC)
        self.environ: dict[str, str] = {}
        self.folder = folder

    @staticmethod
    def now() -> datetime:
        """Of this machine; aware."""
        return datetime.now(UTC)

    @property
    def trouble(self) -> str:
        """What the health of the replicas said last, where it was red."""
        return "; ".join(replica.trouble for replica in self.replicas if replica.trouble)

    def _relay_manners(self, phase: str, _recipient: str) -> str | None:
        return f"slow {self.load.mail_seconds}" if phase == "after_dot" else None

    def relay_behaves(self, misbehave: Callable[[str, str], str | None] | None = None) -> None:
        """Let the relay misbehave, or (None) behave again."""
        self.relay.behave(misbehave or self._relay_manners)

    # ── Our database, as its operator sees it ───────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def operator(self, database: str = "") -> AsyncIterator[asyncpg.Connection]:
        """A session of the superuser, which may always write."""
        url = self.servers.postgres.url(database=database or self.name)
        settings = {"default_transaction_read_only": "off", "statement_timeout": "0"}
        connection = await asyncpg.connect(url, server_settings=settings, timeout=10)
        try:
            yield connection
        finally:
            connection.terminate()

    async def sql(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """Rows of a query, asked until the server answers."""
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self.operator() as connection:
                        return list(await connection.fetch(query, *values))
                except asyncpg.SyntaxOrAccessError:
                    raise
                except _REACH:
                    await asyncio.sleep(0.1)

    async def value(self, query: str, *values: Any) -> Any:
        """The first value of the first row."""
        return (await self.sql(query, *values))[0][0]

    # ── Beginning ───────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def begun(self) -> AsyncIterator["Stage"]:
        """With work under way on every replica; everything is ended at the end."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.relay)
            self.mail = Proxy(self.relay.port)
            for proxy in (self.database, self.dashboard, self.mail):
                await stack.enter_async_context(proxy)
            if self.load.small_disk:
                self.disk = stack.enter_context(SmallDisk(self.servers.postgres.folder / self.name))
            await self._make_database()
            stack.push_async_callback(self._drop)
            await self.people.fill(self.load.people)
            stack.push_async_callback(self._end_replicas)
            self.environ = self._environment()
            for _ in range(self.load.replicas):
                await self.add_replica().start()
            for replica in self.replicas:
                await replica.until_started()
            await self._begin_work()
            yield self

    def add_replica(self, environ: dict[str, str] | None = None, **values: Any) -> Replica:
        """One more, which is not started yet. ``environ``: beside what all have."""
        folder = self.folder / f"replica-{len(self.replicas)}"
        replica = Replica(folder, {**self.environ, **(environ or {})}, **values)
        self.replicas.append(replica)
        return replica

    def _environment(self) -> dict[str, str]:
        return _QUICK | {
            "DATABASE_URL": f"postgresql://jobs@127.0.0.1:{self.database.port}/{self.name}",
            "DASHBOARD_URL": self.people.store.url(self.dashboard.port),
            "FRONTEND_URL": "http://localhost:3000", "PUBLIC_URL": "http://localhost:8080",
            "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(self.mail.port),
            "SMTP_USER": "us", "SMTP_PASS": "pass",
            "MAIL_FROM": "Dashboard <hello@example.org>", "ADMIN_TOKEN": TOKEN,
            "EXTRA_JOBS": "tests.chaos.load_jobs",
        }  # fmt: skip

    async def _make_database(self) -> None:
        place = ""
        async with self.operator("postgres") as connection:
            if self.disk:
                await connection.execute(f"CREATE TABLESPACE {self.name} LOCATION '{self.disk.folder}'")
                place = f"TABLESPACE {self.name}"
            template = self.servers.template
            await connection.execute(f"CREATE DATABASE {self.name} OWNER jobs TEMPLATE {template} {place}")
        await self.sql("CREATE TABLE chaos_effect (job text, slot timestamptz, page int)")
        await self.sql("ALTER TABLE chaos_effect OWNER TO jobs")

    async def _drop(self) -> None:
        async with self.operator("postgres") as connection:
            await connection.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
            if self.disk:
                await connection.execute(f"DROP TABLESPACE {self.name}")
        await self.people.store.drop()

    async def _end_replicas(self) -> None:
        for replica in self.replicas:
            await replica.kill()

    async def _begin_work(self) -> None:
        """Plan the mails; then the slots of the last so many minutes are due."""
        if self.load.people and not self.load.planning:
            await self.replicas[0].run()
            async with asyncio.timeout(60):  # it may have to wait for the first load
                while await self.value(_PLANNED, MAILS) != "succeeded":
                    await asyncio.sleep(0.1)
        await self.sql(
            "UPDATE service.job_schedule SET materialized_through = service.now() - make_interval(mins => $1)"
            " WHERE job = $2", self.load.slots, SLOTS,
        )  # fmt: skip
        now = await self.value("SELECT date_trunc('minute', service.now())")
        self.first_slot = now - timedelta(minutes=self.load.slots - 1)
        if self.load.slots:
            async with asyncio.timeout(60):
                while await self.value(_UNDECIDED, SLOTS, now):
                    await asyncio.sleep(0.05)
            # They are due now: health is red where a run waits for a quarter of an hour.
            await self.sql("UPDATE service.job_run SET not_before = service.now() WHERE state = 'pending'")
        if self.load.planning:
            await self.replicas[0].run(wait=False)

    @asynccontextmanager
    async def feeding(self) -> AsyncIterator[None]:
        """Further slots are due meanwhile, each a minute before the first: there is always work to break."""
        task = asyncio.create_task(self._feed())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _feed(self) -> None:
        while self.load.fed and self.load.slots:
            await self.sql(_FEED, SLOTS, self.load.slots)
            await asyncio.sleep(0.5)

    async def run_figures(self) -> None:
        """Ask for the figures; where they cannot be had at once, they wait like any run."""
        live = next(replica for replica in self.replicas if replica.alive)
        await live.run({"jobType": "analytics", "jobName": "dailyAnalytics"})
