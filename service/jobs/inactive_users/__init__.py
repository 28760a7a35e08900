"""inactiveUsers: at most three reminders for users who have been away.

n = D - the local date of the last activity. Steps at n = 3, 7, 14, each on the first eligible day before the
next one, the last until n = 21. Users who never began get only the first step, with its own text; n counts
from the signup. After three absences in a row without a reaction they get none for half a year.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from service.analytics.absence import HISTORIC_DAYS, Episode, silent_until, step_due
from service.analytics.streak import longest_streak
from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Goal, User
from service.engine import queries
from service.engine.job import CatchUp, TimeMode
from service.engine.run import Tick
from service.engine.schedule import to_instant
from service.jobs.inactive_users.samples import SAMPLES
from service.messages.decision import Decision, Message, Skip
from service.messages.goals import due_on, goal_facts, goals_now, order
from service.messages.kind import N_, MessageKind, Purpose
from service.messages.reason import Reason
from service.messages.reminder import FactsPage, Reminder, Revalidated, dates, pages

_SQL = queries.load(__file__)
_UNTIL = time(20)

KIND = MessageKind(
    name="inactive",
    template="inactive_users",
    label=N_("Reminders after a pause"),
    hint=N_("A few, when you have not been here for days"),
    reason=N_("You get this because you have an account and reminders after a pause are on."),
    stop=N_("Unsubscribe from reminders after a pause"),
    purpose=Purpose.NUDGE,
    in_app_type="goal_reminder",
    mail=Path(__file__).parent / "mail",
    samples=SAMPLES,
    position=40,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the job knows about a candidate.

    ``away_since``: the local date of the last activity, or of the signup for users who never began (then
    ``last_activity`` is None). ``sent``: steps of this absence. ``episodes``: earlier absences, ascending.
    """

    user: User
    last_activity: datetime | None
    away_since: date | None
    sent: frozenset[int]
    episodes: tuple[Episode, ...]
    active_dates: frozenset[date]
    moved: frozenset[date]
    goals: tuple[Goal, ...]


def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
    """Candidates in pages, by user id."""
    return pages(connection, _SQL["page"], tick, after, _facts, KIND)


def _facts(row: asyncpg.Record) -> Facts:
    away_since = row["away_since"]
    sent: frozenset[int] = frozenset()
    earlier = []
    for episode, steps, last_on, answered in row["episodes"] or ():
        start = date.fromisoformat(episode)
        if start == away_since:
            sent = frozenset(steps)
        else:
            earlier.append(Episode(start, date.fromisoformat(last_on), answered))
    return Facts(
        user=replica.user_from_row(row),
        last_activity=row["last_activity"],
        away_since=away_since,
        sent=sent,
        episodes=tuple(earlier),
        active_dates=dates(row["active_dates"]),
        moved=dates(row["moved"]),
        goals=tuple(replica.goal_from_json(goal) for goal in row["goals"] or ()),
    )


def decide(facts: Facts, tick: Tick) -> Decision:
    """The step that the absence has reached, or why there is no message."""
    user = facts.user
    today = tick.local_date(user.timezone)
    if facts.away_since is None:
        return Skip(user.id, Reason.NOT_DUE, "Neither activity nor the date of the signup is known.")
    away = (today - facts.away_since).days
    steps = tick.rules.inactive_steps
    step = step_due(away, steps)
    if step is None:
        if away > HISTORIC_DAYS:
            return Skip(user.id, Reason.HISTORIC, f"Away for {away} days.")
        return Skip(user.id, Reason.NOT_DUE, f"Away for {away} days: no step is due.")
    if not tick.force and (skip := _skip(facts, step, today)):
        return skip
    return _message(facts, step, away, today, tick)


def _skip(facts: Facts, step: int, today: date) -> Skip | None:
    user_id = facts.user.id
    if facts.last_activity is None and step > 1:
        return Skip(user_id, Reason.NOT_DUE, "Who never began is reminded once.")
    if any(sent >= step for sent in facts.sent):
        return Skip(user_id, Reason.ALREADY_SENT, f"Step {step} of this absence was sent.")
    if until := silent_until(facts.episodes, today):
        return Skip(user_id, Reason.PAUSED_UNTIL, f"Three absences without an answer: silence until {until}.")
    return None


def _message(facts: Facts, step: int, away: int, today: date, tick: Tick) -> Message:
    user = facts.user
    zone = tick.zone_of(user.timezone)
    variant = "never_began" if facts.last_activity is None else f"step{min(step, 3)}"
    if variant != "never_began" and step == len(tick.rules.inactive_steps):
        variant = "step3"
    due = sorted(((goal, due_on(goal, zone)) for goal in facts.goals), key=lambda pair: order(*pair))
    mail_facts: dict[str, Any] = {
        "local_date": today.isoformat(),
        "variant": variant,
        "days_away": away,
        "last_activity": _last_activity(facts, tick),
        "longest_streak": longest_streak(facts.active_dates, facts.moved),
        "goals": [goal_facts(goal, day, today) for goal, day in due],
        "goal_ids": [goal.id for goal, _ in due],
        "url_path": "/timer" if variant == "never_began" else "/dashboard",
    }
    return Message(
        user_id=user.id,
        kind=KIND,
        dedupe_key=f"inactiveUsers:{user.id}:{facts.away_since}:{step}",
        zone=str(zone),
        local_date=today,
        facts=mail_facts,
        expires_at=to_instant(datetime.combine(today, _UNTIL), zone),
        in_app={
            "priority": "low",
            "data": {"daysAway": away},
            "url": mail_facts["url_path"],
            "facts": {"variant": variant, "days_away": away},
        },
    )


def _last_activity(facts: Facts, tick: Tick) -> str | None:
    """The instant of the last activity, or of the signup; None: who is forced gets it in any case."""
    since = facts.last_activity or facts.user.created_at
    return None if tick.force or since is None else since.isoformat()


def revalidate(facts: dict[str, Any], current: DashboardState) -> dict[str, Any] | Revalidated | None:
    """The goals as they are now. None: the person has been there since the slot."""
    if (last_activity := facts.get("last_activity")) is not None:
        if current.active_after(current.question.slot):
            return None
        if current.active_after(datetime.fromisoformat(last_activity)):
            return Revalidated.DECIDE_AGAIN
    return {**facts, "goals": goals_now(facts["goals"], current, date.fromisoformat(facts["local_date"]))}


JOB = Reminder(
    name="inactiveUsers",
    about="A few words to somebody who has been away, at most three times, then silence.",
    schedule="0 10 * * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: datetime.combine(local.date(), _UNTIL),
    read=read,
    decide=decide,
    kind=KIND,
    needs=frozenset({"users.email", "timer_sessions", "goals.status"}),
    revalidate=revalidate,
    recent=timedelta(days=HISTORIC_DAYS),
)
