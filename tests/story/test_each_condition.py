"""Each condition is seen while its cause lasts, and over at the look after."""

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.app import Service, open_service
from service.dashboard.doubts import NOTHING_VISIBLE
from service.engine import gates
from service.engine.conditions import ConditionSeverity
from service.engine.gates import Cause, Scope
from service.errors import SchemaUnknown
from service.messages.relay import RelayRefusal
from service.settings import Settings
from tests.given import GOALS, World

NINE = "2026-03-10T09:00:00Z"
_RUN = """
INSERT INTO service.job_run (job, trigger, nominal_at, not_before, state, created_at, started_at, finished_at,
                             lease_until, epoch)
SELECT $1, $2, at, at, $3, at, at, CASE WHEN $3 IN ('failed', 'succeeded') THEN at END,
       at + interval '1 minute', 7
FROM (SELECT service.now() - make_interval(mins => $4) AS at) AS t
"""


class Stand:
    """The whole service without its loops, and what may be wrong with it."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def sql(self, statement: str) -> None:
        await self.service.pool.execute(statement)

    async def run(self, trigger: str, state: str, minutes: int) -> None:
        await self.service.pool.execute(_RUN, GOALS, trigger, state, minutes)

    async def without_runs(self) -> None:
        await self.sql("DELETE FROM service.job_run WHERE epoch = 7")

    async def decided(self, minutes: int) -> None:
        """The slots of all jobs are decided until so many minutes after now."""
        at = f"service.now() + make_interval(mins => {minutes})"
        await self.sql(f"UPDATE service.job_def SET materialized_through = {at}")

    def loop(self, state: str, *, seconds: float = 0) -> None:
        watched = self.service.supervisor.watched["delivery"]
        watched.state, watched.last_error = state, "OSError: gone"
        watched.got_on = self.service._clock.monotonic() - seconds


@dataclass(frozen=True)
class Case:
    """``cause`` and ``cure``: make it wrong, and right again."""

    cause: Callable[[Stand], Any]
    cure: Callable[[Stand], Any]


_WAIVED = "UPDATE service.job_run SET waived_at = service.now(), waived_by = 'ann' WHERE epoch = 7"
_STALE = """
UPDATE service.sync_state SET synced_at = service.now() - make_interval(mins => {}) WHERE phase = 'live'
"""
_CLAIM = """
INSERT INTO service.delivery_claim (owner, until, deliveries)
VALUES ('gone', service.now() - interval '2 minutes', '{}')
"""
_UNCLAIM = "DELETE FROM service.delivery_claim"
CASES = {
    "slot_unsettled": Case(lambda s: s.run("cron", "failed", 30), lambda s: s.sql(_WAIVED)),
    "run_failed": Case(lambda s: s.run("manual", "failed", 0), lambda s: s.without_runs()),
    "slots_undecided": Case(lambda s: s.decided(-6), lambda s: s.decided(0)),
    "watermark_ahead": Case(lambda s: s.decided(2), lambda s: s.decided(0)),
    "run_waiting": Case(lambda s: s.run("once", "pending", 16), lambda s: s.without_runs()),
    "success_stale": Case(
        lambda s: s.run("cron", "succeeded", 4 * 24 * 60), lambda s: s.run("cron", "succeeded", 1)
    ),
    "lease_expired runs": Case(lambda s: s.run("once", "running", 3), lambda s: s.without_runs()),
    "lease_expired messages": Case(lambda s: s.sql(_CLAIM), lambda s: s.sql(_UNCLAIM)),
    "run_without_progress": Case(lambda s: s.run("once", "running", 16), lambda s: s.without_runs()),
    "copy_stale": Case(lambda s: s.sql(_STALE.format(12)), lambda s: s.sql(_STALE.format(0))),
    "gate_shut": Case(
        lambda s: gates.shut(s.service.pool, Scope.KIND, Cause.OPERATOR, "deadlines", by="ann"),
        lambda s: s.sql("UPDATE service.gate SET opened_at = service.now()"),
    ),
    "loop_restarting": Case(lambda s: s.loop("restarting"), lambda s: s.loop("running")),
    "loop_stalled": Case(lambda s: s.loop("running", seconds=400), lambda s: s.loop("running")),
    "mail_refused": Case(
        lambda s: setattr(s.service.delivery._relay._state, "refusal", RelayRefusal("535")),
        lambda s: setattr(s.service.delivery._relay._state, "refusal", None),
    ),
    "inbox_refused": Case(
        lambda s: s.service.__dict__.update(inbox=SimpleNamespace(problem="closed")),
        lambda s: s.service.__dict__.update(inbox=None),
    ),
    "dashboard_problem": Case(
        lambda s: setattr(s.service.sync, "_problem", SchemaUnknown("nothing fits")),
        lambda s: setattr(s.service.sync, "_problem", None),
    ),
    "process_unfit": Case(
        lambda s: s.service.presence._note("it is too old"), lambda s: s.service.presence._note(None)
    ),
    "doubt": Case(
        lambda s: setattr(s.service.sync._choice, "doubts", [NOTHING_VISIBLE]),
        lambda s: setattr(s.service.sync._choice, "doubts", []),
    ),
    "bounces_unread": Case(
        lambda s: setattr(s.service.ways_back, "_imap", SimpleNamespace(problem="no answer")),
        lambda s: setattr(s.service.ways_back, "_imap", None),
    ),
}  # fmt: skip
_WARNINGS = {"doubt", "gate_shut"}


@pytest.fixture
async def stand(tmp_path: Path, databases: tuple[str, str]) -> AsyncIterator[Stand]:
    """At nine o'clock, and nothing is wrong."""
    ours, theirs = databases
    settings = Settings.load({"DATABASE_URL": ours, "DASHBOARD_URL": theirs, "DATA_DIR": str(tmp_path)})
    async with open_service(settings) as service:
        stand = Stand(service)
        await World(service.pool).at(NINE)
        await service.register()
        await service.sync.run_once()
        await stand.decided(0)
        yield stand


async def _do(act: Callable[[Stand], Any], stand: Stand) -> None:
    done = act(stand)
    if inspect.isawaitable(done):
        await done


async def _seen(stand: Stand) -> dict[str, ConditionSeverity]:
    """What is wrong now: keys, and keys with the first word of their subjects."""
    found = await stand.service.conditions.report()
    return {name: c.severity for c in found for name in (c.key, f"{c.key} {c.subject}")}


async def test_each_condition_is_seen_and_over_with_its_cause(stand: Stand) -> None:
    unseen, lasting = [], []
    for key, case in CASES.items():
        await _do(case.cause, stand)
        wanted = ConditionSeverity.WARNING if key in _WARNINGS else ConditionSeverity.PROBLEM
        if (await _seen(stand)).get(key) is not wanted:
            unseen.append(key)
        await _do(case.cure, stand)
        if key in await _seen(stand):
            lasting.append(key)
        await stand.without_runs()

    assert (unseen, lasting) == ([], [])


async def test_a_process_that_could_never_look_says_so(stand: Stand) -> None:
    await stand.sql("ALTER TABLE service.condition RENAME TO moved")
    health = await stand.service.manager.health_check()
    assert ("not_looked", "problem") in {(c["key"], c["severity"]) for c in health["conditions"]}
    await stand.sql("ALTER TABLE service.moved RENAME TO condition")
    assert "not_looked" not in await _seen(stand)
