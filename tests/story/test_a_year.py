"""A year of many people, slot by slot: each message, each silence and each figure as plain counting says.

The clock jumps from slot to slot through clock changes, travels and holidays; the real trigger, runner and
delivery work on the real database. Beside them an oracle keeps its own copy of what the dashboard told and
says for every slot who gets what, and why others get nothing; it shares no rule with the service.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.dashboard import replica
from service.dashboard.model import Goal, TimerSession, User
from service.engine.runner import Runner
from service.engine.schedule import Schedule
from service.engine.trigger import TriggerLoop, timing_of
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from service.zones import zone_of
from tests.given import Scripted, World, accepted, refused
from tests.story.population import (
    DAY,
    MORE_ZONES,
    ZONES,
    Event,
    Gone,
    Override,
    Own,
    Person,
    instant,
    populate,
)  # fmt: skip

JOBS = {
    "reminder.goalDeadlines": ("deadlines", 9),
    "reminder.inactiveUsers": ("inactive", 10),
    "reminder.dailyCheck": ("daily", 18),
    "reminder.weeklyReview": ("weekly", 19),
    "reminder.monthlyReport": ("monthly", 9),
}
_LOOKED_AT = {"daily": DAY, "inactive": 30 * DAY}
"""Sessions that began so long before the slot are looked at again before sending."""
_LOST = {"skipped", "missed", "expired", "cancelled", "failed"}
_LONG = 35 * DAY
"""Across the changes of the clocks in America and in Europe, with four times as many people."""
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_NO_SUCH = "550 5.1.1 no such mailbox"


# ── What is known, and what follows from it ─────────────────────────────────────────────────────────────────


@dataclass
class Told:
    """A message that should exist."""

    slot: datetime
    job: str
    user: str
    kind: str
    key: str
    channel: str
    local_date: date
    zone: str
    not_before: datetime
    facts: dict[str, Any]
    stages: tuple[str, ...] = ()
    state: str = "planned"
    reason: str | None = None
    last: datetime | None = None
    """The person's last activity, as it was known at the slot."""

    @property
    def stands(self) -> bool:
        return self.state not in _LOST


@dataclass
class Known:
    """One person as the dashboard's copy and the recipient's own settings have it at this moment."""

    id: str
    user: User | None = None
    own: Own | None = None
    overrides: dict[tuple[str, str], bool] = field(default_factory=dict)
    zones: list[tuple[datetime, str]] = field(default_factory=list)
    sessions: dict[str, TimerSession] = field(default_factory=dict)
    days: dict[str, date] = field(default_factory=dict)
    goals: dict[str, Goal] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    addresses: set[str] = field(default_factory=set)

    @property
    def zone(self) -> str:
        return self.zones[-1][1]

    def day_then(self, at: datetime) -> date:
        """The local date of an instant where the person was at that instant."""
        zone = next(zone for since, zone in reversed(self.zones) if since <= at)
        return at.astimezone(zone_of(zone)).date()

    def learn(self, event: Event) -> None:
        record = event.record
        match record:
            case User():
                self.user = record
            case Own():
                self.own = record
            case Override():
                self.overrides[record.kind, record.channel] = record.enabled
            case TimerSession():
                self.sessions[record.id] = record
            case Goal():
                self.goals[record.id] = record
            case Gone(table="users"):
                self.user = None
            case Gone(table="goals"):
                del self.goals[record.id]
            case Gone():
                del self.sessions[record.id]
        if self.user:
            here = (self.own.timezone if self.own else None) or self.user.timezone
            if not self.zones or self.zones[-1][1] != here:
                self.zones.append((event.at if self.zones else _BEGINNING, here))

    def day(self, session: TimerSession) -> date:
        """The date on which a session began; it stays what it is, wherever the person goes."""
        if session.id not in self.days:
            self.days[session.id] = self.day_then(session.started_at)
        return self.days[session.id]

    def began(self, at: datetime) -> list[tuple[date, TimerSession]]:
        return [(self.day(s), s) for s in self.sessions.values() if s.started_at <= at]

    def active_dates(self, at: datetime) -> set[date]:
        seconds: Counter[date] = Counter()
        for day, s in self.began(at):
            if s.focus and s.status in {"completed", "abandoned"}:
                seconds[day] += s.focus_seconds
        return {day for day, total in seconds.items() if total >= 60}

    def moved_on(self) -> set[date]:
        return {since.astimezone(zone_of(zone)).date() for since, zone in self.zones[1:]}

    def last_activity(self, at: datetime) -> datetime | None:
        assert self.user is not None
        acts: list[datetime | None] = []
        for s in self.sessions.values():
            acts += [s.started_at, s.ended_at, s.updated_at]
        for g in self.goals.values():
            acts += [g.updated_at, g.completed_at]
        login, signup = self.user.last_login_at, self.user.created_at
        if login and (signup is None or login - signup > timedelta(seconds=60)):
            acts.append(login)
        return max((act for act in acts if act and act <= at), default=None)

    def acts_since(self, since: datetime) -> list[datetime]:
        """Log-ins, and what happened in the sessions that began since then."""
        user, acts = self.user, []
        if user and user.last_login_at:
            at_signup = user.created_at and user.last_login_at <= user.created_at + timedelta(seconds=60)
            acts += [] if at_signup else [user.last_login_at]
        for s in self.sessions.values():
            if s.started_at >= since:
                acts += [act for act in (s.started_at, s.ended_at, s.updated_at) if act]
        return acts

    @property
    def quiet(self) -> tuple[time, time] | None:
        if self.own and self.own.quiet:
            return self.own.quiet
        theirs = self.user.preferences.quiet if self.user else None
        return (theirs.start, theirs.end) if theirs else None


@lru_cache(maxsize=10_000)
def _is_slot(kind: str, hour: int, zone: str, at: datetime) -> bool:
    here = at.astimezone(zone_of(zone)).date()
    for day in (here - DAY, here, here + DAY):
        fits = {"weekly": day.isoweekday() == 7, "monthly": day.day == 1}.get(kind, True)
        if fits and instant(day, time(hour), zone) == at:
            return True
    return False


def _is_quiet(quiet: tuple[time, time] | None, at: datetime, zone: str) -> bool:
    if quiet is None:
        return False
    (begin, end), now = quiet, at.astimezone(zone_of(zone)).time()
    return begin <= now < end if begin <= end else not end <= now < begin


def _streak(done: set[date], last: date, moved: set[date]) -> int:
    """Count backwards from a date; one date may be missing where the zone changed in it or right after."""
    count, day = 0, last
    while True:
        if day in done:
            count += 1
        elif not ({day, day + DAY} & moved and day - DAY in done):
            return count
        day -= DAY


def _current_streak(done: set[date], today: date, moved: set[date]) -> int:
    return _streak(done, today if today in done else today - DAY, moved)


@dataclass
class Counted:
    """A span of dates, counted by hand."""

    seconds: dict[date, int]
    sessions: int
    active: int

    @property
    def as_told(self) -> dict[str, int]:
        return {
            "focus_seconds": sum(self.seconds.values()),
            "sessions": self.sessions,
            "active_days": self.active,
        }


def _count(who: Known, first: date, last: date, at: datetime) -> Counted:
    seconds = {first + n * DAY: 0 for n in range((last - first).days + 1)}
    sessions = 0
    for day, s in who.began(at):
        if not first <= day <= last:
            continue
        if s.focus and s.status in {"completed", "abandoned"}:
            seconds[day] += s.focus_seconds
        sessions += s.focus and s.status == "completed"
    return Counted(seconds, sessions, sum(total >= 60 for total in seconds.values()))


def _due(goal: Goal, zone: str) -> date | None:
    return goal.due_at.astimezone(zone_of(zone)).date() if goal.due_at else goal.due_date


# ── The oracle ──────────────────────────────────────────────────────────────────────────────────────────────


class Oracle:
    """Says for every slot what should happen. ``silences``: (slot, job, person) to the reason."""

    def __init__(self, people: Sequence[Person]) -> None:
        self.known = {person.id: Known(person.id) for person in people}
        self.bounces = {f"{p.id}@example.org": p.bounces_from for p in people if p.bounces_from}
        self.told: dict[tuple[str, str], Told] = {}
        self.waiting: list[Told] = []
        """Mails that are planned and not sent yet."""
        self.silences: dict[tuple[datetime, str, str], str] = {}
        self.suppressed: set[str] = set()
        self.looked: Counter[str] = Counter()

    def slot(self, job: str, at: datetime) -> None:
        """Everybody whose own clock shows the job's hour now."""
        kind, hour = JOBS[job]
        for who in self.known.values():
            if who.user and self._rings(who, kind, hour, at):
                found = getattr(self, f"_{kind}")(who, at)
                self.looked[kind] += found is not None
                if found:
                    self._say(who, job, at, found)

    @staticmethod
    def _rings(who: Known, kind: str, hour: int, at: datetime) -> bool:
        own = who.own.hours.get(kind, hour) if who.own else hour
        return _is_slot(kind, own, who.zone, at)

    def _say(self, who: Known, job: str, at: datetime, found: "str | Words") -> None:
        if isinstance(found, str):
            self.silences[at, job, who.id] = found
            return
        first_no = None
        for channel in found.channels:
            no = self._forbidden(who, JOBS[job][0], channel, at) or self._too_much(
                who, job, channel, found, at
            )
            when = at
            while not no and _is_quiet(who.quiet, when, who.zone):
                when += timedelta(minutes=1)
            if not no and when > at and when >= found.until:
                no = "quiet_hours"
            if no:
                first_no = first_no or no
                continue
            if (found.key, channel) in self.told:
                continue
            local = at.astimezone(zone_of(who.zone)).date()
            told = Told(at, job, who.id, JOBS[job][0], found.key, channel, local, who.zone, when, found.facts,
                        found.stages, "planned" if channel == "email" else "sent",
                        last=who.last_activity(at))  # fmt: skip
            self.told[found.key, channel] = told
            if channel == "email":
                self.waiting.append(told)
            who.told.append(told)
        if first_no:
            self.silences[at, job, who.id] = first_no

    def _forbidden(self, who: Known, kind: str, channel: str, at: datetime) -> str | None:
        user = who.user
        assert user is not None
        if not user.active:
            return "inactive_account"
        if channel == "email" and (not user.email or "@" not in user.email):
            return "no_email"
        wishes = user.preferences
        for key in ((kind, channel), (kind, "*"), ("*", channel), ("*", "*")):
            if key in who.overrides:
                if not who.overrides[key]:
                    return "pref_email_off" if key[0] == "*" and channel == "email" else "pref_category_off"
                break
        else:
            if wishes.email is False and channel == "email":
                return "pref_email_off"
            reminders_off = wishes.reminders is False and kind not in {"weekly", "monthly"}
            kind_off = any(k == kind and not on for k, on in wishes.kinds.items())
            if reminders_off or kind_off or (wishes.in_app is False and channel == "in_app"):
                return "pref_category_off"
        if who.own and who.own.paused_until and at < who.own.paused_until:
            return "paused_until"
        return "suppressed_address" if channel == "email" and user.email in self.suppressed else None

    @staticmethod
    def _too_much(who: Known, job: str, channel: str, found: "Words", at: datetime) -> str | None:
        kind, today = JOBS[job][0], at.astimezone(zone_of(who.zone)).date()
        others = [t for t in who.told if t.channel == channel and t.key != found.key and t.stands]
        if channel == "in_app":
            return "cap_daily" if any(t.kind == kind and t.local_date == today for t in others) else None
        if kind not in {"daily", "inactive"}:
            return None
        days = [t.local_date for t in others if t.kind in {"daily", "inactive"}]
        if today in days:
            return "cap_daily"
        return "cap_weekly" if sum(abs((day - today).days) < 7 for day in days) >= 3 else None

    # ── The six jobs, naively ──

    def _deadlines(self, who: Known, at: datetime) -> "str | Words | None":
        today = at.astimezone(zone_of(who.zone)).date()
        sections: dict[str, set[str]] = defaultdict(set)
        stages: list[str] = []
        seen = said = False
        used = {stage: t for t in reversed(who.told) for stage in t.stages}
        used |= {stage: t for t in who.told if t.channel == "email" for stage in t.stages}
        for goal in who.goals.values():
            due = _due(goal, who.zone)
            reached = goal.target_value and (goal.current_value or 0) >= goal.target_value
            if not goal.open or reached or due is None or not -30 <= (due - today).days <= 7:
                continue
            seen = True
            keys = {stage: f"goalDeadlines:{goal.id}:{due}:{stage}" for stage in ("D7", "D1", "D0", "OV")}
            said |= any(key in used for key in keys.values())
            stage = {7: "D7", 1: "D1", 0: "D0"}.get((due - today).days, "OV" if due < today else "")
            told_yesterday = stage == "D0" and keys["D1"] in used and used[keys["D1"]].stands
            if stage and keys[stage] not in used and not told_yesterday:
                stages.append(keys[stage])
                sections[stage].add(goal.id)
        if not seen:
            return None
        if not stages:
            return "already_sent" if said else "not_due"
        until = instant(today, time(20), who.zone)
        return Words(f"goalDeadlines:{who.id}:{today}", until, {"sections": dict(sections)}, tuple(stages))

    def _inactive(self, who: Known, at: datetime) -> "str | Words | None":
        assert who.user is not None
        last = who.last_activity(at)
        since = last or who.user.created_at
        if since is None or not timedelta(days=1) <= at - since <= timedelta(days=35):
            return None
        today, gone = at.astimezone(zone_of(who.zone)).date(), who.day_then(since)
        n = (today - gone).days
        step = 1 if 3 <= n < 7 else 2 if 7 <= n < 14 else 3 if 14 <= n <= 21 else None
        if step is None:
            return "historic" if n > 30 else "not_due"
        if last is None and step > 1:
            return "not_due"
        absences: dict[str, list[Told]] = defaultdict(list)
        for t in who.told:
            if t.kind == "inactive" and t.stands:
                absences[t.key.split(":")[2]].append(t)
        if any(int(t.key.split(":")[3]) >= step for t in absences.pop(str(gone), ())):
            return "already_sent"
        if self._silent(who, list(absences.values()), today):
            return "paused_until"
        variant = f"step{step}" if last else "never_began"
        until = instant(today, time(20), who.zone)
        facts = {"variant": variant, "days_away": n}
        return Words(f"inactiveUsers:{who.id}:{gone}:{step}", until, facts)

    @staticmethod
    def _silent(who: Known, absences: list[list[Told]], today: date) -> bool:
        unanswered = []
        for absence in absences:
            wrote_at = max(t.not_before for t in absence)
            wrote_on = max(t.local_date for t in absence)
            acts = [s.started_at for s in who.sessions.values()]
            acts += [g.updated_at for g in who.goals.values() if g.updated_at]
            answered = any(wrote_at <= act <= wrote_at + 7 * DAY for act in acts)
            if answered or today > wrote_on + 7 * DAY:
                unanswered.append((wrote_on, not answered))
        last = sorted(unanswered)[-3:]
        return len(last) == 3 and all(no for _, no in last) and today < last[-1][0] + 180 * DAY

    def _daily(self, who: Known, at: datetime) -> "str | Words | None":
        assert who.user is not None
        last = who.last_activity(at)
        if last is None or at - last >= 9 * DAY:
            return None
        today = at.astimezone(zone_of(who.zone)).date()
        if who.user.created_at and at - who.user.created_at < DAY:
            return "too_new"
        if (today - who.day_then(last)).days > 7:
            return "not_due"
        done = who.active_dates(at)
        busy = [s for s in who.sessions.values() if s.focus and s.status in {"running", "paused"}]
        if today in done or any(at - DAY <= s.started_at <= at for s in busy):
            return "not_due"
        streak = _current_streak(done, today, who.moved_on())
        recent = {day for day, _ in who.began(at)} & {today - n * DAY for n in range(3)}
        variant = "streak" if streak >= 3 else "nudge" if recent else "gentle"
        if variant == "gentle":
            gentle = [
                t.local_date
                for t in who.told
                if t.key.startswith("dailyCheck:")
                and t.channel == "email"
                and t.stands
                and t.facts["variant"] == "gentle"
                and t.local_date < today
            ]
            if any((today - day).days < 3 for day in gentle):
                variant = "nudge"
            elif self._inactive_writes(who, last, today):
                return "superseded_by"
        until = instant(today, time(21), who.zone)
        channels = ("in_app",) if variant == "nudge" else ("email", "in_app")
        facts = {"variant": variant, "streak": streak}
        return Words(f"dailyCheck:{who.id}:{today}", until, facts, channels=channels)

    @staticmethod
    def _inactive_writes(who: Known, last: datetime, today: date) -> bool:
        """Whether inactiveUsers has a step on this day or the next."""
        gone = who.day_then(last)
        written = [t for t in who.told if t.kind == "inactive"]
        if any(t.local_date == today for t in written):
            return True
        n = (today + DAY - gone).days
        step = 1 if 3 <= n < 7 else 2 if 7 <= n < 14 else 3 if 14 <= n <= 21 else 0
        episode = {int(t.key.split(":")[3]) for t in written if t.key.split(":")[2] == str(gone)}
        return step > 0 and max(episode, default=0) < step

    def _weekly(self, who: Known, at: datetime) -> "str | Words | None":
        assert who.user is not None
        today = at.astimezone(zone_of(who.zone)).date()
        if who.user.created_at and at - who.user.created_at < 3 * DAY:
            return "too_new"
        first = today - 6 * DAY
        while first.isoweekday() % 7 != who.user.preferences.week_start:
            first -= DAY
        week = _count(who, first, first + 6 * DAY, at)
        before = _count(who, first - 7 * DAY, first - DAY, at)
        zone = zone_of(who.zone)
        finished = [g for g in who.goals.values() if g.completed_at
                    and first <= g.completed_at.astimezone(zone).date() <= first + 6 * DAY]  # fmt: skip
        if not (week.active or before.active or finished):
            return "no_content"
        reports = [t for t in who.told if t.kind == "weekly" and t.channel == "email" and t.stands
                   and 5 <= (today - t.local_date).days <= 9]  # fmt: skip
        final = None
        if reports:
            then = max(reports, key=lambda t: t.local_date).facts["figures"]
            more = abs(before.as_told["focus_seconds"] - then["focus_seconds"]) >= 600
            final = before.as_told if more or before.sessions != then["sessions"] else None
        facts = {
            "first": str(first),
            "last": str(first + 6 * DAY),
            "figures": week.as_told,
            "days": [(str(day), seconds) for day, seconds in week.seconds.items()],
            "streak": _current_streak(who.active_dates(at), today, who.moved_on()),
            "goals_done": len(finished),
            "final": final,
        }
        until = instant(today + DAY, time(12), who.zone)
        return Words(f"weeklyReview:{who.id}:{first}", until, facts)

    def _monthly(self, who: Known, at: datetime) -> "str | Words | None":
        assert who.user is not None
        zone = zone_of(who.zone)
        today = at.astimezone(zone).date()
        last = today.replace(day=1) - DAY
        first = last.replace(day=1)

        def on(moment: datetime | None) -> date | None:
            return moment.astimezone(zone).date() if moment else None

        signup = on(who.user.created_at)
        if signup and signup > last - 13 * DAY:
            return "too_new"
        month = _count(who, first, last, at)
        before = _count(who, (first - DAY).replace(day=1), first - DAY, at)
        goals = list(who.goals.values())
        created = [g for g in goals if (day := on(g.created_at)) and first <= day <= last]
        finished = [g for g in goals if (day := on(g.completed_at)) and first <= day <= last]
        there = [g for g in goals if (on(g.created_at) or date.min) < first
                 and (g.open or (on(g.completed_at) or date.min) >= first)]  # fmt: skip
        overdue = [g for g in goals if g.open and (due := _due(g, who.zone)) and due <= last]
        if not (month.active or before.active or finished or created):
            return "no_content"
        base = len(there) + len(created)
        done = {day for day in who.active_dates(at) if first <= day <= last}
        facts = {
            "first": str(first),
            "last": str(last),
            **month.as_told,
            "goals_created": len(created),
            "goals_done": len(finished),
            "goals_overdue": len(overdue),
            "goals_rate": round(100 * len(finished) / base) if base else None,
            "longest_streak": max((_streak(done, day, who.moved_on()) for day in done), default=0),
            "weeks": sum(month.seconds.values()),
            "days": len(month.seconds),
        }
        until = instant(today.replace(day=3), time(20), who.zone)
        return Words(f"monthlyReport:{who.id}:{first:%Y-%m}", until, facts)

    # ── Sending ──

    def deliver(self, now: datetime) -> None:
        """What becomes of the mails that are due: all of them are taken in one batch."""
        refused_now: set[str] = set()
        due = [told for told in self.waiting if told.not_before <= now]
        self.waiting = [told for told in self.waiting if told.not_before > now]
        for told in due:
            who = self.known[told.user]
            no = self._forbidden(who, told.kind, "email", now) if who.user else "revalidated_away"
            if not no and told.kind == "deadlines":
                left = {s: ids & self._open(who) for s, ids in told.facts["sections"].items()}
                told.facts = {"sections": {s: ids for s, ids in left.items() if ids}}
                no = None if told.facts["sections"] else "revalidated_away"
            no = no or self._contradiction(who, told, now)
            address = who.user.email or "" if who.user else ""
            if not no and self._moved(who, told):
                self._give_back(told)
            elif no:
                told.state, told.reason = "skipped", no
            elif self.will_bounce(address, now):
                told.state, told.reason = "failed", "hard_bounce"
                refused_now.add(address)
            else:
                told.state = "sent"
        self.suppressed |= refused_now

    @staticmethod
    def _moved(who: Known, told: Told) -> bool:
        """Whether the clocks of the person's present zone showed something else at the slot."""
        here, there = zone_of(who.zone), zone_of(told.zone)
        return told.slot.astimezone(here).utcoffset() != told.slot.astimezone(there).utcoffset()

    def _give_back(self, told: Told) -> None:
        """The slot of the present zone decides: the key is free for it."""
        for channel in ("email", "in_app"):
            if ended := self.told.pop((told.key, channel), None):
                ended.state, ended.reason = "skipped", "tz_change"
                self.told[f"{told.key}:tz", channel] = ended

    def _contradiction(self, who: Known, told: Told, now: datetime) -> str | None:
        """Why what is known now ends a word to somebody who seemed to be away."""
        if told.kind not in {"daily", "inactive"}:
            return None
        if any(told.slot < act <= now for act in who.acts_since(told.slot - _LOOKED_AT[told.kind])):
            return "revalidated_away"
        if told.kind == "daily":
            doubtful = self._focus_today(who, told)
        else:
            acts = who.acts_since(told.slot - _LOOKED_AT["inactive"])
            doubtful = told.last is None or any(act > told.last for act in acts)
        both = [t for t in who.told if t.key == told.key]
        states = [t.state for t in both]
        for t in both:  # for the decision they do not exist
            t.state = "skipped"
        again = getattr(self, f"_{told.kind}")(who, told.slot) if doubtful else None
        for t, state in zip(both, states, strict=True):
            t.state = state
        if not doubtful or isinstance(again, Words):
            return None
        if note := self.told.get((told.key, "in_app")):
            note.state, note.reason = "skipped", "revalidated_away"
        return "revalidated_away"

    @staticmethod
    def _focus_today(who: Known, told: Told) -> bool:
        """Whether there is a session that the job looks for again."""
        if told.local_date in who.moved_on():
            return False
        begin = instant(told.local_date, time(), told.zone)
        sessions = [s for s in who.sessions.values() if s.focus and s.started_at <= told.slot]
        return any(
            s.started_at >= begin
            if s.status == "completed"
            else s.status in {"running", "paused"} and s.started_at >= told.slot - DAY
            for s in sessions
        )

    def will_bounce(self, address: str, now: datetime) -> bool:
        return address in self.bounces and self.bounces[address] <= now

    @staticmethod
    def _open(who: Known) -> set[str]:
        return {goal.id for goal in who.goals.values() if goal.open}


@dataclass
class Words:
    """What should be said to somebody. ``until``: useful until then."""

    key: str
    until: datetime
    facts: dict[str, Any]
    stages: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("email", "in_app")


# ── The drive ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Life:
    """A simulation: the service and the oracle live through the same days."""

    world: World
    people: list[Person]
    start: datetime
    end: datetime
    attempts: Counter[int] = field(default_factory=Counter)
    now: datetime = _BEGINNING

    def __post_init__(self) -> None:
        self.oracle = Oracle(self.people)
        self.transport = Scripted(self._answer)
        self.world.jobs = {name: job for name, job in self.world.jobs.items() if name in JOBS}

    def _answer(self, envelope: Envelope) -> SendResult:
        self.attempts[envelope.id] += 1
        if self.oracle.will_bounce(envelope.recipient, self.now):
            return refused(envelope, SmtpPhase.RCPT, 550, _NO_SUCH)
        return accepted(envelope)

    def stops(self) -> list[tuple[datetime, set[str]]]:
        """Every instant at which some job is due somewhere, and those at which the clock must stand."""
        found: dict[datetime, set[str]] = defaultdict(set)
        zones = {zone for p in self.people for _, zone in p.trips}
        hours: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for event in (event for person in self.people for event in person.events):
            if event.exact:
                found[event.at]
            if isinstance(event.record, Own):
                for kind, hour in event.record.hours.items():
                    where = {zone for p in self.people if p.id == event.record.user_id for _, zone in p.trips}
                    hours[kind] |= {(zone, hour) for zone in where}
        for name, (kind, _) in JOBS.items():
            schedule = Schedule.parse(self.world.jobs[name].schedule)
            plans = [(zone, schedule) for zone in zones]
            plans += [(zone, schedule.at_hour(hour)) for zone, hour in hours[kind]]
            for zone, one in plans:
                for slot in one.slots(zone_of(zone), self.start, self.end):
                    found[slot.at].add(name)
        return sorted(found.items())

    async def live(self) -> None:
        events = sorted((e for p in self.people for e in p.events), key=lambda e: e.at)
        coming = iter(events)
        ahead = next(coming, None)
        await self._stop_the_clock()
        await self._stand(self.start)
        runner, ledger = await self.world.runner(), await self.world.ledger("trigger")
        delivery = self.world.delivery(self.transport, connections=1, batch=10_000)
        timings = {n: timing_of(j) for n, j in self.world.jobs.items()}
        bells = {
            name: TriggerLoop(ledger, {name: job}, timings, ZoneInfo("UTC"), asyncio.Event())
            for name, job in self.world.jobs.items()
        }
        for at, jobs in self.stops():
            await self._put_off(delivery, at)
            await self._stand(at)
            batch = []
            while ahead and ahead.at <= at:
                batch.append(ahead)
                ahead = next(coming, None)
            await self._learn(batch)
            for name in JOBS:
                if name in jobs:
                    await bells[name].sweep_once()
                    await self._run(runner)
                    self.oracle.slot(name, at)
            if jobs:
                await delivery.run_once()
                self.oracle.deliver(at)

    async def _stand(self, at: datetime) -> None:
        self.now = at
        await self.world.pool.execute("UPDATE stopped_clock SET at = $1", at)

    async def _stop_the_clock(self) -> None:
        """A table instead of a new function for each moment: tens of thousands would fill the catalogue."""
        await self.world.pool.execute(
            "CREATE TABLE stopped_clock (at timestamptz); INSERT INTO stopped_clock VALUES ('-infinity');"
            " CREATE OR REPLACE FUNCTION service.now() RETURNS timestamptz LANGUAGE sql VOLATILE"
            " AS 'SELECT at FROM public.stopped_clock'"
        )

    async def _run(self, runner: Runner) -> None:
        while await runner.run_one():
            pass

    async def _put_off(self, delivery: Any, until: datetime) -> None:
        """Stop where quiet hours end, if a message waits for it."""
        waiting = {told.not_before for told in self.oracle.waiting}
        for at in sorted(at for at in waiting if self.now < at < until):
            await self._stand(at)
            await delivery.run_once()
            self.oracle.deliver(at)

    async def _learn(self, events: Sequence[Event]) -> None:
        if not events:
            return
        async with self.world.pool.acquire() as connection:
            for event in events:
                self.oracle.known[_owner(event)].learn(event)
            records = [event.record for event in events]
            await replica.upsert_users(connection, [r for r in records if isinstance(r, User)])
            await replica.upsert_goals(connection, [r for r in records if isinstance(r, Goal)])
            sessions = [r for r in records if isinstance(r, TimerSession)]
            await replica.upsert_timer_sessions(connection, sessions)
            for event in events:
                await _note(connection, event.record)


def _owner(event: Event) -> str:
    record = event.record
    return record.id if isinstance(record, User) else record.user_id


async def _note(connection: Any, record: Any) -> None:
    match record:
        case Own():
            await connection.execute(
                "INSERT INTO service.recipient_setting AS s"
                " (user_id, timezone, quiet_start, quiet_end, hours, paused_until)"
                " VALUES ($1, $2, $3, $4, $5, $6)"
                " ON CONFLICT (user_id) DO UPDATE SET timezone = excluded.timezone,"
                " quiet_start = excluded.quiet_start, quiet_end = excluded.quiet_end, hours = excluded.hours,"
                " paused_until = excluded.paused_until",
                record.user_id,
                record.timezone,
                *(record.quiet or (None, None)),
                record.hours,
                record.paused_until,
            )
        case Override():
            await connection.execute(
                "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
                " VALUES ($1, $2, $3, $4, 'test')",
                record.user_id, record.kind, record.channel, record.enabled,
            )  # fmt: skip
        case Gone():
            await replica.delete(connection, record.table, [record.id])


# ── What was written ────────────────────────────────────────────────────────────────────────────────────────


def _shown(told: dict[str, Any], kind: str) -> dict[str, Any]:
    """The part of a mail's facts that the oracle speaks about."""
    match kind:
        case "deadlines":
            names = {"tomorrow": "D1", "today": "D0", "overdue": "OV", "week": "D7"}
            return {
                "sections": {
                    names[s["key"]]: {goal["id"] for goal in s["goals"]}
                    for s in told["sections"]
                    if s["key"] in names
                }
            }
        case "weekly":
            days = [(day["date"], day["seconds"]) for day in told["days"]]
            return {**told, "days": days}
        case "monthly":
            return {**told, "weeks": sum(week["seconds"] for week in told["weeks"])}
    return told


async def _deliveries(pool: asyncpg.Pool) -> list[asyncpg.Record]:
    return await pool.fetch(
        "SELECT d.*, r.nominal_at FROM service.delivery_with_state AS d"
        " JOIN service.job_run AS r ON r.id = d.run_id ORDER BY r.nominal_at, d.id"
    )


async def _silences(pool: asyncpg.Pool) -> dict[tuple[datetime, str, str], str]:
    rows = await pool.fetch(
        "SELECT r.nominal_at, d.job, d.user_id, d.reason FROM service.refusal_in_words AS d"
        " JOIN service.job_run AS r ON r.id = d.run_id"
    )
    return {(row["nominal_at"], row["job"], row["user_id"]): row["reason"] for row in rows}


def _differences(expected: dict[Any, Any], found: dict[Any, Any], most: int = 8) -> str:
    """The first keys at which two accounts of the same days part."""
    wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    wrong.sort(key=str)
    lines = [
        f"{key}:\n    expected {expected.get(key)}\n    found    {found.get(key)}" for key in wrong[:most]
    ]
    return "\n".join([f"{len(wrong)} differences", *lines]) if wrong else ""


def _expected(oracle: Oracle) -> dict[Any, Any]:
    return {
        (t.slot, key, channel): (t.job, t.user, t.local_date, t.zone, t.not_before, t.state, t.reason,
                                     t.facts if t.channel == "email" else {})
        for (key, channel), t in oracle.told.items()
    }  # fmt: skip


def _found(rows: Sequence[asyncpg.Record], oracle: Oracle) -> dict[Any, Any]:
    found = {}
    for row in rows:
        key = re.sub(r":tz\d+$", ":tz", row["dedupe_key"])
        told = oracle.told.get((key, row["channel"]))
        facts = _shown(row["facts"], row["kind"]) if row["channel"] == "email" else {}
        named = {name: facts.get(name) for name in told.facts} if told and facts else facts
        found[row["nominal_at"], key, row["channel"]] = (
            row["job"], row["user_id"], row["local_date"], row["zone"], row["not_before"], row["state"],
            row["reason"], named,
        )  # fmt: skip
    return found


async def _lived(pool: asyncpg.Pool, life: Life) -> None:
    """Everything that must be true of the days that were lived."""
    rows = await _deliveries(pool)
    states = await pool.fetch("SELECT DISTINCT state FROM service.job_run")
    assert {row["state"] for row in states} == {"succeeded"}
    assert not _differences(_expected(life.oracle), _found(rows, life.oracle)), _differences(
        _expected(life.oracle), _found(rows, life.oracle)
    )
    _keep_the_budget(rows)
    _really_happened(life, rows)
    silences = await _silences(pool)
    assert not _differences(life.oracle.silences, silences), _differences(life.oracle.silences, silences)


def _keep_the_budget(rows: Sequence[asyncpg.Record]) -> None:
    """Nudges by mail: one a local day, three in seven."""
    days = defaultdict(list)
    for row in rows:
        if row["channel"] == "email" and row["kind"] in {"daily", "inactive"} and row["state"] == "sent":
            days[row["user_id"]].append(row["local_date"])
    for person, told in days.items():
        assert len(told) == len(set(told)), person
        for day in told:
            assert sum(day <= other < day + 7 * DAY for other in told) <= 3, person


def _really_happened(life: Life, rows: Sequence[asyncpg.Record]) -> None:
    """The days held what they are meant to hold; otherwise they would prove little."""
    kinds = {row["kind"] for row in rows if row["channel"] == "email" and row["state"] == "sent"}
    assert kinds >= {"deadlines", "daily", "inactive", "weekly"}
    assert any(row["reason"] == "hard_bounce" for row in rows)
    assert any(len(person.trips) > 1 for person in life.people)
    assert any(person.away for person in life.people)
    reasons = set(life.oracle.silences.values())
    assert reasons >= {"pref_email_off", "pref_category_off", "paused_until", "superseded_by"}
    for zone in ("Europe/Berlin", "America/New_York"):
        offsets = {at.astimezone(zone_of(zone)).utcoffset() for at in (life.start, life.end)}
        assert len(offsets) == 2 or life.end - life.start > 200 * DAY


@pytest.mark.long
async def test_everybody_gets_what_they_should_and_nobody_anything_else(
    world: World, pool: asyncpg.Pool, long_form: bool
) -> None:
    start = datetime(2026, 3, 7, tzinfo=UTC)
    if long_form:
        people = populate(2026, 160, ZONES + MORE_ZONES, start, start + _LONG)
        life = Life(world, people, start, start + _LONG)
    else:
        people = populate(2026, 24, ZONES, start, start + 30 * DAY)
        life = Life(world, people, start, start + 30 * DAY + timedelta(hours=12))

    await life.live()

    await _lived(pool, life)
