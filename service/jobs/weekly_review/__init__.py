"""weeklyReview: the week on one page, on Sunday evening.

The seven local dates of the user's week that ends on the slot's date or before it (Monday to Sunday; a week
that starts on Sunday ends the day before), compared with the seven dates before.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.analytics.activity import LocalSession, PeriodFigures, figures, local_sessions
from service.analytics.periods import Period, week_before, week_ending_by
from service.analytics.streak import current_streak
from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Goal, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.engine.schedule import to_instant
from service.jobs.weekly_review.samples import SAMPLES
from service.messages.decision import Decision, Message, Skip
from service.messages.goals import date_moved, due_on, goal_facts, goals_now, is_reached, order
from service.messages.kind import N_, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, dates, pages
from service.messages.trend import change

_SQL = queries.load(__file__)
_UNTIL = time(12)
_NEW = timedelta(days=3)
_WEEK = timedelta(days=7)
_GOALS = 5
_SHORT_SESSION = 15 * 60
_REVISED_SESSIONS = 1
_REVISED_SECONDS = 600

KIND = MessageKind(
    name="weekly",
    template="weekly_review",
    label=N_("Weekly review"),
    hint=N_("Your week on one page, at its end"),
    reason=N_("You get this because weekly reviews are on."),
    stop=N_("Unsubscribe from weekly reviews"),
    purpose=Purpose.REPORT,
    in_app_type="weekly_report",
    mail=Path(__file__).parent / "mail",
    samples=SAMPLES,
    may_be_resent=True,
    position=30,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the job knows about a user at the slot.

    ``sessions``: of the last three weeks, with their local dates. ``active_dates``: all dates with at least a
    minute of focus. ``goals``: open ones due about now, and those completed lately. ``reported``: the figures
    of the last review; None: there was none.
    """

    user: User
    sessions: tuple[LocalSession, ...]
    active_dates: frozenset[date]
    moved: frozenset[date]
    goals: tuple[Goal, ...]
    reported: Mapping[str, Any] | None


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Everybody in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    return Facts(
        user=replica.user_from_row(row),
        sessions=local_sessions(row["sessions"]),
        active_dates=dates(row["active_dates"]),
        moved=dates(row["moved"]),
        goals=tuple(replica.goal_from_json(goal) for goal in row["goals"] or ()),
        reported=row["reported"],
    )


def decide(facts: Facts, tick: Tick) -> Decision:
    """The review, or why there is none."""
    user = facts.user
    today = tick.local_date(user.timezone)
    week = week_ending_by(today, user.preferences.week_start)
    current = figures(facts.sessions, week)
    previous = figures(facts.sessions, week_before(week))
    zone = tick.zone_of(user.timezone)
    done = _completed(facts.goals, week, tick, zone)
    if user.created_at and tick.as_of - user.created_at < _NEW:
        return Skip(user.id, Reason.TOO_NEW, "The account is younger than three days.")
    if not current.active_days and not previous.active_days and not done:
        return Skip(user.id, Reason.NO_CONTENT, "No activity in this week or the one before.")
    mail_facts = _mail_facts(facts, tick, week, current, previous, done)
    return Message(
        user_id=user.id,
        kind=KIND,
        dedupe_key=f"weeklyReview:{user.id}:{week.start}",
        zone=str(zone),
        local_date=today,
        facts=mail_facts,
        expires_at=to_instant(datetime.combine(today + timedelta(days=1), _UNTIL), zone),
        in_app={
            "priority": "low",
            "data": {"weekStart": week.start.isoformat()},
            "url": "/analytics",
            "facts": {"focus_seconds": current.focus_seconds, "goals_done": len(done)},
        },
    )


def _mail_facts(
    facts: Facts,
    tick: Tick,
    week: Period,
    current: PeriodFigures,
    previous: PeriodFigures,
    done: Sequence[Goal],
) -> dict[str, Any]:
    zone = tick.zone_of(facts.user.timezone)
    today = tick.local_date(facts.user.timezone)
    ahead = Period(today + timedelta(days=1), today + timedelta(days=1) + _WEEK)
    coming = sorted(
        (
            (g, due)
            for g in facts.goals
            if g.open and not is_reached(g) and (due := due_on(g, zone)) and due in ahead
        ),
        key=lambda pair: order(*pair),
    )
    most = max(current.by_day)
    return {
        "local_date": today.isoformat(),
        "first": week.start.isoformat(),
        "last": week.last.isoformat(),
        "figures": as_json(current),
        "average_seconds": current.average_seconds,
        "change": change(current.focus_seconds, previous.focus_seconds, previous.sessions),
        "days": [
            {
                "date": day.isoformat(),
                "seconds": seconds,
                "percent": round(100 * seconds / most) if most else 0,
            }
            for day, seconds in zip(week.days, current.by_day, strict=True)
        ],
        "best_day": current.best_day.isoformat() if current.best_day else None,
        "streak": current_streak(facts.active_dates, today, facts.moved),
        "goals_done": len(done),
        "done_titles": [goal_facts(goal, None, today)["title"] for goal in done[:_GOALS]],
        "goals": [goal_facts(goal, due, today) for goal, due in coming[:_GOALS]],
        "more": max(len(coming) - _GOALS, 0),
        "goal_ids": [goal.id for goal, _ in coming[:_GOALS]],
        "final": _final(previous, facts.reported),
        "suggestion": _suggestion(current, coming, today),
        "url_path": "/analytics",
    }


def as_json(figures: PeriodFigures) -> dict[str, Any]:
    """The figures of a review, which the next one compares with its own."""
    return {
        "focus_seconds": figures.focus_seconds,
        "sessions": figures.sessions,
        "active_days": figures.active_days,
    }


def _completed(goals: Sequence[Goal], week: Period, tick: Tick, zone: ZoneInfo) -> list[Goal]:
    done = [
        (g.completed_at, g)
        for g in goals
        if g.completed_at and g.completed_at <= tick.as_of and g.completed_at.astimezone(zone).date() in week
    ]
    return [goal for _, goal in sorted(done, key=lambda pair: (pair[0], pair[1].title))]


def _final(previous: PeriodFigures, reported: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Last week's figures, if they have changed since its review."""
    if reported is None:
        return None
    sessions = abs(previous.sessions - reported["sessions"])
    seconds = abs(previous.focus_seconds - reported["focus_seconds"])
    revised = sessions >= _REVISED_SESSIONS or seconds >= _REVISED_SECONDS
    return as_json(previous) if revised else None


def _suggestion(current: PeriodFigures, coming: Sequence[tuple[Goal, date]], today: date) -> dict[str, Any]:
    """The suggestion of the first rule that applies."""
    for goal, due in coming:
        if goal.progress is not None and goal.progress < 50:
            return {"rule": "goal_behind", **goal_facts(goal, due, today)}
    if current.sessions == 0:
        return {"rule": "begin_small"}
    if current.average_seconds < _SHORT_SESSION:
        return {"rule": "longer_sessions"}
    if current.active_days <= 2:
        return {"rule": "one_more_day"}
    if current.best_day and current.active_days >= 3:
        return {"rule": "best_day", "date": current.best_day.isoformat()}
    return {"rule": "keep_going"}


def revalidate(facts: dict[str, Any], current: DashboardState) -> dict[str, Any] | None:
    """The goals as they are now, without those that were closed or moved; a suggestion about one of these is
    replaced."""
    today = date.fromisoformat(facts["local_date"])
    kept = [goal for goal in facts["goals"] if not date_moved([goal], current)]
    goals, suggestion = goals_now(kept, current, today), facts["suggestion"]
    if suggestion["rule"] == "goal_behind" and suggestion["id"] not in {goal["id"] for goal in goals}:
        suggestion = {"rule": "keep_going"}
    return {**facts, "goals": goals, "suggestion": suggestion}


JOB = Reminder(
    name="weeklyReview",
    about="The week on one page, on Sunday evening.",
    schedule="0 19 * * 0",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: datetime.combine(local.date() + timedelta(days=1), _UNTIL),
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"users.email", "timer_sessions"}),
    revalidate=revalidate,
)
