"""What a recipient may decide on the preference page, read from its form; pure."""

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Any

from service import zones
from service.messages.kind import Channel, MessageKind
from service.messages.mail.words import LANGUAGES

Switch = tuple[str, Channel]
"""The name of a kind of message, and the channel on which it is on or off."""
Hours = Mapping[str, Collection[int]]
"""The hours of the day that may be chosen for each kind, by its name."""
TIMES = tuple(f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 30))
LONGEST_PAUSE = 365


@dataclass(frozen=True, slots=True)
class RecipientSettings:
    """Decisions beyond on and off. None: as the dashboard has it.

    ``timezone``: the name that was chosen; another name of a zone stays, and its zone is used.
    ``quiet_start == quiet_end``: no quiet hours at all. ``hours``: name of a kind to whole hour of the
    local day, also of kinds whose package is away.
    """

    timezone: str | None = None
    locale: str | None = None
    quiet_start: time | None = None
    quiet_end: time | None = None
    hours: Mapping[str, int] = field(default_factory=dict)
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
        values = {name: getattr(self, name) for name in names}
        texts = {name: None if value is None else str(value) for name, value in values.items()}
        return texts | {"hours": dict(self.hours)}


@dataclass(frozen=True, slots=True)
class PreferenceForm:
    """The form as it was sent. ``switches``: those that it showed, and no others.

    ``problems``: fields that cannot be meant; ``typed``: a wrong zone.
    """

    switches: Mapping[Switch, bool]
    settings: RecipientSettings
    problems: frozenset[str] = frozenset()
    typed: str = ""


def choosable(stored: Mapping[str, int], offered: Hours) -> dict[str, int]:
    """The chosen hours that hold: at any that is not offered the job would be of no use, so it is ignored.

    Kinds whose package is away keep theirs.
    """
    return {kind: hour for kind, hour in stored.items() if hour in offered.get(kind, (hour,))}


def switch_name(kind: str, channel: Channel) -> str:
    """The name of a switch in the form."""
    return kind if channel is Channel.EMAIL else f"app.{kind}"


def read_preferences(
    form: Mapping[str, Any],
    current: RecipientSettings,
    kinds: Collection[MessageKind],
    offered: Hours,
    accepted_zones: Container[str] | None = None,
) -> PreferenceForm:
    """What was chosen. Fields that are missing leave their setting as it was.

    A browser leaves out what is off, so the field ``shown`` names the switches that the page had: what it
    names is on or off, what it does not name is untouched. ``kinds``: those there are. ``offered``:
    the hours that may be chosen. ``accepted_zones``: the names of zones that our database knows too;
    None: all there are.
    """
    names_on_page = set(str(form.get("shown", "")).split())
    switches = {
        (kind.name, channel): form.get(name) == "on"
        for kind in kinds
        for channel in Channel
        if (name := switch_name(kind.name, channel)) in names_on_page
    }
    problems: set[str] = set()
    hourly = {kind.name: offered[kind.name] for kind in kinds if kind.postponable}
    zone = _zone(form, current, zones.names() if accepted_zones is None else accepted_zones, problems)
    quiet_start, quiet_end = _quiet(form, current, problems)
    settings = replace(
        current,
        timezone=zone,
        locale=_locale(form, current, problems),
        quiet_start=quiet_start,
        quiet_end=quiet_end,
        hours=_hours(form, current, hourly, problems),
        paused_until=_pause(form, current, problems),
    )
    typed = str(form.get("timezone", ""))[:100] if "timezone" in problems else ""
    return PreferenceForm(switches, settings, frozenset(problems), typed)


def _zone(
    form: Mapping[str, Any], current: RecipientSettings, accepted_zones: Container[str], problems: set[str]
) -> str | None:
    value = form.get("timezone")
    name = zones.canonical_name(value)
    if value is None or name == current.zone:
        return current.timezone
    if not str(value).strip() or name == current.dashboard_timezone:
        return None
    if name is None or name not in accepted_zones:
        problems.add("timezone")
        return current.timezone
    return name


def _locale(form: Mapping[str, Any], current: RecipientSettings, problems: set[str]) -> str | None:
    value = form.get("language")
    if value is None:
        return current.locale
    if value not in {"", *LANGUAGES}:
        problems.add("language")
        return current.locale
    return str(value) or None


def _quiet(
    form: Mapping[str, Any], current: RecipientSettings, problems: set[str]
) -> tuple[time | None, time | None]:
    start, end = form.get("quiet_start"), form.get("quiet_end")
    if start is None:
        return current.quiet_start, current.quiet_end
    if start == "":
        return None, None
    if start == "none":
        return time(0), time(0)
    if start not in TIMES or end not in TIMES:
        problems.add("quiet")
        return current.quiet_start, current.quiet_end
    return time.fromisoformat(start), time.fromisoformat(str(end))


def _hours(
    form: Mapping[str, Any], current: RecipientSettings, offered: Hours, problems: set[str]
) -> dict[str, int]:
    hours = dict(current.hours)
    for kind in offered:
        value = form.get(f"hour.{kind}")
        if value is None:
            continue
        if value == "":
            hours.pop(kind, None)
        elif value in {str(hour) for hour in offered[kind]}:
            hours[kind] = int(value)
        else:
            problems.add("hour")
    return hours


def _pause(form: Mapping[str, Any], current: RecipientSettings, problems: set[str]) -> datetime | None:
    if form.get("resume") == "on":
        return None
    value = str(form.get("pause_days", "")).strip()
    if value in {"", "0"}:
        return current.paused_until
    if not value.isascii() or not value.isdigit() or int(value[:9]) > LONGEST_PAUSE:
        problems.add("pause")
        return current.paused_until
    return current.now + timedelta(days=int(value)) if current.now else None
