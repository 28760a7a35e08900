"""The preferences of a recipient, and reading them from the form of the preference page. Pure."""

from collections.abc import Collection, Mapping
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
    """Settings besides the switches. None: as in the dashboard.

    ``timezone``: the name as it was chosen, which may be an alias. ``quiet_start == quiet_end``: no quiet
    hours at all. ``hours``: name of a kind → hour of the local day, also for kinds whose package is not
    loaded.
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
        """The zone that applies."""
        return self.timezone or self.dashboard_timezone

    @property
    def pause_ends(self) -> str | None:
        """The local date on which the pause ends; None: there is no pause now."""
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
    """The submitted form. ``switches``: only those that the page showed.

    ``problems``: the fields with invalid values; ``typed``: an unknown time zone as it was typed.
    """

    switches: Mapping[Switch, bool]
    settings: RecipientSettings
    problems: frozenset[str] = frozenset()
    typed: str = ""


def choosable(stored: Mapping[str, int], offered: Hours) -> dict[str, int]:
    """The chosen hours that apply. An hour that is not offered is ignored, because the job would be useless
    then.

    Kinds whose package is not loaded keep theirs.
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
) -> PreferenceForm:
    """Read the preferences from a form. Missing fields leave their setting unchanged. A browser does not
    send switches that are off, so the field ``shown`` names all switches of the page; others are unchanged.
    ``kinds``: all kinds. ``offered``: the hours that may be chosen.
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
    zone = _zone(form, current, problems)
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


def _zone(form: Mapping[str, Any], current: RecipientSettings, problems: set[str]) -> str | None:
    value = form.get("timezone")
    name = zones.canonical_name(value)
    if value is None or name == current.zone:
        return current.timezone
    if not str(value).strip() or name == current.dashboard_timezone:
        return None
    if name is None:
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
