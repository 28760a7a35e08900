"""acme.stalledGoals: one message about open goals that nobody has worked on for fourteen days.

A goal is at rest when its last session began 14 days ago or earlier; without any session its creation counts.
That is said once; a session re-arms it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import asyncpg

from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Goal, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.engine.schedule import to_instant
from service.messages.decision import Decision, Message, Skip
from service.messages.goals import due_on, goal_facts, order
from service.messages.kind import N_, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, pages
from tests.acme_jobs.stalled_goals.samples import SAMPLES

_SQL = queries.load(__file__)
_FOLDER = Path(__file__).parent
_UNTIL = time(20)
_DAYS = 14
_SHOWN = 3

KIND = MessageKind(
    name="acme.stalled",
    template="acme.stalled_goals",
    label=N_("Goals at rest"),
    hint=N_("When nothing has happened for a goal in two weeks"),
    reason=N_("You get this because reminders about goals at rest are on."),
    stop=N_("Unsubscribe from reminders about goals at rest"),
    purpose=Purpose.NUDGE,
    in_app_type="goal_reminder",
    mail=_FOLDER / "mail",
    samples=SAMPLES,
    catalogues=_FOLDER / "catalogues",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one candidate: open goals with the local date since which each is at rest."""

    user: User
    goals: tuple[tuple[Goal, date], ...]
    announced: frozenset[str]


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Candidates in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    goals = tuple(
        (replica.goal_from_json(goal), date.fromisoformat(goal["since"])) for goal in row["goals"] or ()
    )
    return Facts(replica.user_from_row(row), goals, frozenset(row["announced"] or ()))


def _key(goal: Goal, since: date) -> str:
    return f"acme.stalledGoals:{goal.id}:{since}"


def decide(facts: Facts, tick: Tick) -> Decision:
    """The message about goals whose stall was not announced before, or why there is none."""
    today, zone = tick.local_date(facts.user.timezone), tick.zone_of(facts.user.timezone)
    stalled = [(goal, since) for goal, since in facts.goals if (today - since).days >= _DAYS]
    new = [pair for pair in stalled if tick.force or _key(*pair) not in facts.announced]
    if not new:
        reason = Reason.ALREADY_SENT if stalled else Reason.NOT_DUE
        return Skip(facts.user.id, reason, f"{len(stalled)} goals are at rest, all announced before.")
    goals = sorted(((goal, due_on(goal, zone)) for goal, _ in new), key=lambda pair: order(*pair))
    content: dict[str, Any] = {
        "local_date": today.isoformat(),
        "goals": [goal_facts(goal, due, today) for goal, due in goals[:_SHOWN]],
        "more": max(len(goals) - _SHOWN, 0),
        "goal_ids": [goal.id for goal, _ in goals[:_SHOWN]],
    }
    return Message(
        user_id=facts.user.id,
        kind=KIND,
        dedupe_key=f"acme.stalledGoals:{facts.user.id}:{today}",
        zone=str(zone),
        local_date=today,
        facts=content,
        expires_at=to_instant(datetime.combine(today, _UNTIL), zone),
        stages=tuple(_key(*pair) for pair in new),
        in_app=in_app(content),
    )


def in_app(facts: dict[str, Any]) -> dict[str, Any]:
    """The notification: it names the first goal."""
    first, others = facts["goals"][0], len(facts["goals"]) - 1 + facts["more"]
    return {
        "priority": "low",
        "data": {"goalIds": facts["goal_ids"]},
        "url": "/goals" if others else first["url_path"],
        "facts": {"title": first["title"], "others": others},
    }


def revalidate(facts: dict[str, Any], now: DashboardState) -> dict[str, Any] | None:
    """Goals that were closed meanwhile are left out; nothing is sent where none remains."""
    goals = [goal for goal in facts["goals"] if goal["id"] in now.open_goals]
    return {**facts, "goals": goals} if goals else None


JOB = Reminder(
    name="acme.stalledGoals",
    about="One message about open goals that nobody has worked on for fourteen days.",
    schedule="0 11 * * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: datetime.combine(local.date(), _UNTIL),
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"users.email", "goals", "goals.status", "timer_sessions"}),
    revalidate=revalidate,
    in_app=in_app,
)
