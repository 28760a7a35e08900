"""What a recipient may decide on the preference page, read from its form; pure."""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Any

from service import zones
from service.dashboard.model import Channel, MessageKind
from service.jobs import hours_of_kinds
from service.messages.mail.words import LANGUAGES

Switch = tuple[MessageKind, Channel]
Hours = Mapping[MessageKind, Collection[int]]
"""The hours of the day that may be chosen for each kind."""

HOURLY = tuple(kind for kind in MessageKind if kind is not MessageKind.BREAKS)
"""Kinds that come at one hour of the day; a break comes when it is due."""
TIMES = tuple(f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 30))
LONGEST_PAUSE = 365


@dataclass(frozen=True, slots=True)
class RecipientSettings:
    """Decisions beyond on and off. None: as the dashboard has it.

    ``timezone``: the name that was chosen; another name of a zone stays, and its zone is used.
    ``quiet_start == quiet_end``: no quiet hours at all. ``hours``: kind to whole hour of the local day.
    """

    timezone: str | None = None
    locale: str | None = None
    quiet_start: time | None = None
    quiet_end: time | None = None
    hours: Mapping[MessageKind, int] = field(default_factory=dict)
    paused_until: datetime | None = None
    dashboard_timezone: str = "UTC"
    dashboard_locale: str = "en"
    now: datetime | None = None

    @property
    def zone(self) -> str:
        """The zone that holds."""
        return self.timezone or self.dashboard_timezone

    @property
    def pause_ends(self) -> str | None:
        """The local date on which a pause ends; None: there is none now."""
        if self.paused_until is None or self.now is None or self.paused_until <= self.now:
            return None
        return self.paused_until.astimezone(zones.zone_of(self.zone)).date().isoformat()

    @property
    def quiet(self) -> tuple[str, str]:
        """The form's two fields: a start (empty: the dashboard's, ``none``: never quiet) and an end."""
        if self.quiet_start is None or self.quiet_end is None:
            return "", "08:00"
        if self.quiet_start == self.quiet_end:
            return "none", "08:00"
        return f"{self.quiet_start:%H:%M}", f"{self.quiet_end:%H:%M}"

    def described(self) -> dict[str, Any]:
        """For the audit log."""
        names = ("timezone", "locale", "quiet_start", "quiet_end", "paused_until")
        told = {name: None if (value := getattr(self, name)) is None else str(value) for name in names}
        return told | {"hours": {str(kind): hour for kind, hour in self.hours.items()}}


@dataclass(frozen=True, slots=True)
class PreferenceForm:
    """The form as it was sent. ``problems``: fields that cannot be meant; ``typed``: a wrong zone."""

    switches: Mapping[Switch, bool]
    settings: RecipientSettings
    problems: frozenset[str] = frozenset()
    typed: str = ""


def choosable(stored: Mapping[str, int], offered: Hours) -> dict[MessageKind, int]:
    """The chosen hours that hold: at any that is not offered the job would be of no use, so it is ignored."""
    known = {MessageKind(kind): hour for kind, hour in stored.items() if kind in set(HOURLY)}
    return {kind: hour for kind, hour in known.items() if hour in offered[kind]}


def read_wishes(
    form: Mapping[str, Any],
    before: RecipientSettings,
    accepted: Container[str] | None = None,
    offered: Hours | None = None,
) -> PreferenceForm:
    """What was chosen. Fields that are missing leave their setting as it was; switches are off.

    ``accepted``: the names of zones that our database knows too; None: all there are. ``offered``: the hours
    that may be chosen; None: those of the usual schedules.
    """
    switches = {
        (kind, channel): form.get(str(kind) if channel is Channel.EMAIL else f"app.{kind}") == "on"
        for kind in MessageKind
        for channel in Channel
    }
    problems: set[str] = set()
    zone = _zone(form, before, zones.names() if accepted is None else accepted, problems)
    quiet_start, quiet_end = _quiet(form, before, problems)
    settings = replace(
        before,
        timezone=zone,
        locale=_locale(form, before, problems),
        quiet_start=quiet_start,
        quiet_end=quiet_end,
        hours=_hours(form, before, hours_of_kinds() if offered is None else offered, problems),
        paused_until=_pause(form, before, problems),
    )
    typed = str(form.get("timezone", ""))[:100] if "timezone" in problems else ""
    return PreferenceForm(switches, settings, frozenset(problems), typed)


def _zone(
    form: Mapping[str, Any], before: RecipientSettings, accepted: Container[str], problems: set[str]
) -> str | None:
    wanted = form.get("timezone")
    name = zones.canonical_name(wanted)
    if wanted is None or name == before.zone:
        return before.timezone
    if not str(wanted).strip() or name == before.dashboard_timezone:
        return None
    if name is None or name not in accepted:
        problems.add("timezone")
        return before.timezone
    return name


def _locale(form: Mapping[str, Any], before: RecipientSettings, problems: set[str]) -> str | None:
    wanted = form.get("language")
    if wanted is None:
        return before.locale
    if wanted not in {"", *LANGUAGES}:
        problems.add("language")
        return before.locale
    return str(wanted) or None


def _quiet(
    form: Mapping[str, Any], before: RecipientSettings, problems: set[str]
) -> tuple[time | None, time | None]:
    start, end = form.get("quiet_start"), form.get("quiet_end")
    if start is None:
        return before.quiet_start, before.quiet_end
    if start == "":
        return None, None
    if start == "none":
        return time(0), time(0)
    if start not in TIMES or end not in TIMES:
        problems.add("quiet")
        return before.quiet_start, before.quiet_end
    return time.fromisoformat(start), time.fromisoformat(str(end))


def _hours(
    form: Mapping[str, Any], before: RecipientSettings, offered: Hours, problems: set[str]
) -> dict[MessageKind, int]:
    hours = dict(before.hours)
    for kind in HOURLY:
        wanted = form.get(f"hour.{kind}")
        if wanted is None:
            continue
        if wanted == "":
            hours.pop(kind, None)
        elif wanted in {str(hour) for hour in offered[kind]}:
            hours[kind] = int(wanted)
        else:
            problems.add("hour")
    return hours


def _pause(form: Mapping[str, Any], before: RecipientSettings, problems: set[str]) -> datetime | None:
    if form.get("resume") == "on":
        return None
    wanted = str(form.get("pause_days", "")).strip()
    if wanted in {"", "0"}:
        return before.paused_until
    if not wanted.isascii() or not wanted.isdigit() or int(wanted[:9]) > LONGEST_PAUSE:
        problems.add("pause")
        return before.paused_until
    return before.now + timedelta(days=int(wanted)) if before.now else None
