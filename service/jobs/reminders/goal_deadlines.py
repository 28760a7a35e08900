"""goalDeadlines: one message a day about goals that are due tomorrow, today, in a week, or overdue.

Who gets it: users with an open goal that reached a *stage* today, in their own zone.

- ``D7`` due in seven days · ``D1`` due tomorrow · ``D0`` due today, and D1 was not delivered for this goal ·
  ``OV`` the first run after the due date, at most 30 days after it.

Each stage of a goal and its due date is announced once; moving the deadline re-arms it, moving it back
does not.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.domain.dashboard import Goal, Kind, User
from service.domain.effect import Decision, Message, Skip
from service.domain.plain import shorten
from service.domain.run import Tick
from service.domain.schedule import to_instant
from service.domain.suppression import Reason
from service.jobs.job import CatchUp, Job, JobType, Page, TimeMode
from service.store import queries, replica

_SQL = queries.load(__file__)
_PAGE = 1000
_ALSO = 10
_PRIORITIES = ("urgent", "high", "medium", "low")
_UNTIL = time(20)
_TITLES = {
    "tomorrow": "Due tomorrow",
    "today": "Due today",
    "overdue": "Overdue",
    "week": "Due in one week",
    "also": "Also due soon",
}
_SECTION_OF_STAGE = {"D1": "tomorrow", "D0": "today", "OV": "overdue", "D7": "week"}


@dataclass(frozen=True, slots=True)
class DueGoal:
    """An open goal with its due date in the user's calendar."""

    goal: Goal
    due: date


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one candidate. ``stages``: used stage keys, and whether that message stands."""

    user: User
    goals: tuple[DueGoal, ...]
    stages: Mapping[str, bool]


async def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[Page]:
    """Candidates in pages of 1,000, by user id."""
    while True:
        zones = None if tick.zones is None else list(tick.zones)
        rows = await connection.fetch(
            _SQL["page"], after, tick.as_of, zones, tick.user_id, tick.clock_zone, _PAGE
        )
        if not rows:
            return
        after = rows[-1]["id"]
        yield Page([_facts(row) for row in rows], after, len(rows))


def _facts(row: asyncpg.Record) -> Facts:
    goals = tuple(
        DueGoal(replica.goal_from_json(found), date.fromisoformat(found["due"]))
        for found in row["goals"] or ()
    )
    return Facts(replica.user_from_row(row), goals, row["stages"] or {})


def decide(facts: Facts, tick: Tick) -> Decision:
    """The message of the user's day, or why there is none."""
    today = tick.local_date(facts.user.timezone)
    staged = [(goal, stage) for goal in facts.goals if (stage := _stage(goal, today, facts.stages, tick))]
    if not staged:
        used = any(_keys(goal) & facts.stages.keys() for goal in facts.goals)
        return Skip(facts.user.id, *(_SAID if used else _QUIET))
    told = {goal.goal.id for goal, _ in staged}
    others = sorted((g for g in facts.goals if g.goal.id not in told and today <= g.due), key=_order)
    return Message(
        user_id=facts.user.id,
        kind=Kind.DEADLINES,
        dedupe_key=f"goalDeadlines:{facts.user.id}:{today}",
        template="goal_deadlines",
        zone=str(tick.zone_of(facts.user.timezone)),
        local_date=today,
        facts=_mail(facts.user.name, today, _sections(staged, others, today), max(len(others) - _ALSO, 0)),
        expires_at=_useful_until(today, tick.zone_of(facts.user.timezone)),
        stages=tuple(_key(goal, stage) for goal, stage in staged),
        in_app=_in_app(staged),
    )


_SAID = (Reason.ALREADY_SENT, "Every stage that its goals have reached was announced before.")
_QUIET = (Reason.NOT_DUE, "None of the goals is due tomorrow, today, in seven days, or newly overdue.")


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
    priority = goal.goal.priority
    rank = _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)
    return goal.due, rank, goal.goal.title


def _sections(
    staged: Sequence[tuple[DueGoal, str]], others: Sequence[DueGoal], today: date
) -> list[dict[str, Any]]:
    groups: dict[str, list[DueGoal]] = {key: [] for key in _TITLES}
    for goal, stage in sorted(staged, key=lambda pair: _order(pair[0])):
        groups[_SECTION_OF_STAGE[stage]].append(goal)
    groups["also"] = list(others[:_ALSO])
    return [
        {"key": key, "title": _TITLES[key], "goals": [_shown(goal, today) for goal in goals]}
        for key, goals in groups.items()
        if goals
    ]


def _shown(goal: DueGoal, today: date) -> dict[str, Any]:
    return {
        "id": goal.goal.id,
        "title": shorten(goal.goal.title, 100) or "Untitled goal",
        "due": goal.due.isoformat(),
        "when": when(goal.due, today),
        "progress": None if goal.goal.progress is None else round(min(max(goal.goal.progress, 0), 100)),
        "progress_text": progress_text(goal.goal),
        "url_path": f"/goals/{goal.goal.id}",
    }


def when(due: date, today: date) -> str:
    """The distance in words: ``today``, ``in 1 day``, ``3 days ago``."""
    days = (due - today).days
    unit = "day" if abs(days) == 1 else "days"
    if days == 0:
        return "today"
    return f"in {days} {unit}" if days > 0 else f"{-days} {unit} ago"


def progress_text(goal: Goal) -> str | None:
    """``3 / 10 books (30 %)``, or the per cent alone, or None when nothing is known."""
    if goal.progress is None:
        return None
    percent = f"{round(min(max(goal.progress, 0), 100))} %"
    if goal.target_value is None or goal.current_value is None:
        return percent
    unit = f" {shorten(goal.unit, 20)}" if goal.unit else ""
    return f"{goal.current_value:g} / {goal.target_value:g}{unit} ({percent})"


def _mail(name: str, today: date, sections: list[dict[str, Any]], more: int) -> dict[str, Any]:
    """The facts that the templates print; subject and headline follow from the goals that are left."""
    goals = [(section["key"], goal) for section in sections for goal in section["goals"]]
    n = len(goals) + more
    tomorrow = sum(1 for key, _ in goals if key == "tomorrow")
    if n == 1:
        key, goal = goals[0]
        headline = f"{_TITLES[key]}: {goal['title']}"
    else:
        headline = f"{n} goals due soon" + (f", {tomorrow} tomorrow" if tomorrow else "")
    return {
        "name": name,
        "subject": headline,
        "headline": headline,
        "local_date": today.isoformat(),
        "sections": sections,
        "more": more,
    }


def _in_app(staged: Sequence[tuple[DueGoal, str]]) -> dict[str, Any]:
    first, stage = min(staged, key=lambda pair: (list(_SECTION_OF_STAGE).index(pair[1]), _order(pair[0])))
    title = _TITLES[_SECTION_OF_STAGE[stage]]
    rest = len(staged) - 1
    more = f" and {rest} more" if rest else ""
    alone = not rest
    return {
        "type": "goal_deadline",
        "title": title,
        "message": shorten(first.goal.title, 400) + more,
        "priority": "high" if stage in {"D1", "D0", "OV"} else "medium",
        "data": {"goalIds": [goal.goal.id for goal, _ in staged]},
        "action": {
            "type": "navigate",
            "url": f"/goals/{first.goal.id}" if alone else "/goals",
            "buttonText": "Open goal" if alone else "Open goals",
        },
    }


def revalidate(facts: dict[str, Any], open_goals: frozenset[str]) -> dict[str, Any] | None:
    """Take out the goals that are no longer open. None when no stage that triggered the message is left."""
    sections = [
        {**section, "goals": [goal for goal in section["goals"] if goal["id"] in open_goals]}
        for section in facts["sections"]
    ]
    sections = [section for section in sections if section["goals"]]
    if all(section["key"] == "also" for section in sections):
        return None
    return _mail(facts["name"], date.fromisoformat(facts["local_date"]), sections, facts["more"])


def _useful_until(day: date, zone: ZoneInfo) -> datetime:
    return to_instant(datetime.combine(day, _UNTIL), zone)


JOB = Job(
    type=JobType.REMINDER,
    name="goalDeadlines",
    schedule="0 9 * * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: datetime.combine(local.date(), _UNTIL),
    read=read,
    decide=decide,
    kind=Kind.DEADLINES,
    revalidate=revalidate,
    timeout=timedelta(minutes=30),
)
