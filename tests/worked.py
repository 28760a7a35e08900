"""A console after a week of work: slots of every fate, messages in every state, and some trouble."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.engine.run import RunRequest
from service.web.console.jobs.calendar import clock_of, upcoming
from tests.web.console.consoles import Console

WEEK = timedelta(days=7)
VITALS = {
    "rssBytes": 84_000_000, "cpuPercent": 1.4, "loopLagMs": {"p50": 0.31, "p95": 1.2, "p99": 6.4},
    "poolSize": 10, "poolBusy": 2, "postgresPingMs": 0.62, "dashboardPingMs": 1.9,
    "requests": 1840, "errors": 0,
}  # fmt: skip
TRACEBACK = """Traceback (most recent call last):
  File "service/engine/runner.py", line 391, in _page
    applied = await self._decide(reading, job, tick, page, now)
  File "service/jobs/daily_check/__init__.py", line 74, in read
    async for page in pages(connection, _SQL["people"], tick, cursor):
asyncpg.exceptions.QueryCanceledError: canceling statement due to statement timeout
"""
PAGES = {
    "console_overview": "/console",
    "console_jobs": "/console/jobs",
    "console_job": "/console/jobs/reminder/goalDeadlines",
    "console_job_paused": "/console/jobs/reminder/breakReminders",
    "console_job_analytics": "/console/jobs/analytics/dailyAnalytics",
    "console_run": "/console/runs/{done}",
    "console_run_running": "/console/runs/{running}",
    "console_run_failed": "/console/runs/{failed}",
    "console_messages": "/console/messages",
    "console_messages_failed": "/console/messages?state=failed&job=reminder.dailyCheck",
    "console_messages_unconfirmed": "/console/messages?state=unconfirmed",
    "console_message": "/console/messages/{mail}",
    "console_message_unconfirmed": "/console/messages/{unconfirmed}",
    "console_notification": "/console/messages/{note}",
    "console_suppressions": "/console/suppressions",
    "console_people": "/console/people?person=u00",
    "console_person": "/console/people/{person}?job=dailyCheck&at=2026-03-21",
}
"""Pages that have something to show then, by name; their addresses are completed from a ``Week``."""
_FATES = {"missed": "too late", "failed": None, "partial": None}
_SECONDS = {"reminder": 4.0, "analytics": 11.0}


@dataclass(frozen=True, slots=True)
class Week:
    """What there is to look at: runs, messages and a person, by id."""

    done: int
    running: int
    failed: int
    mail: int
    note: int
    unconfirmed: int
    person: str


async def week(given: Console) -> Week:
    """Seven days of slots, today's messages, one run under way and one that failed."""
    pool, manager = given.world.pool, given.manager
    now: datetime = await pool.fetchval("SELECT service.now()")
    await _slots(given, now)
    for name, vitals in (
        ("jobs-1", VITALS),
        ("jobs-2", VITALS | {"rssBytes": 79_000_000, "cpuPercent": 0.9}),
    ):
        await pool.execute(
            "INSERT INTO service.replica (name, version, started_at, seen_at, vitals)"
            " VALUES ($1, '1.0.0', $2::timestamptz - interval '9 days', $2 - interval '4 seconds', $3)",
            name,
            now,
            vitals,
        )
    await manager.run_job("reminder", "goalDeadlines")
    done = await manager.run_job("reminder", "dailyCheck", RunRequest(as_of=now - timedelta(days=1)))
    await _messages(given)
    await manager.pause("reminder", "breakReminders", "Jo (admin)", "Too many", now + timedelta(days=2))
    await manager.schedule_once("analytics", "dailyAnalytics", timedelta(hours=5))
    running = await manager.run_job("reminder", "weeklyReview", RunRequest(wait=False))
    await pool.execute(
        "UPDATE service.job_run SET state = 'running', owner = 'jobs-1', attempt = 1, epoch = 1,"
        " total = 240, done = 148, lease_until = $2::timestamptz + interval '40 seconds',"
        " nominal_at = $2 - interval '19 seconds', started_at = $2 - interval '18 seconds',"
        ' counts = \'{"planned": 97, "in_app": 120}\' WHERE id = $1',
        running.run_id,
        now,
    )
    failed = await _failed(given)
    # The clock stands still: what ran now took no time.
    await pool.execute(
        "UPDATE service.job_run SET started_at = started_at - interval '3.4 seconds',"
        " nominal_at = nominal_at - interval '3.5 seconds' WHERE finished_at = started_at"
    )
    await pool.execute("INSERT INTO service.alert (name, detail) VALUES ('slow', 'Answers take 900 ms.')")
    ids = {
        name: await pool.fetchval(f"SELECT min(id) FROM service.delivery_with_state WHERE {what}")
        for name, what in {
            "mail": "channel = 'email' AND state = 'sent'",
            "note": "channel = 'in_app'",
            "unconfirmed": "state = 'unconfirmed'",
        }.items()
    }
    person = await pool.fetchval("SELECT user_id FROM service.delivery_with_state WHERE id = $1", ids["mail"])
    assert done.run_id
    assert running.run_id
    return Week(done=done.run_id, running=running.run_id, failed=failed, person=person, **ids)


async def _slots(given: Console, now: datetime) -> None:
    dice, rows = random.Random(3), []
    for row in await given.world.pool.fetch("SELECT job, cron, mode FROM service.job_def ORDER BY job"):
        job = given.world.jobs[row["job"]]
        places = await given.manager.places()
        clock = clock_of(row["cron"], row["mode"], job, places, given.zone)
        slots = upcoming(clock, now - WEEK, now - timedelta(minutes=5))
        rows += [_slot(row["job"], at, dice) for at in slots if at.minute % 60 == 0]
    await given.world.pool.executemany(
        "INSERT INTO service.job_run (job, trigger, nominal_at, state, reason, not_before, attempt,"
        " done, counts, created_at, started_at, finished_at)"
        " VALUES ($1, 'cron', $2, $3, $4, $2, 1, $5, $6, $2, $7, $8)",
        rows,
    )
    await given.world.pool.execute("UPDATE service.job_def SET materialized_through = $1", now)


def _slot(job: str, at: datetime, dice: random.Random) -> tuple[Any, ...]:
    state = dice.choice([*_FATES]) if dice.random() < 0.01 else "succeeded"
    if state == "missed":
        return job, at, state, _FATES[state], 0, {}, None, at + timedelta(hours=2)
    begun = at + timedelta(seconds=dice.uniform(0.2, 2))
    took = timedelta(seconds=_SECONDS[job.partition(".")[0]] * dice.uniform(0.5, 1.6))
    counts = {"planned": dice.randrange(40), "in_app": dice.randrange(60)} if job.startswith("rem") else {}
    return job, at, state, None, dice.randrange(80, 240), counts, begun, begun + took


async def _messages(given: Console) -> None:
    """Most have been sent; of the others one of each kind."""
    pool = given.world.pool
    await pool.execute(
        "UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'sent', attempt = 1,"
        " dot_at = not_before, smtp_code = 250, smtp_reply = '2.0.0 Ok: queued',"
        " settled_at = not_before + interval '3 seconds'"
    )
    mails = [row["id"] for row in await pool.fetch(
        "SELECT id FROM service.delivery_with_state WHERE channel = 'email' ORDER BY id")]  # fmt: skip
    changes = {
        "state = 'failed', reason = 'smtp_451', attempt = 5, smtp_code = 451,"
        " smtp_reply = '4.3.2 Try later'": 4,
        "state = 'unconfirmed', reason = 'the sender died after the final dot was due', smtp_code = NULL,"
        " smtp_reply = NULL, settled_at = NULL": 2,
        "state = 'bounced', smtp_code = 550, smtp_reply = '5.1.1 No such user'": 1,
        "state = 'planned', claim = NULL, settled_at = NULL, dot_at = NULL, attempt = 0, smtp_code = NULL": 2,
    }
    last = len(mails)
    for change, n in changes.items():
        if last - n < 1:
            break
        last -= n
        await pool.execute(
            f"UPDATE service.delivery_state SET {change} WHERE id = ANY ($1)", mails[last : last + n]
        )


async def _failed(given: Console) -> int:
    """A run that was tried twice in vain."""
    asked = await given.manager.run_job("reminder", "monthlyReport", RunRequest(wait=False))
    for _ in range(2):
        run = await given.ledger.claim()
        assert run is not None
        assert run.id == asked.run_id
        await given.ledger.retry_later(run, timedelta(0), TRACEBACK)
    await given.world.pool.execute(
        "UPDATE service.job_run SET state = 'dead', reason = 'attempts exhausted',"
        " finished_at = service.now() WHERE id = $1",
        asked.run_id,
    )
    assert asked.run_id
    return asked.run_id
