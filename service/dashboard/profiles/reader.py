"""Converts the dashboard's documents or rows into canonical users, goals and sessions. Pure.

A malformed value never raises: it is left out, or its document is, and the reason is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from service import zones
from service.dashboard.model import Goal, Preferences, QuietHours, TimerSession, User
from service.dashboard.profiles.fields import getters, path_getters
from service.dashboard.profiles.rules import UNLISTED
from service.dashboard.profiles.shapes import DIGEST, Collection, Document, Profile
from service.dashboard.profiles.values import (
    clock_time,
    due,
    flag,
    identity,
    instant,
    number,
    seconds,
    text,
)

_INT4 = 2**31 - 1


@dataclass(frozen=True)
class Problem:
    """A problem of a document. ``fatal``: the document was left out; otherwise only the value was."""

    id: str
    reason: str
    fatal: bool


@dataclass(frozen=True)
class Reading:
    """The result of reading a batch of documents."""

    records: list[Any]
    problems: list[Problem]
    digests: dict[str, int] = field(default_factory=dict)
    """The digests of the documents by id, as far as their source tells them."""


class _Unusable(Exception):
    """A document that cannot be converted; the argument is the reason."""


_PREFERENCE = "pref_"
_GENERAL = {"pref_email", "pref_reminders", "pref_in_app"}
"""Preferences about everything; the others are about one kind of message, by whose name they go."""
_COMPLETED = {"completed", "complete", "finished", "done"}
_CANCELLED = {"cancelled", "canceled", "abandoned", "stopped", "interrupted", "skipped"}
_DAY = 24 * 3600
_MAX_CREDIT = 4 * 3600


def credit(status: str, span: float | None, focus: float, planned: int | None) -> tuple[str, int]:
    """Status and credited seconds of a session that ran ``span`` seconds and claims ``focus`` seconds.

    A session longer than 24 h, or that ends before its start, is rejected. A completed one far beyond its
    plan was abandoned and counts as planned. Any other counts at most 4 h.
    """
    if span is not None and (span < 0 or span > _DAY or focus > _DAY):
        return "rejected", 0
    focus = max(focus, 0.0)
    if status in {"completed", "cancelled"} and planned and focus > planned + 3600 and focus > 2 * planned:
        return ("abandoned" if status == "completed" else status), min(planned, _MAX_CREDIT)
    return status, int(min(focus, _MAX_CREDIT))


class Reader:
    """Reads documents of one profile."""

    def __init__(
        self,
        profile: Profile,
        *,
        default_timezone: str,
        date_only: bool = True,
        tail_included: bool = False,
    ) -> None:
        self.profile = profile
        self._default_timezone = default_timezone
        self._date_only = date_only
        self._tail_included = tail_included
        self._get = {collection: getters(profile.table(collection)) for collection in Collection}
        self._user_name = path_getters(profile.users, "name") if "name" in profile.users.fields else []
        self._preference_getters = {
            field: path_getters(profile.users, field)
            for field in profile.users.fields
            if field.startswith(_PREFERENCE)
        }
        self._derived = {field: rule.derive for field, rule in profile.sessions.rules.items() if rule.derive}
        self._record_readers = {
            Collection.USERS: self._user,
            Collection.GOALS: self._goal,
            Collection.SESSIONS: self._session,
        }

    def read(self, collection: Collection, documents: Sequence[Document]) -> Reading:
        """The canonical records of a batch; malformed documents are reported, never raised."""
        read_record, get = self._record_readers[collection], self._get[collection]
        records: list[Any] = []
        problems: list[Problem] = []
        digests: dict[str, int] = {}
        for document in documents:
            updated = instant(get["updated"](document)) if "updated" in get else None
            reasons: list[str] = []
            key = identity(get["id"](document)) or ""
            if (digest := document.get(DIGEST)) is not None:
                digests[key] = digest
            try:
                records.append(read_record(key, updated, document, reasons))
            except _Unusable as error:
                problems.append(Problem(key, str(error), True))  # noqa: FBT003
            problems += [Problem(key, reason, False) for reason in reasons]  # noqa: FBT003
        return Reading(records, problems, digests)

    def _user(self, key: str, updated: datetime | None, document: Document, reasons: list[str]) -> User:
        get = self._get[Collection.USERS]
        if not key:
            raise _Unusable("id")
        zone = zones.canonical_name(get["timezone"](document))
        if zone is None:
            reasons.append("timezone")
        active = get["active"](document)
        is_active = flag(active)
        if active is not None and is_active is None:
            reasons.append("active")
        return User(
            id=key,
            name=" ".join(part for getter in self._user_name if (part := text(getter(document), 200))),
            email=text(get["email"](document), 320),
            timezone=zones.current_name(zone) if zone else self._default_timezone,
            timezone_valid=zone is not None,
            locale=text(get["locale"](document), 35) or "en",
            active=is_active if is_active is not None else active is None,
            created_at=_optional(get["created"](document), "created", reasons),
            last_login_at=_optional(get["last_login"](document), "last_login", reasons),
            preferences=self._preferences(document, reasons),
            updated_at=updated,
        )

    def _preferences(self, document: Document, reasons: list[str]) -> Preferences:
        get = self._get[Collection.USERS]
        said = {field: self._is_allowed(field, document, reasons) for field in self._preference_getters}
        quiet = _quiet(get["quiet"](document), reasons)
        week_start = number(get["week_start"](document))
        return Preferences(
            email=said.get("pref_email"),
            reminders=said.get("pref_reminders"),
            in_app=said.get("pref_in_app"),
            kinds={
                field.removeprefix(_PREFERENCE): on
                for field, on in said.items()
                if on is not None and field not in _GENERAL
            },
            quiet=quiet,
            work_start=clock_time(get["work_start"](document)),
            work_end=clock_time(get["work_end"](document)),
            work_minutes=_minutes(get["work_minutes"](document), 25),
            short_break_minutes=_minutes(get["short_break"](document), 5),
            week_start=int(week_start) if week_start in {0, 1, 2, 3, 4, 5, 6} else 1,
        )

    def _is_allowed(self, field: str, document: Document, reasons: list[str]) -> bool | None:
        """Whether a preference allows messages: one ``false`` wins over any number of ``true``."""
        stored = [getter(document) for getter in self._preference_getters[field]]
        if UNLISTED in stored:
            reasons.append(field)
        values = [value for one in stored if (value := flag(one)) is not None]
        return all(values) if values else None

    def _goal(self, key: str, updated: datetime | None, document: Document, reasons: list[str]) -> Goal:
        get = self._get[Collection.GOALS]
        owner = identity(get["user"](document))
        title = text(get["title"](document), 500)
        if not (key and owner and title):
            raise _Unusable(_first_missing(id=key, user=owner, title=title))
        stored_due = get["due"](document)
        due_date, due_at = due(stored_due, date_only=self._date_only)
        if stored_due is not None and due_date is None and due_at is None:
            reasons.append("due")
        status = text(get["status"](document), 50)
        if status is None:
            reasons.append("status")
        target = number(get["target"](document))
        current = number(get["current"](document))
        stored = number(get["progress"](document))
        return Goal(
            id=key,
            user_id=owner,
            title=title,
            category=text(get["category"](document), 200),
            open=status in self.profile.open_states,
            priority=(text(get["priority"](document), 20) or "medium").lower(),
            target_value=target,
            current_value=current,
            unit=text(get["unit"](document), 50),
            progress=_progress(stored, target, current),
            due_date=due_date,
            due_at=due_at,
            created_at=_optional(get["created"](document), "created", reasons),
            completed_at=_optional(get["completed"](document), "completed", reasons),
            updated_at=updated,
        )

    def _session(
        self, key: str, updated: datetime | None, document: Document, reasons: list[str]
    ) -> TimerSession:
        get = self._get[Collection.SESSIONS]
        owner = identity(get["user"](document))
        kind = text(get["kind"](document), 50)
        started, ended = self._start_and_end(document, reasons)
        status = self._status(get["status"](document))
        if not (key and owner and kind and started and status):
            raise _Unusable(_first_missing(id=key, user=owner, kind=kind, started=started, status=status))
        planned = _whole_seconds(get["planned"](document), self.profile.planned_unit)
        span = (ended - started).total_seconds() if ended else None
        focus = self._focus_seconds(document, started, ended)
        running = status in {"running", "paused"}
        status, seconds = credit(status, span, focus, planned)
        if status == "rejected":
            reasons.append("impossible_times")
        return TimerSession(
            id=key,
            user_id=owner,
            goal_id=identity(get["goal"](document)),
            kind=kind.lower(),
            focus=kind in self.profile.focus_kinds,
            status=status,
            started_at=started,
            ended_at=None if running and status != "rejected" else ended,
            paused_at=_optional(get["paused"](document), "paused", reasons),
            planned_seconds=planned,
            focus_seconds=seconds,
            category=text(get["category"](document), 200),
            tags=_tags(get["tags"](document)),
            rating=_rating(get["rating"](document)),
            updated_at=updated,
        )

    def _start_and_end(
        self, document: Document, reasons: list[str]
    ) -> tuple[datetime | None, datetime | None]:
        """As they are stored, or one of them derived from the other and a duration."""
        get = self._get[Collection.SESSIONS]
        started = instant(get["started"](document))
        ended = _optional(get["ended"](document), "ended", reasons)
        if started is None and ended is not None and "started" in self._derived:
            started = _moved(ended, self._duration("started", document), -1)
        elif ended is None and started is not None and "ended" in self._derived:
            ended = _moved(started, self._duration("ended", document), 1)
        return started, ended

    def _duration(self, field: str, document: Document) -> float | None:
        """The duration from which the start or the end is derived, in seconds."""
        name = self._derived[field].split(" ")[2]
        unit = self.profile.planned_unit if name == "planned" else self.profile.focus_unit
        return seconds(self._get[Collection.SESSIONS][name](document), unit)

    def _status(self, stored: Any) -> str | None:
        if not isinstance(stored, str):
            return None
        if stored in self.profile.running_states:
            return "running"
        status = stored.strip().lower()
        if status in _COMPLETED:
            return "completed"
        if status in _CANCELLED:
            return "cancelled"
        return "paused" if status == "paused" else None

    def _focus_seconds(self, document: Document, started: datetime, ended: datetime | None) -> float:
        """Stored focus time, or profile A's: elapsed time, plus the last running stretch if it lacks that."""
        get = self._get[Collection.SESSIONS]
        if "elapsed" not in get:
            focus = seconds(get["focus"](document), self.profile.focus_unit)
            if focus is None and ended is not None and "focus" in self._derived:
                return (ended - started).total_seconds()
            return focus or 0.0
        elapsed = seconds(get["elapsed"](document), self.profile.focus_unit) or 0.0
        if ended is None:
            return elapsed
        resumed = instant(get["resumed"](document)) if "resumed" in get else None
        paused = get["paused"](document) is not None if "paused" in get else False
        if not self._tail_included and not paused and resumed:
            elapsed += max((ended - resumed).total_seconds(), 0.0)
        return min(elapsed, max((ended - started).total_seconds(), 0.0))


def _first_missing(**values: Any) -> str:
    return next(name for name, value in values.items() if not value)


def _optional(value: Any, reason: str, reasons: list[str]) -> datetime | None:
    if value is None:
        return None
    at = instant(value)
    if at is None:
        reasons.append(reason)
    return at


def _moved(at: datetime, duration: float | None, sign: int) -> datetime | None:
    """A time later or earlier by a number of seconds; None where there is no such time."""
    if duration is None:
        return None
    try:
        return instant(at + sign * timedelta(seconds=duration))
    except OverflowError:
        return None


def _quiet(value: Any, reasons: list[str]) -> QuietHours | None:
    if not isinstance(value, Mapping) or flag(value.get("enabled", True)) is not True:
        return None
    start, end = clock_time(value.get("start", "22:00")), clock_time(value.get("end", "08:00"))
    if start is None or end is None:
        reasons.append("quiet_hours")
        return None
    return QuietHours(start, end)


def _minutes(value: Any, default: int) -> int:
    parsed = number(value)
    return int(parsed) if parsed and 1 <= parsed <= 24 * 60 else default


def _whole_seconds(value: Any, unit: float) -> int | None:
    parsed = seconds(value, unit)
    return int(min(parsed, _INT4)) if parsed is not None and parsed >= 0 else None


def _progress(stored: float | None, target: float | None, current: float | None) -> float | None:
    if stored is None and target and target > 0 and current is not None:
        stored = 100 * current / target
    return min(max(stored, 0.0), 100.0) if stored is not None else None


def _rating(value: Any) -> int | None:
    parsed = number(value)
    return int(parsed) if parsed is not None and 1 <= parsed <= 5 else None


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(tag for part in value[:50] if (tag := text(part, 100)))
