"""The page of a run: how far it has come, whom it left out, what went wrong, and stopping it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientResponse

from service.engine.run import RunRequest
from service.web.console.runs.progress import progress
from tests.given import World
from tests.web.console.consoles import Console, console, people


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


async def started(given: Console) -> int:
    """A run that waits for a runner."""
    result = await given.manager.run_job("reminder", "goalDeadlines", RunRequest(wait=False))
    assert result.run_id
    return result.run_id


async def test_a_run_is_watched_until_it_ends(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        run = await started(given)
        path = f"/console/runs/{run}"
        page = await given.read(path)
        assert '<span class="state busy">pending</span>' in page
        assert f'sse-connect="/console/runs/{run}/events"' in page
        assert "htmx.min.js" in page

        assert await given.runner.run_one()
        page = await given.read(path)

    assert '<span class="state good">succeeded</span>' in page
    assert "sse-connect" not in page
    assert "<script" not in page
    assert '<th scope="row">Mails planned</th><td class="n">2</td>' in page
    assert "state=planned" in page
    assert "<dt>Attempt</dt><dd>1 of 5</dd>" in page


async def event(answer: ClientResponse) -> tuple[str, str]:
    """The next event: its name and its data, with runs of space made one."""
    name, lines = "", []
    async with asyncio.timeout(60):
        while line := (await answer.content.readline()).decode():
            if line.startswith("event: "):
                name = line.removeprefix("event: ").strip()
            elif line.startswith("data: "):
                lines.append(line.removeprefix("data: "))
            elif not line.strip() and lines:
                return name, " ".join("".join(lines).split())
    raise AssertionError("the stream ended")


async def test_each_step_of_a_run_comes_to_its_page(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        run = await started(given)
        path = f"/console/runs/{run}/events"
        async with given.client.get(path) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            name, html = await event(answer)
            assert name == "progress"
            assert '<span class="state busy">pending</span>' in html
            assert 'id="cancel"' in html
            assert "<html" not in html
            assert await given.runner.run_one()
            while name != "end":
                name, html = await event(answer)
            assert '<span class="state good">succeeded</span>' in html
            assert '<th scope="row">Mails planned</th><td class="n">2</td>' in html
            assert 'id="cancel"' not in html
            assert not await answer.content.read()
        # Whoever comes later gets the end at once.
        async with given.client.get(path) as answer:
            assert (await event(answer))[0] == "end"


async def test_the_steps_of_a_run_are_for_operators_and_hide_tracebacks_from_viewers(world: World) -> None:
    await people(world)
    async with console(world) as given:
        run = await started(given)
        path = f"/console/runs/{run}/events"
        await given.read(path, 303)
        await given.sign_in("the-viewer")
        await given.read("/console/runs/4711/events", 404)
        await world.pool.execute(
            "UPDATE service.job_run SET state = 'failed', error = $2 WHERE id = $1",
            run,
            "of Ann\nValueError: no",
        )
        async with given.client.get(path) as answer:
            _, html = await event(answer)
        assert "ValueError: no" in html
        assert "of Ann" not in html
        assert "Cancel" not in html


async def test_every_attempt_is_told_with_its_traceback(world: World) -> None:
    await people(world)
    async with console(world) as given:
        run = await started(given)
        first = await given.ledger.claim()
        assert first
        await given.ledger.retry_later(first, timedelta(0), "of Ann\nOSError: away")
        assert await given.runner.run_one()
        for token, shown in (("the-viewer", False), ("the-admin", True)):
            await given.sign_in(token)
            page = await given.read(f"/console/runs/{run}")
            assert '<h2 id="attempts">Attempts</h2>' in page
            assert "OSError: away" in page
            assert ("of Ann" in page) == shown
            assert page.count("by test") + page.count(f"by {given.ledger.owner}") >= 2


async def test_whoever_was_left_out_is_named_by_reason(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        run = await started(given)
        await given.runner.run_one()
        await world.pool.execute(
            "INSERT INTO service.decision (run_id, user_id, job, local_date, reason, detail)"
            " VALUES ($1, 'a/b?c', 'reminder.goalDeadlines', '2026-03-10', 'no_email', 'There is none.')",
            run,
        )
        page = await given.read(f"/console/runs/{run}?reason=no_email")
    assert f'href="/console/runs/{run}?reason=no_email#left" aria-current="true">no email</a>' in page
    assert 'href="/console/people/a%2Fb%3Fc?job=goalDeadlines">a/b?c</a>' in page
    assert "There is none." in page


async def test_progress_and_the_end_are_foreseen(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        run = await started(given)
        await world.pool.execute(
            "UPDATE service.job_run SET state = 'running', done = 1, attempt = 2,"
            " started_at = service.now() - interval '10 seconds' WHERE id = $1",
            run,
        )
        page = await given.read(f"/console/runs/{run}")
    assert '<progress max="100" value="33"' in page
    assert "1 of about 3 looked at, one in 10 s; ends in about 20 s" in page
    assert "2 of 5" in page


async def test_a_traceback_is_for_admins(world: World) -> None:
    await people(world)
    async with console(world) as given:
        run = await started(given)
        await world.pool.execute(
            "UPDATE service.job_run SET state = 'failed', error = $2 WHERE id = $1",
            run,
            "Traceback:\n  goal <b>of Ann</b>\nValueError: no",
        )
        await given.sign_in("the-viewer")
        page = await given.read(f"/console/runs/{run}")
        assert "ValueError: no" in page
        assert "of Ann" not in page
        await given.sign_in()
        assert "goal &lt;b&gt;of Ann&lt;/b&gt;" in await given.read(f"/console/runs/{run}")


async def test_a_run_is_cancelled_once_and_by_admins_only(world: World) -> None:
    await people(world)
    async with console(world) as given:
        run = await started(given)
        path = f"/console/runs/{run}"
        await given.sign_in("the-viewer")
        assert "cancel" not in (await given.read(path)).lower()
        await given.act(f"{path}/cancel", 403, path)
        await given.sign_in()
        await given.act(f"{path}/cancel", 303, path)
        assert await world.pool.fetchval("SELECT state FROM service.job_run") == "cancelled"
        _, page = await given.act(f"{path}/cancel", 409, path)
        assert "has ended already" in page
        assert await given.audit() == [("admin", "cancel-run", {"run": run})]
        for unknown in ("4711", "x"):
            await given.read(f"/console/runs/{unknown}", 404)


# ── Pure ────────────────────────────────────────────────────────────────────────────────────────────────────

_NOW = datetime(2026, 3, 10, 9, tzinfo=UTC)


def row(**changes: Any) -> dict[str, Any]:
    values = {"state": "running", "done": 50, "started_at": _NOW - timedelta(seconds=10), "finished_at": None}
    return {**values, **changes}


@pytest.mark.parametrize(
    ("run", "expected", "percent", "left", "pace"),
    [
        (row(), 200, 25, 30, "5 a second"),
        (row(), None, None, None, "5 a second"),
        (row(done=0), 200, 0, None, "none yet"),
        (row(done=500), 200, 99, None, "50 a second"),
        (row(started_at=None), 200, 25, None, "none yet"),
        (row(started_at=_NOW), 200, 25, None, "none yet"),
        (row(state="succeeded", finished_at=_NOW - timedelta(seconds=5)), 50, 99, None, "10 a second"),
        (row(done=4), 4, 99, None, "one in 2.5 s"),
    ],
)
def test_what_is_left(
    run: dict[str, Any], expected: int | None, percent: int | None, left: int | None, pace: str
) -> None:
    found = progress(run, expected, _NOW)
    assert (found.percent, found.pace) == (percent, pace)
    assert found.remaining == (timedelta(seconds=left) if left else None)
