"""A run in detail, and its progress as it happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from service.engine.ledger import Ledger, Run
from service.engine.run import RunState, Trigger
from service.jobs import all_jobs
from service.manager import JobManager
from service.web import AdminDeps, build_app
from service.web.api.run_events import FEED, RunFeed
from tests.given import GOALS, World
from tests.web.contract import promised
from tests.web.given import ADMIN, DASHBOARD, TOKENS, VIEWER, Admin, admin
from tests.web.parts import web_parts

RUN, EVENTS = "/api/admin/runs/{id}", "/api/admin/runs/{id}/events"


@pytest.fixture
async def given(pool: asyncpg.Pool) -> AsyncIterator[Admin]:
    async with admin(pool) as given:
        yield given


async def started(ledger: Ledger) -> Run:
    run = await ledger.claim_requested(await ledger.request(GOALS, Trigger.MANUAL))
    assert run is not None
    return run


async def advanced(ledger: Ledger, run: Run, cursor: str, done: int) -> None:
    async with ledger.step(run) as connection:
        await ledger.advance(connection, run, cursor, done, {"planned": done})


async def detail(given: Admin, run: int, headers: dict[str, str] = ADMIN) -> Any:
    answer = await given.client.get(RUN.format(id=run), headers=headers)
    return (await promised(answer, "GET", RUN))["data"]


def feed(given: Admin) -> RunFeed:
    assert given.client.app is not None
    found: RunFeed = given.client.app[FEED]
    return found


async def watch(given: Admin, run: int, headers: dict[str, str] = VIEWER) -> ClientResponse:
    answer = await given.client.get(EVENTS.format(id=run), headers=headers)
    assert answer.status == 200
    assert answer.content_type == "text/event-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer


async def event(answer: ClientResponse) -> tuple[str, dict[str, Any]]:
    """The next event; comments and the like are passed over."""
    told: dict[str, str] = {}
    async with asyncio.timeout(60):
        while line := (await answer.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name in {"event", "data"}:
                told[name] = value
            elif not line.strip() and told:
                return told["event"], json.loads(told["data"])
    raise AssertionError("the stream ended")


async def test_every_attempt_is_told_with_its_process_its_end_and_its_traceback(given: Admin) -> None:
    first = await started(given.ledger)
    await given.ledger.retry_later(first, timedelta(0), "Traceback …\nOSError: away")
    other = Ledger(given.pool, "other", timedelta(seconds=30))
    other._definitions = given.ledger._definitions
    second = await other.claim()
    assert second is not None
    await given.pool.execute("UPDATE service.job_run SET lease_until = now() - interval '1 second'")
    third = await given.ledger.claim()
    assert third is not None
    await given.ledger.finish(third, RunState.FAILED, error="Traceback …\nKeyError: 'ann'")

    run = await detail(given, first.id)
    assert [(a["process"], a["state"], a["error"]) for a in run["attempts"]] == [
        ("test", "pending", "OSError: away"),
        ("other", "lost", None),
        ("test", "failed", "KeyError: 'ann'"),
    ]
    assert run["attempts"][0]["traceback"] == "Traceback …\nOSError: away"
    assert run["traceback"] == "Traceback …\nKeyError: 'ann'"
    assert all(a["endedAt"] for a in run["attempts"])
    shown = await detail(given, first.id, VIEWER)
    assert shown["error"] == "KeyError: 'ann'"
    assert {shown["traceback"], *(a["traceback"] for a in shown["attempts"])} == {None}


async def test_a_heartbeat_is_no_attempt(given: Admin) -> None:
    run = await started(given.ledger)
    await given.ledger.heartbeat(run)
    await advanced(given.ledger, run, "a", 1)
    assert [(a["state"], a["endedAt"]) for a in (await detail(given, run.id))["attempts"]] == [
        ("running", None)
    ]


async def test_each_change_of_a_run_is_an_event_and_its_end_ends_the_stream(given: Admin) -> None:
    run = await started(given.ledger)
    answer = await watch(given, run.id)

    name, told = await event(answer)
    assert (name, told["state"], told["done"]) == ("progress", "running", 0)
    await advanced(given.ledger, run, "a", 1000)
    name, told = await event(answer)
    assert (name, told["done"], told["counts"]) == ("progress", 1000, {"planned": 1000})
    await given.ledger.finish(run, RunState.SUCCEEDED)
    name, told = await event(answer)
    assert (name, told["state"], told["id"]) == ("end", "succeeded", run.id)
    async with asyncio.timeout(60):
        assert await answer.content.read() == b""
    assert feed(given).topics == {}


async def test_a_run_that_is_over_is_told_at_once(given: Admin) -> None:
    run = await started(given.ledger)
    await given.ledger.finish(run, RunState.FAILED, error="x")
    assert (await event(await watch(given, run.id)))[0] == "end"
    unknown = await given.client.get(EVENTS.format(id=999), headers=VIEWER)
    await promised(unknown, "GET", EVENTS)
    assert unknown.status == 404
    assert (await given.client.get(EVENTS.format(id=run.id), headers=DASHBOARD)).status == 403


async def test_many_clients_share_one_poller(given: Admin) -> None:
    run = await started(given.ledger)
    looks, under_way = 0, 0

    async def look(run_id: int) -> dict[str, Any] | None:
        nonlocal looks, under_way
        looks += 1
        under_way += 1
        assert under_way == 1
        try:
            return await given.manager.progress(run_id)
        finally:
            under_way -= 1

    feed(given)._read_run = look
    answers = await asyncio.gather(*(watch(given, run.id) for _ in range(21)))

    assert {(await event(answer))[1]["done"] for answer in answers} == {0}
    assert [(topic.readers, topic.version) for topic in feed(given).topics.values()] == [(21, 1)]
    await advanced(given.ledger, run, "a", 5)
    assert {(await event(answer))[1]["done"] for answer in answers} == {5}
    await given.ledger.finish(run, RunState.SUCCEEDED)
    assert {(await event(answer))[0] for answer in answers} == {"end"}
    assert looks >= 2


async def test_a_database_that_is_away_for_a_while_breaks_no_stream(given: Admin) -> None:
    run = await started(given.ledger)
    answer = await watch(given, run.id)
    await event(answer)
    failed = asyncio.Event()

    async def away(_run_id: int) -> dict[str, Any] | None:
        failed.set()
        raise OSError

    look, feed(given)._read_run = feed(given)._read_run, away
    async with asyncio.timeout(60):
        await failed.wait()
    feed(given)._read_run = look
    await given.ledger.finish(run, RunState.SUCCEEDED)
    assert (await event(answer))[0] == "end"


async def test_a_quiet_stream_is_kept_open_and_a_stop_ends_it(given: Admin) -> None:
    run = await started(given.ledger)
    feed(given).keepalive = 0.01
    answer = await watch(given, run.id)
    await event(answer)
    async with asyncio.timeout(60):
        assert await answer.content.readline() == b": still here\n"
    await feed(given).close()
    async with asyncio.timeout(60):
        rest = await answer.content.read()
    assert b"event" not in rest


async def test_a_dry_run_that_cannot_run_says_why(pool: asyncpg.Pool) -> None:
    """Nothing broke: the week waits for its days."""
    world, path = World(pool), "/api/admin/jobs/run"
    ledger, runner = await world.ledger(), await world.runner()
    manager = JobManager(pool, ledger, runner, all_jobs())
    parts = web_parts(pool, ledger, runner)
    app = build_app(AdminDeps(pool, manager, TOKENS, True, CollectorRegistry(), **parts))
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        asked = {"jobType": "analytics", "jobName": "weeklyAggregation", "dryRun": True}
        answer = await client.post(path, headers=ADMIN, json=asked)
        body = await promised(answer, "POST", path)

    assert answer.status == 409
    assert body["error"].startswith("waits for dailyAnalytics of ")
    assert (body["success"], body["state"], body["runId"]) == (False, "failed", None)
