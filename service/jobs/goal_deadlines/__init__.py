"""goalDeadlines: one message a day about goals that are due tomorrow, today, in a week, or overdue.

Who gets it: users with an open goal that reached a *stage* today, in their own zone.

- ``D7`` due in seven days · ``D1`` due tomorrow · ``D0`` due today, and D1 was not delivered for this goal ·
  ``OV`` the first run after the due date, at most 30 days after it.

Each stage of a goal and due date is announced once. A new due date has stages of its own; a date that the
goal had before does not.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Goal, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.engine.schedule import to_instant
from service.jobs.goal_deadlines.samples import SAMPLES
from service.messages.decision import Decision, Message, Skip
from service.messages.goals import date_moved, goal_facts, goals_now, order
from service.messages.kind import N_, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, Revalidated, pages

_SQL = queries.load(__file__)
_MAX_ALSO = 10
_UNTIL = time(20)
_SECTIONS = ("tomorrow", "today", "overdue", "week", "also")
_SECTION_OF_STAGE = {"D1": "tomorrow", "D0": "today", "OV": "overdue", "D7": "week"}

KIND = MessageKind(
    name="deadlines",
    template="goal_deadlines",
    label=N_("Deadline reminders"),
    hint=N_("When a goal is due in a week, tomorrow or today, or has passed its date"),
    reason=N_("You get this because a goal of yours has a date soon and deadline reminders are on."),
    stop=N_("Unsubscribe from deadline reminders"),
    purpose=Purpose.DEADLINE,
    in_app_type="goal_deadline",
    mail=Path(__file__).parent / "mail",
    samples=SAMPLES,
    may_be_resent=True,
    position=10,
)


@dataclass(frozen=True, slots=True)
class DueGoal:
    """An open goal with its due date in the user's calendar."""

    goal: Goal
    due: date


@dataclass(frozen=True, slots=True)
class Facts:
    """What the job knows about a candidate. ``stages``: used stage key → whether it was delivered."""

    user: User
    goals: tuple[DueGoal, ...]
    stages: Mapping[str, bool]


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Candidates in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    goals = tuple(
        DueGoal(replica.goal_from_json(goal), date.fromisoformat(goal["due"])) for goal in row["goals"] or ()
    )
    return Facts(replica.user_from_row(row), goals, row["stages"] or {})


def decide(facts: Facts, tick: Tick) -> Decision:
    """The message of the day, or why there is none."""
    today = tick.local_date(facts.user.timezone)
    staged = [(goal, stage) for goal in facts.goals if (stage := _stage(goal, today, facts.stages, tick))]
    if not staged:
        used = any(_keys(goal) & facts.stages.keys() for goal in facts.goals)
        return Skip(facts.user.id, *(_ANNOUNCED if used else _NONE_DUE))
    staged_ids = {goal.goal.id for goal, _ in staged}
    other_goals = sorted(
        (g for g in facts.goals if g.goal.id not in staged_ids and today <= g.due), key=_order
    )
    mail = _mail(today, _sections(staged, other_goals, today), max(len(other_goals) - _MAX_ALSO, 0))
    return Message(
        user_id=facts.user.id,
        kind=KIND,
        dedupe_key=f"goalDeadlines:{facts.user.id}:{today}",
        zone=str(tick.zone_of(facts.user.timezone)),
        local_date=today,
        facts=mail,
        expires_at=_useful_until(today, tick.zone_of(facts.user.timezone)),
        stages=tuple(_key(goal, stage) for goal, stage in staged),
        in_app=in_app(mail),
    )


_ANNOUNCED = (Reason.ALREADY_SENT, "Every stage that its goals have reached was announced before.")
_NONE_DUE = (Reason.NOT_DUE, "None of the goals is due tomorrow, today, in seven days, or newly overdue.")


def _key(goal: DueGoal, stage: str) -> str:
    return f"goalDeadlines:{goal.goal.id}:{goal.due}:{stage}"


def _keys(goal: DueGoal) -> set[str]:
    return {_key(goal, stage) for stage in _SECTION_OF_STAGE}


def _stage(goal: DueGoal, today: date, used: Mapping[str, bool], tick: Tick) -> str | None:
    """The stage that the goal reached today and that was not announced before."""
    days = (goal.due - today).days
    stage = {7: "D7", 1: "D1", 0: "D0"}.get(days) or ("OV" if -30 <= days < 0 else None)
    if stage is None or tick.force:
        return stage
    if stage == "D0" and used.get(_key(goal, "D1")):
        return None
    return None if _key(goal, stage) in used else stage


def _order(goal: DueGoal) -> tuple[date, int, str]:
    return order(goal.goal, goal.due)


def _sections(
    staged: Sequence[tuple[DueGoal, str]], other_goals: Sequence[DueGoal], today: date
) -> list[dict[str, Any]]:
    groups: dict[str, list[DueGoal]] = {key: [] for key in _SECTIONS}
    for goal, stage in sorted(staged, key=lambda pair: _order(pair[0])):
        groups[_SECTION_OF_STAGE[stage]].append(goal)
    groups["also"] = list(other_goals[:_MAX_ALSO])
    return [
        {"key": key, "goals": [goal_facts(goal.goal, goal.due, today) for goal in goals]}
        for key, goals in groups.items()
        if goals
    ]


def _mail(today: date, sections: list[dict[str, Any]], more: int) -> dict[str, Any]:
    """The facts for the templates. ``count``: all goals; ``tomorrow``: those due tomorrow."""
    goals = [(section["key"], goal) for section in sections for goal in section["goals"]]
    return {
        "local_date": today.isoformat(),
        "sections": sections,
        "more": more,
        "count": len(goals) + more,
        "tomorrow": sum(1 for key, _ in goals if key == "tomorrow"),
        "goal_ids": [goal["id"] for _, goal in goals],
    }


def in_app(facts: dict[str, Any]) -> dict[str, Any]:
    """The notification about the goals that triggered the message; it names the most urgent one."""
    named = [(section["key"], goal) for section in facts["sections"] for goal in section["goals"]]
    named = [(key, goal) for key, goal in named if key != "also"]
    section, first = named[0]
    return {
        "priority": "medium" if section == "week" else "high",
        "data": {"goalIds": [goal["id"] for _, goal in named]},
        "url": first["url_path"] if len(named) == 1 else "/goals",
        "facts": {"section": section, "title": first["title"], "others": len(named) - 1},
    }


def revalidate(facts: dict[str, Any], current: DashboardState) -> dict[str, Any] | Revalidated | None:
    """The goals as they are now, without closed ones. None: no goal that triggered the message is left."""
    listed = [goal for section in facts["sections"] for goal in section["goals"]]
    if date_moved(listed, current):
        return Revalidated.DECIDE_AGAIN
    today = date.fromisoformat(facts["local_date"])
    sections = [
        {**section, "goals": goals_now(section["goals"], current, today)} for section in facts["sections"]
    ]
    sections = [section for section in sections if section["goals"]]
    if all(section["key"] == "also" for section in sections):
        return None
    return _mail(today, sections, facts["more"])


def _useful_until(day: date, zone: ZoneInfo) -> datetime:
    return to_instant(datetime.combine(day, _UNTIL), zone)


JOB = Reminder(
    name="goalDeadlines",
    about="One message a day about goals that are due tomorrow, today, in a week, or overdue.",
    schedule="0 9 * * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: datetime.combine(local.date(), _UNTIL),
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"users.email", "goals", "goals.due"}),
    revalidate=revalidate,
    in_app=in_app,
    timeout=timedelta(minutes=30),
)
