"""An admin application on a real database, and rows to look at."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode
from service.engine.ledger import JobDefinition, Ledger
from service.engine.run import RunRequest, RunResult
from service.errors import AlreadyRunning
from service.manager import JobManager
from service.web import AdminDeps, build_app
from tests.given import ADOPT
from tests.web.parts import web_parts

TOKENS = {"the-admin": "admin", "the-viewer": "viewer", "the-dashboard": "dashboard"}
ADMIN = {"Authorization": "Bearer the-admin"}
VIEWER = {"Authorization": "Bearer the-viewer"}
DASHBOARD = {"Authorization": "Bearer the-dashboard"}


async def _nothing(_: RunContext) -> None:
    return


def job(name: str = "goalDeadlines") -> Job:
    return Job(
        type=JobType.REMINDER, name=name, about="", schedule="0 9 * * *", mode=TimeMode.USER,
        catch_up=CatchUp.LATEST, useful_until=lambda local: local.replace(hour=20), steps=_nothing,
    )  # fmt: skip


class AskedRunner:
    """Remembers how it was asked; the real one has its own tests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, RunRequest]] = []
        self.result = RunResult(7, "succeeded", {"planned": 2})
        self.busy = False

    async def run_manual(self, job_id: str, asked: RunRequest, /) -> RunResult:
        if self.busy:
            raise AlreadyRunning(f"{job_id} is running")
        self.asked.append((job_id, asked))
        return self.result

    async def request(self, _: Any, job_id: str, asked: RunRequest, /) -> SimpleNamespace:
        result = await self.run_manual(job_id, asked)
        return SimpleNamespace(id=result.run_id, state=result.state)

    async def carry_out(self, _: Any, /) -> RunResult:
        return self.result


@dataclass
class Admin:
    client: TestClient[Any, Any]
    manager: JobManager
    ledger: Ledger
    runner: AskedRunner
    pool: asyncpg.Pool
    life: list[str]


@asynccontextmanager
async def admin(
    pool: asyncpg.Pool,
    *,
    tokens: Mapping[str, str] = TOKENS,
    loopback: bool = True,
    jobs: Sequence[Job] = (job(),),
    **more: Any,
) -> AsyncIterator[Admin]:
    ledger = Ledger(pool, "test", timedelta(seconds=30))
    await ledger.register(
        [JobDefinition(job.id, job.schedule, "user", "h", timedelta(minutes=30), 5) for job in jobs]
    )
    runner, life = AskedRunner(), []

    async def opened() -> None:
        life.append("open")

    async def closed() -> None:
        life.append("close")

    manager = JobManager(pool, ledger, runner, {job.id: job for job in jobs}, open=opened, close=closed)
    await manager.initialize()
    parts = web_parts(pool, ledger, runner)
    app = build_app(AdminDeps(pool, manager, tokens, loopback, CollectorRegistry(), **parts | more))
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield Admin(client, manager, ledger, runner, pool, life)
    await manager.shutdown()


async def delivery(
    pool: asyncpg.Pool, token: str = "a-token", user: str = "u1", kind: str = "deadlines"
) -> int:
    mail = int(
        await pool.fetchval(
            """INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date,
                 template, locale, facts, message_id, message_date, token, not_before, expires_at)
               VALUES ($1, 'email', 'reminder.goalDeadlines', $2, $3, 'UTC', '2026-03-10', 'goal_deadlines',
                 'en', '{}', $1, now(), $1, now(), now() + interval '1 day') RETURNING id""",
            token, kind, user,
        )
    )  # fmt: skip
    await pool.execute(ADOPT)
    return mail
