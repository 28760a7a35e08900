"""Decides again about messages that do not hold any more, and plans what takes their place.

The job decides about the same person as of the same slot, by the same code as in a run. It sees the copy as
it will be when what the dashboard says now has arrived there; for the decision these rows are written and
then undone, so that the copy keeps its one writer. The end of the old message and the plan of the new one are
one transaction: whoever dies before its end has changed nothing, and the message is asked about again.

The new message has the key of the decision with ``:r1``, a second one with ``:r2``. There is no third: a
person whose records change that often within the life of a message is at work on them just now.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, cast

import asyncpg

from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import User
from service.engine import queries
from service.engine.database_errors import undo_at_end
from service.engine.job import Job
from service.engine.run import JobRules, Tick, Trigger
from service.messages import delivery_rows, eligibility
from service.messages.decision import Message, Skip
from service.messages.delivery_decisions import facts_now, same_slot
from service.messages.delivery_rows import PlannedMessage
from service.messages.kind import Channel, Purpose
from service.messages.mail.render import RenderNotice
from service.messages.planner import PlannerSettings, plan_channels, run_stamp, with_notice
from service.messages.reason import Reason
from service.messages.reminder import Reminder, decide_for_user, reminders

_SQL = queries.load(__file__)
_REPLACEMENT = re.compile(r":r(\d+)$")
_MOST = 2
_AT_ONCE = timedelta(0)
_OF_A_SLOT = {Trigger.CRON, Trigger.CATCHUP}


@dataclass(frozen=True, slots=True)
class UnsentMessage:
    """A message that is decided again. ``channels``: those on which it has not left, or never was."""

    id: int
    dedupe_key: str
    job: str
    user_id: str
    zone: str
    message_date: datetime
    facts: dict[str, Any]
    run_id: int | None
    trigger: Trigger
    options: Mapping[str, Any]
    claimed_at: datetime
    channels: tuple[Channel, ...]
    own_zone: str | None = None

    @property
    def replacements(self) -> int:
        """How many messages it has taken the place of."""
        found = _REPLACEMENT.search(self.dedupe_key)
        return int(found[1]) if found else 0


_COLUMNS = {field.name for field in fields(UnsentMessage)} - {"trigger", "channels", "own_zone"}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a message ends: the reason, a sentence for operators, and what takes its place."""

    reason: Reason
    detail: str
    planned: Sequence[PlannedMessage] = ()


class Replacements:
    """Decides again. ``rules`` and ``clock_zone``: as the runner has them."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        jobs: Mapping[str, Job],
        settings: PlannerSettings,
        render_notice: RenderNotice,
        rules: JobRules = JobRules(),
        clock_zone: str | None = None,
    ) -> None:
        self._pool = pool
        self._jobs = reminders(jobs)
        self._settings = settings
        self._render_notice = render_notice
        self._rules = rules
        self.clock_zone = clock_zone

    async def replace_mails(
        self, claims: Sequence[tuple[int, int]], current: DashboardState
    ) -> dict[int, Reason]:
        """Decide again about claimed mails, (id, claim); returns why those that are decided ended, by id.

        Those that are not ours any more, and all but one of a person, are left as they are. Raises
        asyncpg.PostgresError, then nothing has changed.
        """
        async with self._pool.acquire() as proxy, proxy.transaction():
            connection = cast("asyncpg.Connection", proxy)
            ids, own = [id_ for id_, _ in claims], [claim for _, claim in claims]
            mine = await connection.fetch(_SQL["lock_claimed"], ids, own)
            return await self.replace(connection, [row["id"] for row in mine], current)

    async def replace(
        self, connection: asyncpg.Connection, ids: Sequence[int], current: DashboardState
    ) -> dict[int, Reason]:
        """The same in a transaction of the caller, who has locked these deliveries."""
        rows = await connection.fetch(_SQL["unsent"], list(ids))
        if any(self._jobs[row["job"]].kind.purpose is Purpose.NUDGE for row in rows):
            await delivery_rows.lock_budget(connection)
        await delivery_rows.lock_existing_users(connection, [row["user_id"] for row in rows])
        keys = [row["dedupe_key"] for row in rows]
        await connection.execute(_SQL["adopt"], keys)
        locked = [
            row
            for query in ("lock_mails", "lock_notifications")
            for row in await connection.fetch(_SQL[query], keys)
        ]
        left = await delivery_rows.existing_messages(connection, keys)
        left -= {(row["dedupe_key"], row["channel"]) for row in locked}
        unsent = [_unsent_message(row, left) for row in rows]
        endings = await self._decide_all(connection, unsent, [row["id"] for row in locked], current)
        ended = [(row["id"], endings[row["dedupe_key"]]) for row in locked]
        await connection.execute(
            _SQL["end"],
            [id_ for id_, _ in ended],
            [str(ending.reason) for _, ending in ended],
            [ending.detail for _, ending in ended],
        )
        for message in unsent:
            job, tick = self._jobs[message.job], self._tick(message)
            await delivery_rows.plan(
                connection,
                replace(run_stamp(self._settings, job, tick), run_id=message.run_id, spread=_AT_ONCE),
                endings[message.dedupe_key].planned,
            )
        return {message.id: endings[message.dedupe_key].reason for message in unsent}

    # ── Deciding: everything that is written here is undone ─────────────────────────────────────────────────

    async def _decide_all(
        self,
        connection: asyncpg.Connection,
        unsent: Sequence[UnsentMessage],
        locked: Sequence[int],
        current: DashboardState,
    ) -> dict[str, Ending]:
        """How each of these ends, by its key."""
        savepoint = connection.transaction()
        await savepoint.start()
        async with undo_at_end(savepoint.rollback):
            await connection.execute(_SQL["limit_lock_wait"])
            await _write_current(connection, unsent, current)
            await connection.execute(_SQL["hide"], list(locked))
            return {
                message.dedupe_key: await self._decide(connection, message, current) for message in unsent
            }

    async def _decide(
        self, connection: asyncpg.Connection, message: UnsentMessage, current: DashboardState
    ) -> Ending:
        job = self._jobs[message.job]
        if message.replacements >= _MOST:
            return _gone(f"The dashboard changed again after {_MOST} replacements.")
        zone = await connection.fetchval(_SQL["zone"], message.user_id)
        user = current.users.get(message.user_id)
        if zone is None or user is None:
            return _gone("The account is gone.")
        present = replace(message, own_zone=zone)
        follow_zones = self.clock_zone is None and job.kind.postponable
        if message.trigger in _OF_A_SLOT and follow_zones and not same_slot(present, user):
            return Ending(
                Reason.TZ_CHANGE, f"The slot was that of {message.zone}; the person is in {zone} now."
            )
        return await self._ask_job(connection, present, job, current)

    async def _ask_job(
        self, connection: asyncpg.Connection, message: UnsentMessage, job: Reminder, current: DashboardState
    ) -> Ending:
        decided = await decide_for_user(connection, job, self._tick(message))
        if decided is None:
            return _gone(f"{job.name} does not look at this person any more.")
        recipient, decision = decided
        if isinstance(decision, Skip):
            return _gone(_sentence(decision))
        again = replace(message, facts=decision.facts, zone=decision.zone)
        if not isinstance(facts_now(again, job, current, follow_zones=False), dict):
            return _gone("What the dashboard says now contradicts it.")
        return await self._plan(connection, message, decision, recipient)

    async def _plan(
        self, connection: asyncpg.Connection, message: UnsentMessage, decision: Message, recipient: User
    ) -> Ending:
        tick = self._tick(message)
        terms = eligibility.message_terms(decision, tick, message.claimed_at, self._settings.nudges)
        terms = replace(terms, key=f"{terms.key}:r{message.replacements + 1}")
        channels = tuple(channel for channel in decision.channels if channel in message.channels)
        histories = await delivery_rows.contact_histories(connection, [recipient], tick.as_of)
        planned, skip = plan_channels(
            replace(decision, channels=channels), recipient, histories[recipient.id], terms
        )
        if not planned:
            return _gone(_sentence(skip) if skip else "The new message is for channels on which it has left.")
        return Ending(
            Reason.SUPERSEDED,
            f"Another message takes its place: {terms.key}.",
            [with_notice(new, self._render_notice) for new in planned],
        )

    def _tick(self, message: UnsentMessage) -> Tick:
        """The tick of the run that decided it, for its recipient alone."""
        return Tick(
            job=message.job,
            run_id=message.run_id or 0,
            as_of=message.message_date,
            zones=None,
            trigger=message.trigger,
            user_id=message.user_id,
            force=bool(message.options.get("force")),
            clock_zone=self.clock_zone,
            rules=self._rules,
        )


async def _write_current(
    connection: asyncpg.Connection, unsent: Sequence[UnsentMessage], current: DashboardState
) -> None:
    """Write what the dashboard says now about these messages into the copy."""
    ids = {message.user_id for message in unsent}
    users = [current.users[id_] for id_ in ids & current.users.keys()]
    zones = {message.user_id: message.zone for message in unsent}
    known = [user if user.timezone_valid else replace(user, timezone=zones[user.id]) for user in users]
    await replica.upsert_users(connection, known, mark=False)
    goals = {**current.open_goals, **current.closed_goals}
    goal_ids = {id_ for message in unsent for id_ in message.facts.get("goal_ids", ())}
    await replica.upsert_goals(connection, [goals[id_] for id_ in goal_ids & goals.keys()], mark=False)
    await replica.delete(connection, "goals", list(goal_ids - goals.keys()))
    sessions = [session for id_ in ids for session in current.recent_sessions.get(id_, ())]
    await replica.upsert_timer_sessions(connection, sessions, mark=False)


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def _unsent_message(row: asyncpg.Record, left: Collection[tuple[str, str]]) -> UnsentMessage:
    """``left``: the (dedupe key, channel) of messages that cannot be taken back."""
    key = row["dedupe_key"]
    return UnsentMessage(
        **{name: row[name] for name in _COLUMNS},
        trigger=Trigger(row["trigger"]),
        channels=tuple(channel for channel in Channel if (key, str(channel)) not in left),
    )


def _gone(detail: str) -> Ending:
    return Ending(Reason.REVALIDATED_AWAY, detail)


def _sentence(skip: Skip) -> str:
    return f"{skip.reason}: {skip.detail}" if skip.detail else f"{skip.reason}."
