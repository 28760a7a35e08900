"""breakReminders: a break after long continuous focus, while it lasts.

The first is due after twice the user's work time of continuous focus, then one every work time, at most three
per stretch of focus, within work hours. For a timer that seems forgotten the user is asked once whether it is
still running.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from service.analytics.focus_stretch import breaks_due, stretch_start
from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import TimerSession, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.jobs.break_reminders.samples import SAMPLES
from service.messages.decision import Decision, Message, Skip
from service.messages.kind import N_, Channel, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, pages

_SQL = queries.load(__file__)
_USEFUL_FOR = timedelta(minutes=5)
_LIFE = timedelta(minutes=25)
_LONGEST = timedelta(hours=12)
_FORGOTTEN_AFTER = timedelta(minutes=30)
_UNTOUCHED = timedelta(minutes=10)
_ZERO = timedelta(0)

KIND = MessageKind(
    name="breaks",
    template="break_reminders",
    label=N_("Break reminders"),
    hint=N_("During long focus sessions"),
    reason=N_("You get this because you asked for break reminders by mail."),
    stop=N_("Unsubscribe from break reminders"),
    purpose=Purpose.PROMPT,
    in_app_type="timer_completed",
    mail=Path(__file__).parent / "mail",
    samples=SAMPLES,
    mail_by_default=False,
    position=50,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the job knows about a candidate. ``running``: focus sessions, newest first. ``earlier``: completed
    ones of the last hours as (start, end). ``last_write``: when the user last changed anything."""

    user: User
    running: tuple[TimerSession, ...]
    earlier: tuple[tuple[datetime, datetime], ...]
    last_write: datetime | None


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Candidates in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    instant = datetime.fromisoformat
    return Facts(
        user=replica.user_from_row(row),
        running=tuple(replica.session_from_json(session) for session in row["running"] or ()),
        earlier=tuple((instant(start), instant(end)) for start, end in row["earlier"] or ()),
        last_write=row["last_write"],
    )


def decide(facts: Facts, tick: Tick) -> Decision:
    """A break, the question whether the timer still runs, or why there is no message."""
    user, at = facts.user, tick.as_of
    if not facts.running:
        return Skip(user.id, Reason.NOT_DUE, "No focus session is running.")
    session = next(
        (candidate for candidate in facts.running if _ZERO <= at - candidate.started_at <= _LONGEST), None
    )
    if session is None:
        return Skip(user.id, Reason.STALE, "The running session began in the future or over 12 hours ago.")
    if not _in_work_hours(user, at.astimezone(tick.zone_of(user.timezone)).time()):
        return Skip(user.id, Reason.NOT_DUE, "Outside the user's work hours.")
    if _seems_forgotten(session, facts.last_write, at):
        return _still_running(user, session, tick)
    work = timedelta(minutes=user.preferences.work_minutes)
    joint = timedelta(minutes=user.preferences.short_break_minutes)
    start = stretch_start(session.started_at, facts.earlier, joint)
    number = breaks_due(at - start, work)
    if number == 0:
        return Skip(user.id, Reason.NOT_DUE, "The continuous focus is still short.")
    return _break(user, session, start, number, tick)


def _in_work_hours(user: User, local: time) -> bool:
    begin, end = user.preferences.work_start, user.preferences.work_end
    if begin is None or end is None or begin == end:
        return True
    return begin <= local < end if begin < end else (local >= begin or local < end)


def _seems_forgotten(session: TimerSession, last_write: datetime | None, at: datetime) -> bool:
    planned = timedelta(seconds=session.planned_seconds or 0)
    over = planned > _ZERO and at - session.started_at > planned + _FORGOTTEN_AFTER
    return over and (last_write is None or at - last_write >= _UNTOUCHED)


def _break(user: User, session: TimerSession, start: datetime, number: int, tick: Tick) -> Message:
    minutes = int((tick.as_of - start).total_seconds() // 60)
    stretch = start.strftime("%Y%m%dT%H%M%SZ")
    facts = {"variant": "break", "focused_seconds": minutes * 60, "number": number}
    return _message(
        user,
        session,
        tick,
        f"breakReminders:{user.id}:{stretch}:{number}",
        facts,
        (Channel.IN_APP, Channel.EMAIL),
    )


def _still_running(user: User, session: TimerSession, tick: Tick) -> Message:
    minutes = int((tick.as_of - session.started_at).total_seconds() // 60)
    facts = {"variant": "still_running", "focused_seconds": minutes * 60, "number": 0}
    key = f"breakReminders:{user.id}:{session.id}:still-running"
    return _message(user, session, tick, key, facts, (Channel.IN_APP,))


def _message(
    user: User,
    session: TimerSession,
    tick: Tick,
    key: str,
    facts: dict[str, Any],
    channels: tuple[Channel, ...],
) -> Message:
    today = tick.local_date(user.timezone)
    return Message(
        user_id=user.id,
        kind=KIND,
        dedupe_key=key,
        zone=str(tick.zone_of(user.timezone)),
        local_date=today,
        facts={
            **facts,
            "local_date": today.isoformat(),
            "break_minutes": user.preferences.short_break_minutes,
            "session_ids": [session.id],
            "url_path": "/timer",
        },
        expires_at=tick.as_of + _LIFE,
        channels=channels,
        in_app={
            "priority": "medium",
            "data": {"sessionId": session.id},
            "url": "/timer",
            "facts": {**facts, "break_minutes": user.preferences.short_break_minutes},
        },
        in_app_life=_LIFE,
    )


def revalidate(facts: dict[str, Any], current: DashboardState) -> dict[str, Any] | None:
    """Nothing is sent once the session has ended."""
    return facts if current.running_sessions.issuperset(facts["session_ids"]) else None


JOB = Reminder(
    name="breakReminders",
    about="A break after long continuous focus, while it lasts.",
    schedule="*/25 9-17 * * 1-5",
    mode=TimeMode.USER,
    catch_up=CatchUp.NONE,
    useful_until=lambda local: local + _USEFUL_FOR,
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"timer_sessions"}),  # these are hardly ever sent by mail
    revalidate=revalidate,
    timeout=timedelta(minutes=5),
)
