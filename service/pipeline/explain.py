"""Why somebody did, did not, or will (not) get a message: what is recorded, and every rule with its verdict.

What was decided is told from the ledger. The rules are asked as they stand now, by deciding without sending:
for a moment to come that is the forecast, for one that has passed it shows what holds today.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg

from service.domain import contact
from service.domain.contact import Known
from service.domain.dashboard import Channel, User
from service.domain.effect import Decision, Message, Skip
from service.errors import BadRequest, UnknownUser
from service.jobs.job import Job
from service.pipeline.runner import Runner
from service.pipeline.trigger import slot_groups
from service.store import planning, queries, replica

_SQL = queries.load(__file__)


class Explainer:
    """Answers for one user, job and moment. Reads only."""

    def __init__(self, pool: asyncpg.Pool, runner: Runner, jobs: Mapping[str, Job]) -> None:
        self._pool = pool
        self._runner = runner
        self._jobs = dict(jobs)

    async def explain(self, job_id: str, user_id: str, at: datetime | None = None) -> dict[str, Any]:
        """Everything that is known, JSON-able; ``at`` (aware) None: now. Raises UnknownUser, BadRequest."""
        job = self._jobs[job_id]
        if job.kind is None:
            raise BadRequest(f"{job_id} writes to nobody")
        now = await self._pool.fetchval(_SQL["now"])
        row = await self._pool.fetchrow(_SQL["person"], user_id)
        if row is None:
            raise UnknownUser(user_id)
        user, at = replica.user_from_row(row), at or now
        found = await self._runner.decide_for(job_id, user_id, at)
        decision = found[1] if found else None
        day = self._runner.local_date(user, at)
        (group,) = slot_groups([(user.timezone, row["hours"])], job.kind)
        async with self._pool.acquire() as reading:
            connection = cast("asyncpg.Connection", reading)
            known = (await planning.contacts(connection, [user], at))[user_id]
            about = (user_id, job_id, day)
            deliveries = [dict(row) for row in await connection.fetch(_SQL["deliveries"], *about)]
            decisions = [dict(row) for row in await connection.fetch(_SQL["decisions"], *about)]
            found_runs = await connection.fetch(_SQL["runs"], job_id, day, user.timezone, group)
            runs = [dict(row) for row in found_runs]
            keys = [decision.dedupe_key] if isinstance(decision, Message) else []
            sent = await planning.existing(connection, keys)
        channels = decision.channels if isinstance(decision, Message) else (Channel.EMAIL, Channel.IN_APP)
        rules = {
            str(channel): [_told(*rule) for rule in _rules(user, job, channel, known, at, decision, sent)]
            for channel in channels
        }
        return {
            "userId": user_id,
            "job": job_id,
            "at": _iso(at),
            "localDate": day.isoformat(),
            "timezone": user.timezone,
            "slotGroup": group,
            "recorded": {
                "runs": [_json(row) for row in runs],
                "deliveries": [_json(row) for row in deliveries],
                "decisions": [_json(row) for row in decisions],
            },
            "rules": rules,
            "conclusion": conclusion(deliveries, decisions, runs, rules),
        }


Rule = tuple[str, str | None, str]
"""Its name, the reason why it stops the message (None: it does not), and one sentence."""


def _rules(
    user: User,
    job: Job,
    channel: Channel,
    known: Known,
    at: datetime,
    decision: Decision | None,
    sent: set[tuple[str, str]],
) -> Iterator[Rule]:
    """Every rule, also those behind the first that stops; those about a message only where there is one."""
    assert job.kind is not None
    yield _of_the_job(job, decision)
    for name, reason in contact.rules(user, job.kind, channel, known, at):
        yield name, reason, ""
    if not isinstance(decision, Message):
        return
    known_key = (decision.dedupe_key, str(channel)) in sent
    yield "once", "already_sent" if known_key else None, decision.dedupe_key
    day, key = decision.local_date, decision.dedupe_key
    yield "budget", contact.budget(job.kind, channel, day, key, known.past), ""
    late = "stale" if decision.expires_at <= at else None
    yield "lateness", late, f"Useful until {_iso(decision.expires_at)}."
    when = contact.earliest(user, job.kind, known, at, decision.expires_at, late=False)
    if isinstance(when, datetime):
        yield "quiet_hours", None, f"It may go out at {_iso(when)}."
    else:
        yield "quiet_hours", when, ""


def _of_the_job(job: Job, decision: Decision | None) -> Rule:
    if decision is None:
        return "job", "not_due", f"{job.name} does not look at this user then."
    if isinstance(decision, Skip):
        return "job", str(decision.reason), decision.detail
    return "job", None, f"{job.name} has something to say."


def conclusion(
    deliveries: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """One sentence: what became of it, else what would. Recorded facts come before rules."""
    mails = [row for row in deliveries if row["channel"] == Channel.EMAIL] or list(deliveries)
    if mails:
        one = mails[-1]
        what = "The mail" if one["channel"] == Channel.EMAIL else "The notification"
        at = f" at {_iso(one['settled_at'])}" if one["settled_at"] else f", due at {_iso(one['not_before'])}"
        return f"{what} is {one['state']}{at}{_because(one['reason'])}."
    if decisions:
        return f"Nothing was sent{_because(decisions[-1]['reason'])}. {decisions[-1]['detail']}".strip()
    if runs and runs[-1]["state"] in {"missed", "skipped", "pending", "failed", "dead"}:
        return f"The run of this slot is {runs[-1]['state']}{_because(runs[-1]['reason'])}."
    return _forecast(rules)


def _forecast(rules: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    free = [channel for channel, told in rules.items() if all(rule["reason"] is None for rule in told)]
    if free:
        return f"It would go out now on: {', '.join(free)}."
    first = next(rule for told in rules.values() for rule in told if rule["reason"])
    return f"It would not be sent: {first['reason']}. {first['detail']}".strip()


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _told(name: str, reason: str | None, detail: str) -> dict[str, Any]:
    verdict = "stopped" if reason else "passed"
    return {"rule": name, "verdict": verdict, "reason": str(reason) if reason else None, "detail": detail}


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    def camel(name: str) -> str:
        head, *rest = name.split("_")
        return head + "".join(word.title() for word in rest)

    return {camel(k): _iso(v) if isinstance(v, datetime) else v for k, v in row.items()}


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
