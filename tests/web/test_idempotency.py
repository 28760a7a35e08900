"""The same act with the same key is carried out once, whatever it is and whoever dies meanwhile."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.errors import ArchiveDamaged
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from tests.given import GOALS, Scripted, World, accepted, goal, refused
from tests.process import spawn
from tests.web.console.consoles import Console, console, people
from tests.web.contract import promised
from tests.web.given import ADMIN

RUN = "/api/admin/jobs/run"
RESTART = "/api/admin/jobs/restart"
JOB = {"jobType": "reminder", "jobName": "goalDeadlines"}
_HELD = "SELECT pg_advisory_lock(hashtext('service.erasure'))"
"""Whoever holds it keeps every reminder's run from planning its first page."""


@pytest.fixture
async def given(world: World) -> AsyncIterator[Console]:
    await people(world)
    async with console(world) as made:
        yield made


async def ask(given: Console, pattern: str, key: str = "k", method: str = "POST", **more: Any) -> Any:
    """Status, body, and whether it was answered before."""
    path = more.pop("path", pattern)
    headers = ADMIN | {"Idempotency-Key": key} | more.pop("headers", {})
    answer = await given.client.request(method, path, headers=headers, **more)
    body = await promised(answer, method, pattern)
    return answer.status, body, "Idempotent-Replayed" in answer.headers


async def runs(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT job, state FROM service.job_run ORDER BY id")
    return [(row["job"], row["state"]) for row in rows]


@asynccontextmanager
async def held(dsn: str) -> AsyncIterator[None]:
    """Runs of reminders get as far as their first page, and no further."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_HELD)
    try:
        yield
    finally:
        await connection.close()


@asynccontextmanager
async def process(dsn: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The API in a process of its own, and its address."""
    started = await spawn(
        sys.executable, "-m", "tests.web.acting_worker", dsn, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started, await line(started)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def line(started: asyncio.subprocess.Process) -> str:
    assert started.stdout
    async with asyncio.timeout(90):
        return (await started.stdout.readline()).decode().strip()


async def comes(pool: asyncpg.Pool, sql: str) -> None:
    """Wait until a query has a row."""
    async with asyncio.timeout(90):
        while not await pool.fetch(sql):
            await asyncio.sleep(0.02)


_RUNNING = "SELECT 1 FROM service.job_run WHERE state = 'running'"


@pytest.mark.parametrize(("wait", "status"), [(True, 200), (False, 202)])
async def test_a_run_is_asked_for_once(given: Console, *, wait: bool, status: int) -> None:
    first = await ask(given, RUN, json=JOB | {"wait": wait})
    await given.runner.run_one()
    again = await ask(given, RUN, json=JOB | {"wait": wait})

    assert first[0] == status
    assert again == (*first[:2], True)
    assert await runs(given.world.pool) == [(GOALS, "succeeded")]
    told = [(who, act, what["run"]) for who, act, what in await given.audit()]
    assert told == [("admin", "run", first[1]["runId"])]
    assert (await ask(given, RUN, json=JOB | {"wait": not wait}))[0] == 409


async def test_a_run_that_failed_is_told_alike_again(given: Console) -> None:
    await given.world.pool.execute("ALTER TABLE service.delivery ADD CHECK (user_id <> 'ann')")
    first = await ask(given, RUN, json=JOB)

    assert (first[0], first[1]["state"]) == (500, "failed")
    assert await ask(given, RUN, json=JOB) == (*first[:2], True)
    assert len(await given.audit()) == len(await runs(given.world.pool)) == 1


async def test_what_was_refused_leaves_no_run_no_trace_and_the_key_free(given: Console, dsn: str) -> None:
    assert (await ask(given, RUN, json=JOB | {"asOf": "2026-04-01T09:00:00Z"}))[0] == 400
    assert (await ask(given, RUN, json=JOB | {"jobName": "x"}))[0] == 404
    async with held(dsn):
        other = asyncio.ensure_future(given.manager.run_job("reminder", "goalDeadlines"))
        await comes(given.world.pool, _RUNNING)
        assert (await ask(given, RUN, json=JOB))[0] == 409
    await other
    assert await runs(given.world.pool) == [(GOALS, "succeeded")]
    assert await given.audit() == []
    assert (await ask(given, RUN, json=JOB))[0] == 200


async def test_whoever_asks_meanwhile_is_told_which_run_it_is(given: Console, dsn: str) -> None:
    async with held(dsn):
        first = asyncio.ensure_future(ask(given, RUN, json=JOB))
        await comes(given.world.pool, _RUNNING)
        status, body, _ = await ask(given, RUN, json=JOB)
    ended = await first

    assert (status, body["runId"], body["state"]) == (409, ended[1]["runId"], "running")
    assert "ask again" in body["error"]
    assert await ask(given, RUN, json=JOB) == (*ended[:2], True)


async def test_a_run_whose_process_was_killed_is_found_and_not_doubled(given: Console, dsn: str) -> None:
    pool = given.world.pool
    async with process(dsn) as (other, address), held(dsn), aiohttp.ClientSession(address) as client:
        headers = ADMIN | {"Idempotency-Key": "k"}
        asked = asyncio.ensure_future(client.post(RUN, json=JOB, headers=headers))
        await comes(pool, _RUNNING)
        other.kill()
        await other.wait()
        await asyncio.wait([asked])
        assert asked.exception()
        status, body, _ = await ask(given, RUN, json=JOB)
        assert (status, body["state"]) == (409, "running")
    await pool.execute("UPDATE service.job_run SET lease_until = '2026-03-10T07:00:00Z'")
    assert await given.runner.run_one()

    status, found, again = await ask(given, RUN, json=JOB)

    assert (status, found["runId"], found["state"], again) == (200, body["runId"], "succeeded", True)
    assert found["counts"]["planned"] == 2
    assert await ask(given, RUN, json=JOB) == (status, found, True)
    assert await runs(pool) == [(GOALS, "succeeded")]
    assert [act for _, act, _ in await given.audit()] == ["run"]


async def test_a_rehearsal_acts_on_nothing_and_takes_no_key(given: Console) -> None:
    assert (await ask(given, RUN, json=JOB | {"dryRun": True}))[0] == 200
    assert await given.audit() == []
    assert await runs(given.world.pool) == []
    assert not (await ask(given, RUN, json=JOB))[2]


# ── What is done elsewhere ──────────────────────────────────────────────────────────────────────────────────

SEND = "/api/admin/test-send"
TO_ME = JOB | {"to": "me@example.org"}


class Slow(Scripted):
    """A mail server that thinks about it until it may answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def send_one(self, envelope: Envelope) -> SendResult:
        self.asked.set()
        await self.may.wait()
        return await super().send_one(envelope)


async def test_a_test_mail_leaves_once_and_meanwhile_its_key_is_taken(world: World) -> None:
    await people(world)
    slow = Slow()
    async with console(world, transport=slow) as given:
        first = asyncio.ensure_future(ask(given, SEND, json=TO_ME))
        await slow.asked.wait()
        status, body, _ = await ask(given, SEND, json=TO_ME)
        assert (status, "ask again" in body["error"]) == (409, True)
        slow.may.set()

        status, body, again = await first
        assert (status, again) == (200, False)
        assert await ask(given, SEND, json=TO_ME) == (200, body, True)
        assert len(slow.received) == len(await given.audit()) == 1
        assert (await ask(given, SEND, json=TO_ME | {"to": "you@example.org"}))[0] == 409


async def test_many_acts_in_steps_at_once_leave_connections_for_each_other(world: World) -> None:
    await people(world)
    async with console(world) as given, asyncio.timeout(90):
        await asyncio.gather(*(ask(given, SEND, f"k{n}", json=TO_ME) for n in range(30)))
        assert len(await given.audit()) == 30


async def test_nobody_knows_what_a_killed_process_had_sent_so_it_is_not_sent_again(
    given: Console, dsn: str
) -> None:
    async with process(dsn) as (other, address), aiohttp.ClientSession(address) as client:
        headers = ADMIN | {"Idempotency-Key": "k"}
        asked = asyncio.ensure_future(client.post(SEND, json=TO_ME, headers=headers))
        assert await line(other) == "sending"
        assert "ask again" in (await ask(given, SEND, json=TO_ME))[1]["error"]
        other.kill()
        await other.wait()
        await asyncio.wait([asked])
        assert asked.exception()
    assert "ask again" in (await ask(given, SEND, json=TO_ME))[1]["error"]
    await given.world.pool.execute("UPDATE service.lease SET until = service.now() - interval '1 second'")
    status, body, _ = await ask(given, SEND, json=TO_ME)
    assert (status, "new Idempotency-Key" in body["error"]) == (409, True)
    assert (await ask(given, SEND, "k2", json=TO_ME))[0] == 200
    await given.world.at("2026-03-11T08:00:01Z")
    assert (await ask(given, SEND, json=TO_ME))[::2] == (200, False)


async def test_a_mail_that_was_refused_stays_so_and_a_question_without_answer_may_be_asked_again(
    world: World,
) -> None:
    await people(world)
    server = Scripted(lambda envelope: refused(envelope, SmtpPhase.RCPT, 550, "5.1.1 no such user"))
    async with console(world, transport=server) as given:
        first = await ask(given, SEND, json=TO_ME)
        server.answer = accepted
        assert first[0] == 502
        assert await ask(given, SEND, json=TO_ME) == (*first[:2], True)
        nothing = TO_ME | {"userId": "cleo"}
        assert (await ask(given, SEND, "k2", json=nothing))[0] == 409
        await world.live(goal("g3", "cleo", due="2026-03-11"))
        assert (await ask(given, SEND, "k2", json=nothing))[::2] == (200, False)


async def test_a_restart_that_died_may_be_repeated(given: Console) -> None:
    job_type = {"jobType": "reminder"}
    first = await ask(given, RESTART, json=job_type)
    again = await ask(given, RESTART, json=job_type)
    assert again == (*first[:2], True)
    assert await given.audit() == [("admin", "restart", job_type)]

    await given.world.pool.execute("UPDATE service.idempotency SET status = NULL, answer = NULL")
    assert (await ask(given, RESTART, json=job_type))[::2] == (200, False)
    assert (await ask(given, RESTART, "k2", json={"jobType": "x"}))[0] == 404
    assert (await ask(given, RESTART, "k2", json=job_type))[0] == 200


async def test_an_erasure_is_one_act_and_its_archive_may_follow_later(world: World, tmp_path: Path) -> None:
    await people(world)
    data = "/api/admin/users/{id}/data"

    class Damaged(Archive):
        async def rewrite(self) -> None:
            raise ArchiveDamaged("a file is damaged")

    archive = Damaged(world.pool, tmp_path, cast("Any", None))
    async with console(world, people=PersonalData(world.pool, archive)) as given:
        first = await ask(given, data, method="DELETE", path=data.format(id="ann"))
        again = await ask(given, data, method="DELETE", path=data.format(id="ann"))

        assert (first[0], again) == (500, (*first[:2], True))
        assert [(who, act) for who, act, _ in await given.audit()] == [("admin", "erase")]
        assert not await world.pool.fetchval("SELECT count(*) FROM service.users WHERE id = 'ann'")
