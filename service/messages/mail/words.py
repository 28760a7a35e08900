"""Words, numbers and dates of one language: a gettext catalogue and Babel's locale data.

Sources are English; ``catalogues/<language>.po`` holds the others. A language is one more file there.
"""

import gettext
import io
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from babel import Locale
from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from service.dashboard.model import MessageKind
from service.messages.trend import NEW

_CATALOGUES = Path(__file__).parent / "catalogues"
LANGUAGES = ("en", *sorted(path.stem for path in _CATALOGUES.glob("*.po")))
_NO_BREAK = "\u00a0"


def N_(text: str) -> str:  # noqa: N802 — gettext's own name for "to be translated later"
    """Mark a text for extraction."""
    return text


_LISTS = {
    MessageKind.DEADLINES: N_("Deadline reminders"),
    MessageKind.DAILY: N_("Daily check-in"),
    MessageKind.WEEKLY: N_("Weekly review"),
    MessageKind.INACTIVE: N_("Reminders after a pause"),
    MessageKind.BREAKS: N_("Break reminders"),
    MessageKind.MONTHLY: N_("Monthly report"),
}
_HINTS = {
    MessageKind.DEADLINES: N_("When a goal is due in a week, tomorrow or today, or has passed its date"),
    MessageKind.DAILY: N_("In the evening, when a streak is about to end or after some quiet days"),
    MessageKind.WEEKLY: N_("Your week on one page, at its end"),
    MessageKind.INACTIVE: N_("A few, when you have not been here for days"),
    MessageKind.BREAKS: N_("During long focus sessions"),
    MessageKind.MONTHLY: N_("The month before, on the first"),
}
_REASONS = {
    MessageKind.DEADLINES: N_(
        "You get this because a goal of yours has a date soon and deadline reminders are on."
    ),
    MessageKind.DAILY: N_("You get this because daily check-ins are on."),
    MessageKind.WEEKLY: N_("You get this because weekly reviews are on."),
    MessageKind.INACTIVE: N_("You get this because you have an account and reminders after a pause are on."),
    MessageKind.BREAKS: N_("You get this because you asked for break reminders by mail."),
    MessageKind.MONTHLY: N_("You get this because monthly reports are on."),
}
_STOPS = {
    MessageKind.DEADLINES: N_("Stop deadline reminders"),
    MessageKind.DAILY: N_("Stop daily check-ins"),
    MessageKind.WEEKLY: N_("Stop weekly reviews"),
    MessageKind.INACTIVE: N_("Stop reminders after a pause"),
    MessageKind.BREAKS: N_("Stop break reminders"),
    MessageKind.MONTHLY: N_("Stop monthly reports"),
}
_SECTIONS = {
    "tomorrow": N_("Due tomorrow"),
    "today": N_("Due today"),
    "overdue": N_("Overdue"),
    "week": N_("Due in one week"),
    "also": N_("Also due soon"),
}
_DUE = {
    "tomorrow": N_("%(num)s due tomorrow"),
    "today": N_("%(num)s due today"),
    "overdue": N_("%(num)s overdue"),
    "week": N_("%(num)s due in one week"),
    "also": N_("%(num)s due soon"),
}


class Words:
    """Everything that a page or a mail says in one language, apart from the facts."""

    def __init__(self, language: str) -> None:
        self.language = language
        """BCP 47, for the ``lang`` attribute."""
        self.locale = Locale.parse(language, sep="-")
        self.catalogue = _catalogue(language)
        self.gettext = self.catalogue.gettext
        self.ngettext = self.catalogue.ngettext

    # ── Kinds of mail ───────────────────────────────────────────────────────────────────────────────────────

    def list_name(self, kind: MessageKind) -> str:
        """What mails of a kind are called."""
        return self.gettext(_LISTS[kind])

    def hint(self, kind: MessageKind) -> str:
        """When mails of a kind come."""
        return self.gettext(_HINTS[kind])

    def reason(self, kind: MessageKind) -> str:
        """Why somebody gets mails of this kind, for the footer."""
        return self.gettext(_REASONS[kind])

    def stop(self, kind: MessageKind) -> str:
        """The link that ends mails of this kind."""
        return self.gettext(_STOPS[kind])

    @property
    def default_subject(self) -> str:
        """For a mail whose subject would say nothing."""
        return self.gettext("A reminder for you")

    @property
    def test_reason(self) -> str:
        """Why somebody gets a mail that was sent as a test."""
        return self.gettext("You asked for a test mail.")

    def section(self, key: str) -> str:
        """A section of the deadline mail."""
        return self.gettext(_SECTIONS[key])

    def due(self, sections: Sequence[Mapping[str, Any]]) -> str:
        """How many goals are due when, by the first two sections: ``2 due tomorrow, 1 due today``."""
        counts = [(_DUE[section["key"]], section["count"]) for section in sections[:2]]
        return ", ".join(self.gettext(text) % {"num": count} for text, count in counts)

    def greeting(self, name: str) -> str:
        """The first words of the mail; fits people whose name nobody knows."""
        return self.gettext("Hello %(name)s,") % {"name": name} if name else self.gettext("Hello,")

    # ── Dates and numbers ───────────────────────────────────────────────────────────────────────────────────

    @lru_cache(maxsize=2048)  # noqa: B019 — a few instances, alive as long as the process
    def day(self, iso: str) -> str:
        """A date with its weekday: ``2026-03-10`` → ``Tue 10 Mar``."""
        return self._dated(iso, self.gettext("EEE d MMM"))

    @lru_cache(maxsize=512)  # noqa: B019
    def weekday(self, iso: str) -> str:
        """Its short weekday: ``Tue``."""
        return self._dated(iso, "EEE").rstrip(".")

    @lru_cache(maxsize=512)  # noqa: B019
    def full_weekday(self, iso: str) -> str:
        """Its weekday: ``Tuesday``."""
        return self._dated(iso, "EEEE")

    @lru_cache(maxsize=512)  # noqa: B019
    def month(self, iso: str) -> str:
        """Its month: ``March``."""
        return self._dated(iso, "LLLL")

    def span(self, first: str, last: str) -> str:
        """A range of dates in words: ``Mon 20 Apr – Sun 26 Apr``."""
        return f"{self.day(first)} – {self.day(last)}"

    @lru_cache(maxsize=4096)  # noqa: B019
    def number(self, value: float) -> str:
        """A number with at most one decimal, as the locale writes it; zero has no sign."""
        return str(format_decimal(value or 0, "#,##0.#", locale=self.locale))

    def percent(self, value: float) -> str:
        """``30 %``."""
        return f"{self.number(round(value))}{_NO_BREAK}%"

    def duration(self, seconds: float) -> str:
        """``3 h 25 min``; minutes alone below an hour, hours alone when there are no minutes."""
        hours, minutes = divmod(round(seconds / 60), 60)
        parts = {"h": self.number(hours), "m": minutes}
        if not hours:
            return self.gettext("%(m)s min") % parts
        if not minutes:
            return self.gettext("%(h)s h") % parts
        return self.gettext("%(h)s h %(m)s min") % parts

    def change(self, change: int | str | None) -> str:
        """The trend in words: ``12 % more``, ``new``, or nothing."""
        if change is None:
            return ""
        if change == NEW:
            return self.gettext("new")
        percent = self.percent(abs(int(change)))
        template = self.gettext("%(percent)s more") if int(change) > 0 else self.gettext("%(percent)s less")
        return template % {"percent": percent}

    def when(self, days: int) -> str:
        """The distance in words: ``today``, ``in 1 day``, ``3 days ago``."""
        if days == 0:
            return self.gettext("today")
        if days > 0:
            return self.ngettext("in %(num)s day", "in %(num)s days", days) % {"num": days}
        return self.ngettext("%(num)s day ago", "%(num)s days ago", -days) % {"num": -days}

    def progress(self, goal: Mapping[str, Any]) -> str:
        """``3 / 10 books (30 %)``, the per cent alone, or nothing when nothing is known."""
        if goal["percent"] is None:
            return ""
        percent = self.percent(goal["percent"])
        if goal["target"] is None:
            return percent
        unit = f" {goal['unit']}" if goal["unit"] else ""
        return f"{self.number(goal['current'])} / {self.number(goal['target'])}{unit} ({percent})"

    def dates(self, first: str, last: str) -> str:
        """A short range: ``2 – 8 Mar``, ``30 Mar – 5 Apr``."""
        pattern = self.gettext("d MMM")
        end = self._dated(last, pattern)
        if first == last:
            return end
        same = first[:7] == last[:7]
        begin = self._dated(first, pattern.replace("MMM", "").strip() if same else pattern)
        return f"{begin} – {end}"

    # ── Sentences of the reports ────────────────────────────────────────────────────────────────────────────

    def suggestion(self, rule: Mapping[str, Any]) -> str:
        """One suggestion for the week ahead."""
        match rule["rule"]:
            case "goal_behind":
                said = self.gettext(
                    "“%(title)s” is due %(when)s and stands at %(percent)s. One session helps."
                )
                title = rule["title"] or self.gettext("Untitled goal")
                return said % {
                    "title": title,
                    "when": self.when(rule["days"]),
                    "percent": self.percent(rule["percent"]),
                }
            case "begin_small":
                return self.gettext("One session of ten minutes early in the week makes a start.")
            case "longer_sessions":
                return self.gettext("Your sessions were short. Try one of 25 minutes without interruption.")
            case "one_more_day":
                return self.gettext("One more active day, even a short one, makes it a habit.")
            case "best_day":
                said = self.gettext("%(weekday)s was your best day. Keep that time free again.")
                return said % {"weekday": self.full_weekday(rule["date"])}
        return self.gettext("Keep what worked.")

    def final(self, figures: Mapping[str, Any]) -> str:
        """Last week's figures, where they changed after its review was sent."""
        sessions = self.ngettext("%(num)s session", "%(num)s sessions", figures["sessions"])
        return self.gettext("Last week, final: %(time)s focused in %(sessions)s.") % {
            "time": self.duration(figures["focus_seconds"]),
            "sessions": sessions % {"num": figures["sessions"]},
        }

    def _dated(self, iso: str, pattern: str) -> str:
        return format_date(date.fromisoformat(iso), pattern, locale=self.locale)


def language_of(locale: str) -> str:
    """The shipped language for a locale such as ``de-AT``; English where there is none."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return language if language in LANGUAGES else "en"


def words_for(locale: str) -> Words:
    """The words of a locale."""
    return _words(language_of(locale))


@lru_cache
def _words(language: str) -> Words:
    return Words(language)


def _catalogue(language: str) -> gettext.NullTranslations:
    path = _CATALOGUES / f"{language}.po"
    if not path.exists():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        found = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, found)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
