"""dailyCheck: a reminder in the evening for users who have not focused today.

Who gets it: users active within seven local days, without focus today and none running.
The first variant that applies:

- *streak*: three days or more in a row up to yesterday: mail and notification;
- *gentle*: no session today and the two days before: mail and notification, once in three days, and not when
  inactiveUsers writes today or tomorrow;
- *nudge*: a notification only.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.analytics.absence import step_due
from service.analytics.streak import current_streak
from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Goal, TimerSession, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.engine.schedule import to_instant
from service.jobs.daily_check.samples import SAMPLES
from service.messages.decision import Decision, Message, Skip
from service.messages.goals import due_on, goal_facts, goals_now, order
from service.messages.kind import N_, Channel, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, Revalidated, dates, pages

_SQL = queries.load(__file__)
_UNTIL = time(21)
_STREAK = 3
_GENTLE_EVERY = timedelta(days=3)
_LOOK_BACK = timedelta(days=7)
_NEW = timedelta(hours=24)
_DAY = timedelta(days=1)

KIND = MessageKind(
    name="daily",
    template="daily_check",
    label=N_("Daily check-in"),
    hint=N_("In the evening, when a streak is about to end or after some quiet days"),
    reason=N_("You get this because daily check-ins are on."),
    stop=N_("Unsubscribe from daily check-ins"),
    purpose=Purpose.NUDGE,
    in_app_type="goal_reminder",
    mail=Path(__file__).parent / "mail",
    samples=SAMPLES,
    position=20,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the job knows about a candidate at the slot.

    ``away_since``: the local date of the last activity, in the zone of that time; None without any.
    ``active_dates``: local dates with at least a minute of focus. ``recent_days``: the last days' dates with
    any session. ``in_session``: a focus session is running or paused. ``moved``: local dates of changes of
    zone. ``gentle_on``: the local date of the last gentle mail. ``steps``: (episode start, step, date) of
    inactiveUsers in the last 30 days.
    """

    user: User
    away_since: date | None
    active_dates: frozenset[date]
    recent_days: frozenset[date]
    in_session: bool
    moved: frozenset[date]
    gentle_on: date | None
    steps: tuple[tuple[date, int, date], ...]
    goals: tuple[Goal, ...]


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Candidates in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    return Facts(
        user=replica.user_from_row(row),
        away_since=row["away_since"],
        active_dates=dates(row["active_dates"]),
        recent_days=dates(row["recent_days"]),
        in_session=row["in_session"],
        moved=dates(row["moved"]),
        gentle_on=row["gentle_on"],
        steps=tuple(
            (date.fromisoformat(episode), int(step), date.fromisoformat(day))
            for episode, step, day in row["steps"] or ()
        ),
        goals=tuple(replica.goal_from_json(goal) for goal in row["goals"] or ()),
    )


def decide(facts: Facts, tick: Tick) -> Decision:
    """The reminder, or why there is none."""
    today = tick.local_date(facts.user.timezone)
    if not tick.force and (skip := _skip(facts, today, tick)):
        return skip
    streak = current_streak(facts.active_dates, today, facts.moved)
    variant = "streak" if streak >= _STREAK else "gentle" if _quiet_for_three_days(facts, today) else "nudge"
    if variant == "gentle" and not tick.force:
        if facts.gentle_on and today - facts.gentle_on < _GENTLE_EVERY:
            variant = "nudge"
        elif _superseded_by_inactive_users(facts, today, tick):
            return Skip(facts.user.id, Reason.SUPERSEDED_BY, "inactiveUsers writes today or tomorrow.")
    return _message(facts, today, tick, variant, streak)


def _skip(facts: Facts, today: date, tick: Tick) -> Skip | None:
    user = facts.user
    if user.created_at and tick.as_of - user.created_at < _NEW:
        return Skip(user.id, Reason.TOO_NEW, "The account is younger than 24 hours.")
    if today.weekday() not in tick.rules.daily_check_days:
        return Skip(user.id, Reason.NOT_DUE, "Not on this day of the week.")
    if facts.away_since is None or today - facts.away_since > _LOOK_BACK:
        return Skip(user.id, Reason.NOT_DUE, "No activity within seven days.")
    if today in facts.active_dates:
        return Skip(user.id, Reason.NOT_DUE, "There was focus today.")
    if facts.in_session:
        return Skip(user.id, Reason.NOT_DUE, "A focus session is running or paused.")
    return None


def _quiet_for_three_days(facts: Facts, today: date) -> bool:
    return not any(today - n * _DAY in facts.recent_days for n in range(3))


def _superseded_by_inactive_users(facts: Facts, today: date, tick: Tick) -> bool:
    """Whether inactiveUsers has a step on D, or will have one on D + 1."""
    if any(day == today for _, _, day in facts.steps):
        return True
    assert facts.away_since is not None
    sent = {step for episode, step, _ in facts.steps if episode == facts.away_since}
    tomorrow = step_due((today + _DAY - facts.away_since).days, tick.rules.inactive_steps)
    return tomorrow is not None and not any(step >= tomorrow for step in sent)


def _message(facts: Facts, today: date, tick: Tick, variant: str, streak: int) -> Message:
    user = facts.user
    zone = tick.zone_of(user.timezone)
    due = sorted(((goal, due_on(goal, zone)) for goal in facts.goals), key=lambda pair: order(*pair))
    mail_facts: dict[str, Any] = {
        "local_date": today.isoformat(),
        "variant": variant,
        "streak": streak,
        "forced": tick.force,
        "day_start": None if today in facts.moved else _midnight(today, zone).isoformat(),
        "goals": [goal_facts(goal, day, today) for goal, day in due],
        "goal_ids": [goal.id for goal, _ in due],
        "url_path": "/timer",
    }
    return Message(
        user_id=user.id,
        kind=KIND,
        dedupe_key=f"dailyCheck:{user.id}:{today}",
        zone=str(zone),
        local_date=today,
        facts=mail_facts,
        expires_at=to_instant(datetime.combine(today, _UNTIL), zone),
        channels=(Channel.IN_APP,) if variant == "nudge" else (Channel.EMAIL, Channel.IN_APP),
        in_app={
            "priority": "medium",
            "data": {"streak": streak},
            "url": "/timer",
            "facts": {"variant": variant, "streak": streak},
        },
        in_app_life=timedelta(days=1),
    )


def revalidate(facts: dict[str, Any], current: DashboardState) -> dict[str, Any] | Revalidated | None:
    """The goals as they are now. None: the person has been there since the slot.

    On the date of a move to another zone, sessions before the slot are not looked at again: those before the
    move are dated by the former zone.
    """
    if not facts.get("forced", True):
        slot = current.question.slot
        if current.active_after(slot):
            return None
        day_start = facts["day_start"] and datetime.fromisoformat(facts["day_start"])
        if day_start and any(_is_focus_of_today(session, day_start, slot) for session in current.sessions):
            return Revalidated.DECIDE_AGAIN
    return {**facts, "goals": goals_now(facts["goals"], current, date.fromisoformat(facts["local_date"]))}


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return to_instant(datetime.combine(day, time()), zone)


def _is_focus_of_today(session: TimerSession, day_start: datetime, slot: datetime) -> bool:
    """Whether it keeps the job silent at the slot: completed since the day began, or running or paused."""
    if session.status == "completed":
        return session.focus and day_start <= session.started_at <= slot
    return session.focus and session.status in {"running", "paused"} and session.started_at <= slot


JOB = Reminder(
    name="dailyCheck",
    about="A word in the evening to somebody who has not focused today. No guilt.",
    schedule="0 18 * * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: datetime.combine(local.date(), _UNTIL),
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"users.email", "timer_sessions"}),
    revalidate=revalidate,
    recent=timedelta(hours=24),
)
