"""monthlyReport: the calendar month before, on the first of the month, compared with the one before it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.analytics.activity import LocalSession, PeriodFigures, figures, focus_by_period, local_sessions
from service.analytics.periods import Period, month_before, weeks_of
from service.analytics.streak import longest_streak
from service.dashboard import replica
from service.dashboard.model import Goal, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.engine.schedule import to_instant
from service.jobs.monthly_report.samples import SAMPLES
from service.messages.decision import Decision, Message, Skip
from service.messages.goals import due_on, goal_facts
from service.messages.kind import N_, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, dates, pages
from service.messages.trend import change

_SQL = queries.load(__file__)
_UNTIL = time(20)
_UNTIL_DAY = 3
_YOUNG = timedelta(days=14)
_CATEGORIES = 5
_TITLES = 5

KIND = MessageKind(
    name="monthly",
    template="monthly_report",
    label=N_("Monthly report"),
    hint=N_("The month before, on the first"),
    reason=N_("You get this because monthly reports are on."),
    stop=N_("Unsubscribe from monthly reports"),
    purpose=Purpose.REPORT,
    in_app_type="weekly_report",
    mail=Path(__file__).parent / "mail",
    samples=SAMPLES,
    may_be_resent=True,
    position=60,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the job knows about a user at the slot: the sessions and goals of two months."""

    user: User
    sessions: tuple[LocalSession, ...]
    moved: frozenset[date]
    goals: tuple[Goal, ...]


@dataclass(frozen=True, slots=True)
class GoalFigures:
    """Goals of a month. ``rate``: completed / (open at the start + created), per cent, None without goals."""

    created: int
    completed: tuple[Goal, ...]
    rate: int | None
    overdue: int


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Everybody in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    return Facts(
        user=replica.user_from_row(row),
        sessions=local_sessions(row["sessions"]),
        moved=dates(row["moved"]),
        goals=tuple(replica.goal_from_json(goal) for goal in row["goals"] or ()),
    )


def decide(facts: Facts, tick: Tick) -> Decision:
    """The report, or why there is none."""
    user = facts.user
    zone = tick.zone_of(user.timezone)
    today = tick.local_date(user.timezone)
    month = month_before(today)
    current = figures(facts.sessions, month)
    previous = figures(facts.sessions, month_before(month.start))
    goals = goal_figures(facts.goals, month, zone)
    if user.created_at and user.created_at.astimezone(zone).date() > month.end - _YOUNG:
        return Skip(user.id, Reason.TOO_NEW, "The account was created in the last 14 days of the month.")
    if not (current.active_days or previous.active_days or goals.completed or goals.created):
        return Skip(user.id, Reason.NO_CONTENT, "No activity in this month or the one before.")
    mail_facts = _mail_facts(facts, today, month, current, previous, goals)
    last_day = today.replace(day=_UNTIL_DAY) if today.day <= _UNTIL_DAY else today
    return Message(
        user_id=user.id,
        kind=KIND,
        dedupe_key=f"monthlyReport:{user.id}:{month.start:%Y-%m}",
        zone=str(zone),
        local_date=today,
        facts=mail_facts,
        expires_at=to_instant(datetime.combine(last_day, _UNTIL), zone),
        in_app={
            "priority": "low",
            "data": {"month": f"{month.start:%Y-%m}"},
            "url": mail_facts["url_path"],
            "facts": {
                "month": month.start.isoformat(),
                "focus_seconds": current.focus_seconds,
                "goals_done": len(goals.completed),
            },
        },
    )


def goal_figures(goals: Sequence[Goal], month: Period, zone: ZoneInfo) -> GoalFigures:
    """Count the goals of a month; created and completed by their local dates.

    Open at the start: created before, and not completed before. Overdue: still open with a date before the
    month's end.
    """

    def local_date(at: datetime | None) -> date | None:
        return at.astimezone(zone).date() if at else None

    completed = [g for g in goals if (day := local_date(g.completed_at)) and day in month]
    created = sum((day := local_date(g.created_at)) is not None and day in month for g in goals)
    at_start = sum(
        (local_date(g.created_at) or date.min) < month.start
        and (g.open or ((day := local_date(g.completed_at)) is not None and day >= month.start))
        for g in goals
    )
    overdue = sum(g.open and (due := due_on(g, zone)) is not None and due < month.end for g in goals)
    base = at_start + created
    rate = round(100 * len(completed) / base) if base else None
    completed.sort(key=lambda g: (local_date(g.completed_at) or date.min, g.title))
    return GoalFigures(created, tuple(completed), rate, overdue)


def _mail_facts(
    facts: Facts,
    today: date,
    month: Period,
    current: PeriodFigures,
    previous: PeriodFigures,
    goals: GoalFigures,
) -> dict[str, Any]:
    weeks = weeks_of(month, facts.user.preferences.week_start)
    by_week = focus_by_period(current.by_day, month, weeks)
    most = max(by_week)
    top = current.categories[:_CATEGORIES]
    widest = top[0][1] if top else 0
    return {
        "local_date": today.isoformat(),
        "month": month.start.isoformat(),
        "first": month.start.isoformat(),
        "last": month.last.isoformat(),
        "focus_seconds": current.focus_seconds,
        "sessions": current.sessions,
        "average_seconds": current.average_seconds,
        "daily_seconds": round(current.focus_seconds / len(month.days)),
        "active_days": current.active_days,
        "days": len(month.days),
        "best_day": current.best_day.isoformat() if current.best_day else None,
        "longest_streak": longest_streak(current.active_dates, facts.moved),
        "change": change(current.focus_seconds, previous.focus_seconds, previous.sessions),
        "goals_created": goals.created,
        "goals_done": len(goals.completed),
        "goals_rate": goals.rate,
        "goals_overdue": goals.overdue,
        "done_titles": [goal_facts(goal, None, today)["title"] for goal in goals.completed[:_TITLES]],
        "weeks": [
            {
                "first": week.start.isoformat(),
                "last": week.last.isoformat(),
                "seconds": seconds,
                "percent": round(100 * seconds / most) if most else 0,
            }
            for week, seconds in zip(weeks, by_week, strict=True)
        ],
        "categories": [
            {"name": name, "seconds": seconds, "percent": round(100 * seconds / widest)}
            for name, seconds in top
        ],
        "url_path": f"/analytics?month={month.start:%Y-%m}",
    }


def _useful_until(local: datetime) -> datetime:
    return datetime.combine(local.date().replace(day=max(_UNTIL_DAY, local.day)), _UNTIL)


JOB = Reminder(
    name="monthlyReport",
    about="The calendar month before, on the first of the month, compared with the one before it.",
    schedule="0 9 1 * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=_useful_until,
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"users.email", "timer_sessions"}),
)
