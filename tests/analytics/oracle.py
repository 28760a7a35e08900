"""What the rollups must be, computed from scratch in plain Python: slow, short, and nothing shared with the
service but the records. Every figure is asked of the lists of users, zones, goals and sessions themselves.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

from service.dashboard.model import Goal, TimerSession, User
from service.zones import zone_of

DAY = timedelta(days=1)
ALWAYS = datetime.min.replace(tzinfo=UTC)
"""Since when the first zone of everybody is valid."""


@dataclass
class Truth:
    """Everything that is known. ``zones``: per user (since, IANA name), oldest first, also of those who left.

    ``departed``: accounts that were deleted, and when. ``reads``: (user, instant) of notifications that were
    read. ``service_zone``: of service days.
    """

    users: Sequence[User]
    zones: Mapping[str, Sequence[tuple[datetime, str]]]
    goals: Sequence[Goal]
    sessions: Sequence[TimerSession]
    reads: Sequence[tuple[str, datetime]] = ()
    service_zone: str = "UTC"
    departed: Sequence[tuple[User, datetime]] = ()

    # ── Local time ──────────────────────────────────────────────────────────────────────────────────────────

    def zone(self, user: str, at: datetime) -> ZoneInfo:
        """The zone that was valid for somebody at an instant."""
        return zone_of([name for since, name in self.zones[user] if since <= at][-1])

    def local(self, user: str, at: datetime) -> datetime:
        """The user's wall clock at an instant."""
        return at.astimezone(self.zone(user, at))

    def service_day(self, at: datetime) -> date:
        """The date at an instant in the service zone."""
        return at.astimezone(zone_of(self.service_zone)).date()

    @cached_property
    def accounts(self) -> list[User]:
        """All accounts that there are or were."""
        return [*self.users, *(user for user, _ in self.departed)]

    def signup(self, user: User) -> date | None:
        """The local date on which an account was made; None: nobody knows."""
        if user.created_at is None:
            return None
        known = user.id in self.zones
        return (self.local(user.id, user.created_at) if known else user.created_at.astimezone(UTC)).date()

    @cached_property
    def known_sessions(self) -> list[TimerSession]:
        """Sessions of people whose zone is known, living or gone, without rejected ones."""
        return [s for s in self.sessions if s.user_id in self.zones and s.status != "rejected"]

    @cached_property
    def rejected(self) -> list[TimerSession]:
        """Sessions of the same people that cannot be true."""
        return [s for s in self.sessions if s.user_id in self.zones and s.status == "rejected"]

    @cached_property
    def created(self) -> list[tuple[str, datetime, Goal]]:
        """Goals by creation."""
        return [(g.user_id, g.created_at, g) for g in self.goals if g.user_id in self.zones and g.created_at]

    @cached_property
    def reached(self) -> list[tuple[str, datetime, Goal]]:
        """Goals by completion."""
        return [(g.user_id, g.completed_at, g) for g in self.goals if g.user_id in self.zones and _done(g)]  # type: ignore[misc]

    # ── Days of users ───────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def days(self) -> dict[tuple[str, date], dict[str, Any]]:
        """(user, local date) -> the columns of service.user_day; dates without anything are absent."""
        sessions: dict[tuple[str, date], list[TimerSession]] = defaultdict(list)
        for s in self.known_sessions:
            sessions[s.user_id, self.local(s.user_id, s.started_at).date()].append(s)
        created = Counter((user, self.local(user, at).date()) for user, at, _ in self.created)
        reached = Counter((user, self.local(user, at).date()) for user, at, _ in self.reached)
        return {
            key: self._day(sessions.get(key, []), created[key], reached[key])
            for key in {*sessions, *created, *reached}
        }

    def _day(self, sessions: list[TimerSession], created: int, reached: int) -> dict[str, Any]:
        focus = [s for s in sessions if s.focus]
        hours: Counter[int] = Counter()
        for s in sessions:
            hours.update(self.hours(s))
        return {
            "started": len(sessions),
            "focus_seconds": sum(map(credited, sessions)),
            "completed": _count(focus, "completed"),
            "cancelled": _count(focus, "cancelled"),
            "abandoned": _count(focus, "abandoned"),
            "breaks": len(sessions) - len(focus),
            "tagged": sum(1 for s in sessions if s.tags),
            "linked": sum(1 for s in sessions if s.goal_id is not None),
            "rated": sum(1 for s in sessions if s.rating is not None),
            "rating_sum": sum(s.rating or 0 for s in sessions),
            "goals_created": created,
            "goals_completed": reached,
            "kinds": {
                kind: [
                    len(some := [s for s in sessions if s.kind == kind]),
                    _count(some, "completed"),
                    sum(map(credited, some)),
                ]
                for kind in {s.kind for s in sessions}
            },
            "hours": {str(hour): seconds for hour, seconds in hours.items() if seconds},
        }

    def hours(self, session: TimerSession) -> Counter[int]:
        """Credited seconds per local hour, in proportion to the time that lay in it, minute by minute.

        What has been credited up to an instant is rounded, so that the hours add up to the session.
        """
        total, start, zone = (
            credited(session),
            session.started_at,
            self.zone(session.user_id, session.started_at),
        )
        end = max(session.ended_at or start, start)
        if session.status == "abandoned":
            end = start + timedelta(seconds=session.focus_seconds)
        if end == start:
            return Counter({start.astimezone(zone).hour: total})
        found: Counter[int] = Counter()
        for lo, hi in _minutes(start, end):
            upto, before = (
                _half_up(Fraction(total * ((at - start) // _US), (end - start) // _US)) for at in (hi, lo)
            )
            found[lo.astimezone(zone).hour] += upto - before
        return found

    @cached_property
    def active(self) -> dict[str, set[date]]:
        """Per user the local dates on which a session started."""
        found: dict[str, set[date]] = defaultdict(set)
        for (user, day), row in self.days.items():
            if row["started"]:
                found[user].add(day)
        return dict(found)

    @cached_property
    def spans(self) -> dict[str, tuple[date, date]]:
        """Per user the first and the last active date."""
        return {user: (min(days), max(days)) for user, days in self.active.items()}

    def active_in(self, first: date, last: date) -> set[str]:
        """Who was active on a local date from first to last."""
        return {user for user, days in self.active.items() if any(first <= day <= last for day in days)}

    def _rows(self, first: date, last: date) -> list[tuple[str, date, dict[str, Any]]]:
        return [(user, day, row) for (user, day), row in self.days.items() if first <= day <= last]

    def first_local_date(self) -> date | None:
        """The earliest local date of anything."""
        signups = [day for user in self.accounts if (day := self.signup(user))]
        return min([*signups, *(day for _, day in self.days)], default=None)

    def first_instant(self) -> datetime | None:
        """The earliest instant of anything."""
        instants = [
            *(user.created_at for user in self.accounts if user.created_at),
            *(at for _, at, _ in [*self.created, *self.reached]),
            *(session.started_at for session in self.known_sessions),
        ]
        return min(instants, default=None)

    # ── Figures ─────────────────────────────────────────────────────────────────────────────────────────────

    def daily(self, day: date) -> dict[str, Any]:
        """A day of the service zone."""
        sessions = [s for s in self.known_sessions if self.service_day(s.started_at) == day]
        focus = [s for s in sessions if s.focus]
        done = [s for s in focus if s.status == "completed"]
        ended = [s for s in focus if s.status in {"completed", "cancelled", "abandoned"}]
        created = [g for _, at, g in self.created if self.service_day(at) == day]
        reached = [g for _, at, g in self.reached if self.service_day(at) == day]
        dau, wau, mau = (len(self.active_in(day - n * DAY, day)) for n in (0, 6, 29))
        return {
            "date": day.isoformat(),
            "activeUsers": len({s.user_id for s in sessions} | {g.user_id for g in [*created, *reached]}),
            "newUsers": sum(
                1 for u in self.accounts if u.created_at and self.service_day(u.created_at) == day
            ),
            "totalSessions": len(done),
            "focusSeconds": sum(map(credited, sessions)),
            "totalFocusTime": ratio(sum(map(credited, sessions)), 60, 2),
            **_lengths(done),
            "sessionCompletionRate": ratio(len(done), len(ended), 4),
            "sessionsEnded": len(ended),
            "rejectedSessions": sum(1 for s in self.rejected if self.service_day(s.started_at) == day),
            "goalsCreated": len(created),
            "goalsCompleted": len(reached),
            "goalCompletionRate": ratio(sum(map(_done, created)), len(created), 4),
            "goalsCreatedAndReached": sum(map(_done, created)),
            "dau": dau,
            "wau": wau,
            "mau": mau,
            "stickiness": ratio(dau, mau, 4),
        }

    def weekly(self, sunday: date) -> dict[str, Any]:
        """The seven local dates from a Sunday."""
        saturday = sunday + 6 * DAY
        rows = self._rows(sunday, saturday)
        done = sum(row["completed"] for _, _, row in rows)
        stopped = sum(row["cancelled"] + row["abandoned"] for _, _, row in rows)
        seconds = sum(row["focus_seconds"] for _, _, row in rows)
        hourly, by_day = [0] * 24, [0] * 7
        weekday_hours = [[0] * 24 for _ in range(7)]
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for _, day, row in rows:
            by_day[(day - sunday).days] += row["focus_seconds"]
            for hour, part in row["hours"].items():
                hourly[int(hour)] += part
                weekday_hours[(day - sunday).days][int(hour)] += part
            for kind, values in row["kinds"].items():
                kinds[kind].update(dict(zip(("started", "completed", "focusSeconds"), values, strict=True)))
        now, before = self.active_in(sunday, saturday), self.active_in(sunday - 7 * DAY, sunday - DAY)
        return {
            "weekStart": sunday.isoformat(),
            "weekEnd": saturday.isoformat(),
            "activeUsers": len(now),
            "newUsers": self._signed_up(sunday, saturday),
            "totalSessions": done,
            "focusSeconds": seconds,
            "totalFocusTime": ratio(seconds, 60, 2),
            "goalsCreated": sum(row["goals_created"] for _, _, row in rows),
            "goalsCompleted": sum(row["goals_completed"] for _, _, row in rows),
            "sessionCompletionRate": ratio(done, done + stopped, 4),
            "sessionsEnded": done + stopped,
            "timerTypeStats": {
                kind: {name: some[name] for name in ("started", "completed", "focusSeconds")}
                for kind, some in kinds.items()
            },
            "usagePatterns": {
                "peakHours": _peaks(hourly),
                "peakDays": _peaks(by_day),
                "hourlyDistribution": hourly,
                "dailyDistribution": by_day,
                "weekdayHours": weekday_hours,
            },
            "lifecycle": self._lifecycle(now, before, sunday),
            "retentionData": {f"d{n}": self._retention(n, sunday, saturday) for n in (1, 7, 30)},
            "cohorts": [
                {
                    "cohort": start.isoformat(),
                    "n": (sunday - start).days // 7,
                    "size": len(people),
                    "active": len(people & now),
                }
                for start, people in self._cohorts(sunday_of)
                if start <= sunday
            ],
        }

    def _signed_up(self, first: date, last: date) -> int:
        return sum(1 for u in self.accounts if (day := self.signup(u)) and first <= day <= last)

    def _lifecycle(self, now: set[str], before: set[str], start: date) -> dict[str, int]:
        new = {user for user in now if self.spans[user][0] >= start}
        return {
            "new": len(new),
            "returning": len((now & before) - new),
            "resurrecting": len(now - before - new),
            "dormant": len(before - now),
        }

    def _retention(self, n: int, first: date, last: date) -> dict[str, Any]:
        cohort = [user for user, (start, _) in self.spans.items() if first <= start + n * DAY <= last]
        returned = sum(1 for user in cohort if self.spans[user][0] + n * DAY in self.active[user])
        rate = ratio(returned, len(cohort), 4) if len(cohort) >= 10 else None
        return {"cohort": len(cohort), "returned": returned, "rate": rate}

    def _cohorts(self, start_of: Any) -> list[tuple[date, set[str]]]:
        found: dict[date, set[str]] = defaultdict(set)
        for user, (first, _) in self.spans.items():
            found[start_of(first)].add(user)
        return sorted(found.items())

    def monthly(self, first: date) -> dict[str, Any]:
        """A calendar month of local dates."""
        last = month_after(first) - DAY
        rows = self._rows(first, last)
        now, before = self.active_in(first, last), self.active_in(month_of(first - DAY), first - DAY)
        there = [*self.users, *(u for u, left in self.departed if self.local(u.id, left).date() > last)]
        segments = Counter(self._segment(user, first, last) for user in there)
        total = sum(n for name, n in segments.items() if name != "later")
        done = sum(row["completed"] for _, _, row in rows)
        seconds = sum(row["focus_seconds"] for _, _, row in rows)
        gone = len(before - now)
        return {
            "month": first.isoformat()[:7],
            "newUsers": self._signed_up(first, last),
            "activeUsers": len(now),
            "totalSessions": done,
            "focusSeconds": seconds,
            "totalFocusTime": ratio(seconds, 60, 2),
            "averageSessionsPerUser": ratio(done, len(now), 2),
            "goalsCreated": sum(row["goals_created"] for _, _, row in rows),
            "goalsCompleted": sum(row["goals_completed"] for _, _, row in rows),
            "goalCompletionByAge": {f"d{n}": self._goals_by_age(n, first, last) for n in (7, 30, 90)},
            **self._goals_reached(first, last),
            "totalUsers": total,
            "userSegments": {
                name: segments[name]
                for name in ("new", "neverStarted", "churned", "atRisk", "power", "active")
            },
            "lifecycle": self._lifecycle(now, before, first),
            "featureUsage": self._features(rows, first, last, len(now)),
            "churnAnalysis": {"base": len(before), "churned": gone, "rate": ratio(gone, len(before), 4)},
            "cohorts": [
                {
                    "cohort": start.isoformat(),
                    "n": (first.year - start.year) * 12 + first.month - start.month,
                    "size": len(people),
                    "active": len(people & now),
                }
                for start, people in self._cohorts(month_of)
                if start <= first
            ],
        }

    def _goal_dates(self) -> list[tuple[date, date | None, date | None, Goal]]:
        """(created, completed, due) as local dates, with the goal."""

        def on(user: str, at: datetime | None) -> date | None:
            return self.local(user, at).date() if at else None

        return [
            (
                self.local(user, at).date(),
                on(user, g.completed_at) if _done(g) else None,
                g.due_date or on(user, g.due_at),
                g,
            )
            for user, at, g in self.created
        ]

    def _goals_by_age(self, n: int, first: date, last: date) -> dict[str, Any]:
        stood: Counter[str] = Counter()
        for created, completed, due, goal in self._goal_dates():
            then = created + n * DAY
            if not first <= then <= last:
                continue
            stood["created"] += 1
            if completed and completed <= then:
                stood["completed"] += 1
            elif completed or goal.open:
                stood["overdue" if due and due <= then else "open"] += 1
        counts = {name: stood[name] for name in ("created", "completed", "open", "overdue")}
        return counts | {"rate": ratio(stood["completed"], stood["created"], 4)}

    def _goals_reached(self, first: date, last: date) -> dict[str, Any]:
        here = [(user, at, g) for user, at, g in self.reached if first <= self.local(user, at).date() <= last]
        dated = [(user, at, g) for user, at, g in here if g.due_date or g.due_at]
        on_time = [
            g
            for user, at, g in dated
            if (self.local(user, at).date() <= g.due_date if g.due_date else at <= g.due_at)  # type: ignore[operator]
        ]
        lead = [(at - g.created_at) // _US for _, at, g in here if g.created_at and g.created_at <= at]
        still_open = [
            goal
            for created, completed, _, goal in self._goal_dates()
            if last - 89 * DAY <= created <= last and (completed > last if completed else goal.open)
        ]
        return {
            "goalsOnTime": {
                "withDeadline": len(dated),
                "onTime": len(on_time),
                "rate": ratio(len(on_time), len(dated), 4),
            },
            "goalLeadTime": {
                "goals": len(lead),
                "stillOpen": len(still_open),
                "p50Days": _percentile(lead, 50, 86_400_000_000),
                "p90Days": _percentile(lead, 90, 86_400_000_000),
            },
        }

    def _segment(self, user: User, first: date, last: date) -> str:
        signup = self.signup(user)
        if signup and signup > last:
            return "later"
        if signup and signup >= first:
            return "new"
        active = [day for day in self.active.get(user.id, ()) if day <= last]
        if not active:
            return "neverStarted"
        away = (last - max(active)).days
        if away > 14:
            return "churned" if away > 30 else "atRisk"
        done = sum(row["completed"] for owner, _, row in self._rows(first, last) if owner == user.id)
        return "power" if done > 20 else "active"

    def _features(
        self, rows: list[tuple[str, date, dict[str, Any]]], first: date, last: date, mau: int
    ) -> dict[str, dict[str, Any]]:
        read = [user for user, at in self.reads if first <= at.astimezone(UTC).date() <= last]

        def one(uses: int, users: int) -> dict[str, Any]:
            return {"measured": True, "uses": uses, "users": users, "adoption": ratio(users, mau, 4)}

        def of(*columns: str) -> dict[str, Any]:
            uses = [(user, sum(row[c] for c in columns)) for user, _, row in rows]
            return one(sum(n for _, n in uses), len({user for user, n in uses if n}))

        return {
            "timer": of("started"),
            "goals": of("goals_created", "goals_completed"),
            "breaks": of("breaks"),
            "tags": of("tagged"),
            "goalLinkedSessions": of("linked"),
            "notificationsRead": one(len(read), len(set(read))),
        }

    def behaviour(self, start: datetime) -> dict[str, Any]:
        """Six hours of UTC from a naive instant."""
        since = start.replace(tzinfo=UTC)
        until = since + timedelta(hours=6)
        sessions = [s for s in self.known_sessions if since <= s.started_at < until]
        focus = [s for s in sessions if s.focus]
        done = [s for s in focus if s.status == "completed"]
        ended = [s for s in focus if s.status in {"completed", "cancelled", "abandoned"}]
        rated = [s.rating for s in sessions if s.rating is not None]
        return {
            "since": f"{start:%Y-%m-%dT%H:%MZ}",
            "users": len({s.user_id for s in sessions}),
            "sessionsStarted": len(sessions),
            "sessionsCompleted": len(done),
            **_lengths(done),
            "sessionsEnded": len(ended),
            "sessionsCancelled": _count(focus, "cancelled"),
            "sessionTypes": dict(Counter(s.kind for s in sessions)),
            "cancelledRate": ratio(_count(focus, "cancelled"), len(ended), 4),
            "averageRating": ratio(sum(rated), len(rated), 2),
            "ratings": len(rated),
            "ratingSum": sum(rated),
            "breakHours": self._told((s.user_id, s.started_at) for s in sessions if not s.focus),
            "goalCompletionHours": self._told(
                (user, at) for user, at, _ in self.reached if since <= at < until
            ),
        }

    def _told(self, acts: Iterable[tuple[str, datetime]]) -> dict[str, int] | None:
        """By local hour; hours of fewer than five people are not told."""
        found = list(acts)
        if len({user for user, _ in found}) < 5:
            return None
        return dict(Counter(str(self.local(user, at).hour) for user, at in found))


_US = timedelta(microseconds=1)


def credited(session: TimerSession) -> int:
    """Focus that counts: of focus sessions that came to an end, also an abandoned one."""
    return session.focus_seconds if session.focus and session.status in {"completed", "abandoned"} else 0


def sunday_of(day: date) -> date:
    """The first date of the week."""
    return next(d for n in range(7) if (d := day - n * DAY).weekday() == 6)


def month_of(day: date) -> date:
    """The first date of the month."""
    return day.replace(day=1)


def month_after(first: date) -> date:
    """The first date of the next month."""
    return (first + 31 * DAY).replace(day=1)


def ratio(part: int, whole: int, digits: int) -> float | None:
    """Rounded half away from zero; null without a denominator."""
    if not whole:
        return None
    exact = Fraction(part, whole) * 10**digits
    return float(Decimal(_half_up(exact)).scaleb(-digits))


def _percentile(values: Sequence[int], percent: int, unit: int) -> float | None:
    """Between the two nearest values (linear, type 7), in a unit, to two digits."""
    if not values:
        return None
    ranked, place = sorted(values), Fraction((len(values) - 1) * percent, 100)
    below = ranked[floor(place)]
    above = ranked[min(floor(place) + 1, len(ranked) - 1)]
    exact = below + (place - floor(place)) * (above - below)
    return float(Decimal(_half_up(exact / unit * 100)).scaleb(-2))


def _lengths(done: Sequence[TimerSession]) -> dict[str, Any]:
    """Of completed focus sessions, in minutes."""
    seconds = [s.focus_seconds for s in done]
    return {
        "completedSeconds": sum(seconds),
        "averageSessionLength": ratio(sum(seconds), 60 * len(done), 2),
        "sessionLength": {f"p{p}": _percentile(seconds, p, 60) for p in (50, 90, 99)},
    }


def _half_up(exact: Fraction) -> int:
    return floor(exact + Fraction(1, 2))


def _peaks(values: list[int]) -> list[int]:
    """The up to three places with the most, ties to the earliest."""
    return [i for i in sorted(range(len(values)), key=lambda i: (-values[i], i)) if values[i]][:3]


def _count(sessions: list[TimerSession], status: str) -> int:
    return sum(1 for s in sessions if s.status == status)


def _done(goal: Goal) -> bool:
    return goal.completed_at is not None and not goal.open


def _minutes(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The span cut at every whole minute of UTC: no clock changes within one."""
    lo = start
    while lo < end:
        hi = min(lo.replace(second=0, microsecond=0) + timedelta(minutes=1), end)
        yield lo, hi
        lo = hi
