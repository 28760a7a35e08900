"""A slot that failed stays red, whatever runs after it, until somebody retries it or waives it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.engine import schema
from service.engine.ledger import Run
from service.engine.run import RunRequest, RunState, Tick, Trigger
from service.errors import LeaseLost
from service.jobs import goal_deadlines
from service.messages.decision import Decision
from service.messages.reminder import FactsPage
from tests.conftest import with_database
from tests.given import GOALS, World, goal, user
from tests.web.console.consoles import Console, console
from tests.web.contract import promised
from tests.web.given import ADMIN

HEALTH, RUN = "/api/admin/jobs/health", "/api/admin/runs/{id}"
NIGHT, NINE, TEN, NEXT = (f"2026-03-{when}:00Z" for when in ("10T00:00", "10T08:00", "10T09:00", "11T08:00"))
"""Nine in Berlin is eight in UTC; a deadline reminder is useful until eight in the evening there."""
LATE = "2026-03-10T19:00:01Z"
PEOPLE = [f"u{n}" for n in range(10)]


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


@pytest.fixture
async def given(world: World) -> AsyncIterator[Console]:
    """The night before ten people in Berlin are told of a goal each."""
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at(NIGHT)
    await world.live(*map(user, PEOPLE), *(goal(f"g-{name}", name, "2026-03-11") for name in PEOPLE))
    async with console(world) as opened:
        yield opened


async def at(given: Console, instant: str) -> None:
    """The loops of the service look at this moment."""
    await given.world.at(instant)
    await given.trigger.sweep_once()
    await given.ledger.beat_replica("1", {})


def broken(given: Console, **changes: Any) -> None:
    """Let the job be broken like this."""
    repaired = given.world.jobs[GOALS]
    given.runner._jobs = {GOALS: replace(repaired, **changes)}


def repair(given: Console) -> None:
    given.runner._jobs = given.world.jobs


async def _type_error(_connection: Any, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
    raise TypeError("unsupported operand")
    yield FactsPage([], "", 0)


async def _syntax_error(connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
    await connection.fetch("SELEKT 1")
    yield FactsPage([], "", 0)


async def _no_column(connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
    await connection.fetch("SELECT nothing FROM service.users")
    yield FactsPage([], "", 0)


async def _wrong_type(connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
    await connection.fetch("SELECT 'x'::text::int")
    yield FactsPage([], "", 0)


async def _breaks_a_constraint(
    connection: asyncpg.Connection, _tick: Tick, _after: str
) -> AsyncIterator[FactsPage]:
    await connection.execute("INSERT INTO service.users (id) VALUES ('nobody')")
    yield FactsPage([], "", 0)


MISTAKES = {
    "TypeError": _type_error,
    "PostgresSyntaxError": _syntax_error,
    "UndefinedColumnError": _no_column,
    "InvalidTextRepresentationError": _wrong_type,
    "NotNullViolationError": _breaks_a_constraint,
}


async def nine(given: Console, read: Any = _type_error) -> Run:
    """The slot, failed."""
    broken(given, read=read)
    await at(given, NINE)
    run = await given.runner.run_one()
    assert run
    repair(given)
    return run


async def health(given: Console) -> tuple[int, list[str]]:
    """The status, and what is wrong with goalDeadlines."""
    answer = await given.client.get(HEALTH, headers=ADMIN)
    found = await promised(answer, "GET", HEALTH)
    return answer.status, found["checks"]["reminder"]["details"]["problems"].get("goalDeadlines", [])


async def act(given: Console, run: int, word: str, status: int, **body: str) -> Any:
    answer = await given.client.post(f"/api/admin/runs/{run}/{word}", headers=ADMIN, json=body or None)
    told = await promised(answer, "POST", f"{RUN}/{word}")
    assert answer.status == status, told
    return told


async def shown(given: Console, run: int) -> dict[str, Any]:
    found = await given.client.get(RUN.format(id=run), headers=ADMIN)
    return dict((await promised(found, "GET", RUN))["data"])


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_of_ours_fails_at_once_and_stays_red_whatever_runs_later(
    given: Console, mistake: str
) -> None:
    run = await nine(given, MISTAKES[mistake])
    assert (run.state, run.attempt) == (RunState.FAILED, 1)
    said = (await shown(given, run.id))["error"]
    assert f"{mistake}: " in said
    assert "DETAIL" not in said  # it may hold a row of somebody's

    await at(given, TEN)
    one = await given.manager.run_job("reminder", "goalDeadlines", RunRequest(user_id="u3"))
    assert (one.state, one.counts["planned"]) == ("succeeded", 1)
    status, problems = await health(given)

    assert status == 503
    assert problems == [
        "the slot 2026-03-10T08:00:00Z failed with about 10 people undecided; it is retried by itself"
        f" at 2026-03-10T08:01:00Z; retry it now or waive it: python -m service runs retry {run.id}"
    ]


async def test_a_retried_run_decides_the_rest_and_health_is_green(given: Console) -> None:
    run = await nine(given)
    await at(given, TEN)
    await given.manager.run_job("reminder", "goalDeadlines", RunRequest(user_id="u3"))

    await act(given, run.id, "retry", 202)
    waiting = await shown(given, run.id)
    ended = await given.runner.run_one()

    assert (waiting["state"], waiting["reason"], waiting["attempt"]) == ("pending", "retried by hand", 0)
    assert ended is not None
    assert (ended.id, ended.state, ended.done) == (run.id, RunState.SUCCEEDED, len(PEOPLE))
    assert sorted(await given.world.mails()) == PEOPLE
    assert await health(given) == (200, [])
    assert [one["state"] for one in (await shown(given, run.id))["attempts"]] == ["failed", "succeeded"]
    assert ("admin", "retry-run", {"run": run.id}) in await given.audit()


async def test_a_waived_run_stays_failed_and_is_red_no_more(given: Console) -> None:
    run = await nine(given)

    await act(given, run.id, "waive", 400)
    await act(given, run.id, "waive", 400, reason=" ")
    await act(given, run.id, "waive", 400, reason="x" * 501)
    await act(given, run.id, "waive", 200, reason="everybody was told by hand")

    assert await health(given) == (200, [])
    told = await shown(given, run.id)
    assert (told["state"], told["waivedBy"], told["waivedReason"]) == (
        "failed", "admin", "everybody was told by hand",
    )  # fmt: skip
    assert told["waivedAt"] == "2026-03-10T08:00:00Z"
    again = await act(given, run.id, "waive", 409, reason="x")
    assert again["error"] == "The run was waived already, by admin on 2026-03-10T08:00:00Z"
    # Whoever thinks better of it may.
    await act(given, run.id, "retry", 202)
    assert (await shown(given, run.id))["waivedAt"] is None


async def test_a_dead_run_goes_on_at_its_cursor(given: Console) -> None:
    run = await nine(given)
    await given.world.pool.execute(
        "UPDATE service.job_run SET state = 'dead', cursor = 'u5', done = 6, attempt = 5"
    )
    assert (await health(given))[1] == [
        "the slot 2026-03-10T08:00:00Z is dead with about 4 people undecided; it is retried by itself"
        f" at 2026-03-10T08:01:00Z; retry it now or waive it: python -m service runs retry {run.id}"
    ]

    await act(given, run.id, "retry", 202)
    ended = await given.runner.run_one()

    assert ended
    assert (ended.state, ended.attempt, ended.done) == (RunState.SUCCEEDED, 1, 10)
    assert sorted(await given.world.mails()) == PEOPLE[6:]


def _failing(*ids: str) -> Callable[[goal_deadlines.Facts, Tick], Decision]:
    def decide(facts: goal_deadlines.Facts, tick: Tick) -> Decision:
        if facts.user.id in ids:
            raise ZeroDivisionError(f"about {facts.user.id}")
        return goal_deadlines.decide(facts, tick)

    return decide


async def test_people_who_could_not_be_decided_are_decided_by_the_retry(given: Console) -> None:
    """They lie before the cursor."""
    broken(given, decide=_failing("u1", "u4", "u7"))
    await at(given, NINE)
    run = await given.runner.run_one()
    assert run
    assert (run.state, run.counts["user_error"]) == (RunState.FAILED, 3)
    repair(given)

    await act(given, run.id, "retry", 202)
    ended = await given.runner.run_one()

    assert ended
    assert (ended.state, ended.done) == (RunState.SUCCEEDED, 10)
    assert ended.counts == {"planned": 3, "in_app": 3, "already_sent": 7}
    assert set((await given.world.reasons()).values()) == {"already_sent"}
    assert sorted(await given.world.mails()) == PEOPLE


async def test_the_messages_of_a_late_reminder_would_be_stale(given: Console) -> None:
    run = await nine(given)
    await at(given, LATE)

    refused = await act(given, run.id, "retry", 409)

    assert refused["error"] == (
        "The run was useful until 2026-03-10T19:00:00Z: its messages would be stale; waive it instead"
    )
    assert (await shown(given, run.id))["state"] == "failed"
    assert (await health(given))[1] == [
        "the slot 2026-03-10T08:00:00Z failed with about 10 people undecided; its messages would be stale,"
        f" so waive it: python -m service runs waive {run.id} --reason …"
    ]


async def test_a_late_statistic_may_be_retried(world: World) -> None:
    async with console(world) as given:
        await world.at(NINE)
        await world.pool.execute(
            "INSERT INTO service.job_run (job, trigger, nominal_at, not_before, deadline_at, state)"
            " VALUES ('analytics.performanceMetrics', 'cron', $1, $1, $2, 'failed')",
            datetime.fromisoformat("2026-03-10T04:00:00Z"),
            datetime.fromisoformat("2026-03-10T04:10:00Z"),
        )
        run = await world.pool.fetchval("SELECT id FROM service.job_run")

        await act(given, run, "retry", 202)
        ended = await given.runner.run_one()

    assert ended
    assert (ended.id, ended.state) == (run, RunState.SUCCEEDED)


@pytest.mark.parametrize(
    "state", ["pending", "running", "succeeded", "partial", "skipped", "missed", "cancelled"]
)
async def test_only_what_failed_is_retried_or_waived(given: Console, state: str) -> None:
    run = await given.ledger.request(GOALS, Trigger.ONCE)
    await given.world.pool.execute("UPDATE service.job_run SET state = $1", state)
    stored = await given.world.pool.fetchrow("SELECT * FROM service.job_run")

    for word, body in (("retry", {}), ("waive", {"reason": "x"})):
        refused = await act(given, run.id, word, 409, **body)
        assert refused["error"].startswith(f"The run is {state}; only one that failed or is dead")
        await act(given, 999_999, word, 404, **body)

    assert await given.world.pool.fetchrow("SELECT * FROM service.job_run") == stored
    assert await given.audit() == []


async def test_two_who_retry_at_once_have_one_effect(given: Console) -> None:
    run = await nine(given)

    answers = await asyncio.gather(
        *(given.client.post(f"/api/admin/runs/{run.id}/retry", headers=ADMIN) for _ in range(6)),
        *(given.client.post(f"/api/admin/runs/{run.id}/waive", headers=ADMIN, json={"reason": "x"})
          for _ in range(6)),
    )  # fmt: skip

    assert sorted(answer.status for answer in answers).count(409) >= 10
    epoch = await given.world.pool.fetchval("SELECT epoch FROM service.job_run")
    retried = [answer for answer in answers[:6] if answer.status == 202]
    assert (len(retried), epoch) == (1, run.epoch + 1)


async def test_whoever_had_the_run_before_its_retry_writes_nothing(given: Console) -> None:
    await at(given, NINE)
    old = await given.ledger.claim()
    assert old
    await given.world.pool.execute("UPDATE service.job_run SET state = 'dead'")
    await act(given, old.id, "retry", 202)
    assert await given.ledger.claim()

    with pytest.raises(LeaseLost):
        async with given.ledger.step(old):
            pytest.fail("the zombie got through the fence")
    with suppress(LeaseLost):
        await given.ledger.finish(old, RunState.SUCCEEDED)
    assert await given.world.pool.fetchval("SELECT state FROM service.job_run") == "running"


async def test_many_failed_slots_are_counted_and_the_newest_are_named(given: Console) -> None:
    start = datetime.fromisoformat("2026-02-01T08:00:00Z")
    others = [(start, "once", "dead"), (start, "manual", "failed")]
    await given.world.pool.executemany(
        "INSERT INTO service.job_run (job, trigger, nominal_at, not_before, state)"
        " VALUES ($1, $3, $2, $2, $4)",
        [(GOALS, start + timedelta(days=n), "cron", "failed") for n in range(8)]
        + [(GOALS, *one) for one in others],
    )

    _, problems = await health(given)

    assert len(problems) == 3
    assert "2026-02-08T08:00:00Z" in problems[-1]
    assert problems[-1].endswith("(6 more of this job: runs list --state failed)")
    text = await (await given.client.get("/metrics")).text()
    assert 'jobs_unsettled_slots{job_name="reminder.goalDeadlines"} 9.0' in text


# ── Pages ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_overview_leads_to_the_run_and_its_page_settles_it(given: Console) -> None:
    run = await nine(given)
    await at(given, TEN)
    await given.manager.run_job("reminder", "goalDeadlines", RunRequest(user_id="u3"))
    await given.sign_in()
    page = f"/console/runs/{run.id}"

    told = await given.read("/console")
    assert "goalDeadlines: the slot 2026-03-10T08:00:00Z failed with about 10 people undecided." in told
    assert f'href="{page}">Retry it or waive it.</a>' in told
    assert '<h2 id="retry">Retry it</h2>' in await given.read(page)

    await given.act(f"{page}/retry", 303, page)
    again, _ = await given.act(f"{page}/retry", 409, page)
    assert again.status == 409
    await given.runner.run_one()
    assert 'id="retry"' not in await given.read(page)
    assert "<h1>All is well</h1>" in await given.read("/console")


async def test_it_is_waived_on_its_page_with_a_name_and_a_reason(given: Console) -> None:
    run = await nine(given)
    page = f"/console/runs/{run.id}"
    await given.sign_in("the-viewer")
    seen = await given.read(page)
    assert "until an admin retries or waives it" in seen
    assert "<form" not in seen.partition("<main")[2]
    await given.sign_in()

    await given.act(f"{page}/waive", 400, page, who="Zoe")
    await given.act(f"{page}/waive", 303, page, who="Zoe", reason="told <by> hand")

    assert "<b>Waived</b> by Zoe (admin)" in await given.read(page)
    assert "told &lt;by&gt; hand" in await given.read(page)
    assert "<h1>All is well</h1>" in await given.read("/console")
    assert await given.audit() == [
        ("Zoe (admin)", "waive-run", {"run": run.id, "job": GOALS, "reason": "told <by> hand"})
    ]


async def test_too_late_a_run_can_only_be_waived_on_its_page(given: Console) -> None:
    run = await nine(given)
    await at(given, LATE)
    await given.sign_in()

    page = await given.read(f"/console/runs/{run.id}")

    assert 'id="waive-it"' in page
    assert 'id="retry-it"' not in page
    assert "It is too late to retry it: waive it." in await given.read("/console")


# ── Old history ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_upgrade_is_not_red_for_failures_that_a_success_followed(postgres: str) -> None:
    name = "test_before_0017"
    server = await asyncpg.connect(postgres)
    await server.execute(f"DROP DATABASE IF EXISTS {name}")
    await server.execute(f"CREATE DATABASE {name}")
    connection = await asyncpg.connect(with_database(postgres, name))
    try:
        files = schema.files()
        for path in files:
            if path.stem < "0017":
                await connection.execute(path.read_text("utf-8"))
        await connection.execute(
            "INSERT INTO service.job_def (job, cron, mode, schedule_hash, timeout, max_attempts,"
            " materialized_through)"
            " SELECT job, '', 'utc', '', '1 h', 5, now() FROM unnest(ARRAY['a', 'b']) AS job"
        )
        await connection.executemany(
            "INSERT INTO service.job_run (job, trigger, nominal_at, not_before, state, finished_at)"
            " VALUES ($1, 'cron', $3, $3, $2, $3)",
            [
                (job, state, datetime.fromisoformat(f"2026-03-{day}T08:00:00Z"))
                for job, state, day in (
                    ("a", "failed", "01"), ("a", "dead", "02"), ("a", "partial", "03"), ("a", "failed", "04"),
                    ("b", "failed", "01"), ("b", "missed", "02"),
                )
            ],
        )  # fmt: skip
        for path in files:
            if path.stem >= "0017":
                await connection.execute(path.read_text("utf-8"))
        rows = await connection.fetch(
            "SELECT job, extract(day FROM nominal_at)::int AS day, waived_reason FROM service.job_run"
            " WHERE state IN ('failed', 'dead') ORDER BY job, nominal_at"
        )
    finally:
        await connection.close()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()

    waived = {(row["job"], row["day"]): row["waived_reason"] for row in rows}
    before = "before 0.1.1: a later run succeeded"
    assert waived == {("a", 1): before, ("a", 2): before, ("a", 4): None, ("b", 1): None}
