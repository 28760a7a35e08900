"""Texts, numbers and dates of one language: a gettext catalogue and Babel's locale data.

The sources are English; ``catalogues/<language>.po`` has the translations. A new language is one more file.
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
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from service.messages.kind import N_, MessageKind
from service.messages.trend import NEW

_CATALOGUES = Path(__file__).parent / "catalogues"
LANGUAGES = ("en", *sorted(path.stem for path in _CATALOGUES.glob("*.po")))
_NO_BREAK = "\u00a0"


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
    """The texts of pages and mails in one language, without the facts."""

    def __init__(self, language: str, catalogues: Path | None = None) -> None:
        self.language = language
        """BCP 47, for the ``lang`` attribute."""
        self.locale = Locale.parse(language, sep="-")
        self.catalogue = _catalogue(language, catalogues)
        self.gettext = self.catalogue.gettext
        self.ngettext = self.catalogue.ngettext

    # ── Kinds of mail ───────────────────────────────────────────────────────────────────────────────────────

    def list_name(self, kind: MessageKind) -> str:
        """What mails of a kind are called."""
        return self._of(kind).gettext(kind.label)

    def hint(self, kind: MessageKind) -> str:
        """When mails of a kind come."""
        return self._of(kind).gettext(kind.hint)

    def reason(self, kind: MessageKind) -> str:
        """Why somebody gets mails of this kind, for the footer."""
        return self._of(kind).gettext(kind.reason)

    def stop(self, kind: MessageKind) -> str:
        """The link that ends mails of this kind."""
        return self._of(kind).gettext(kind.stop)

    def _of(self, kind: MessageKind) -> "Words":
        """The same language with the texts of the package that defines the kind."""
        return words_for(self.language, kind.catalogues)

    @property
    def default_subject(self) -> str:
        """For a mail whose subject would be empty."""
        return self.gettext("A reminder for you")

    @property
    def test_reason(self) -> str:
        """Why somebody gets a test mail."""
        return self.gettext("You asked for a test mail.")

    def section(self, key: str) -> str:
        """A section of the deadline mail."""
        return self.gettext(_SECTIONS[key])

    def due(self, sections: Sequence[Mapping[str, Any]]) -> str:
        """How many goals are due when, by the first two sections: ``2 due tomorrow, 1 due today``."""
        counts = [(_DUE[section["key"]], section["count"]) for section in sections[:2]]
        return ", ".join(self.gettext(text) % {"num": count} for text, count in counts)

    def greeting(self, name: str) -> str:
        """The salutation; without a name if it is unknown."""
        return self.gettext("Hello %(name)s,") % {"name": name} if name else self.gettext("Hello,")

    # ── Dates and numbers ───────────────────────────────────────────────────────────────────────────────────

    @lru_cache(maxsize=2048)  # noqa: B019 — few instances, which live as long as the process
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
                text = self.gettext(
                    "“%(title)s” is due %(when)s and stands at %(percent)s. One session helps."
                )
                title = rule["title"] or self.gettext("Untitled goal")
                return text % {
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
                text = self.gettext("%(weekday)s was your best day. Keep that time free again.")
                return text % {"weekday": self.full_weekday(rule["date"])}
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


def words_for(locale: str, catalogues: Path | None = None) -> Words:
    """The texts of a locale. ``catalogues``: a folder of ``<language>.po`` that has precedence."""
    return _words(language_of(locale), catalogues)


@lru_cache
def _words(language: str, catalogues: Path | None) -> Words:
    return Words(language, catalogues)


def translated_texts(language: str, catalogues: Path | None = None) -> frozenset[str]:
    """The English texts (of plurals the singular) that have a translation in a language."""
    files = [folder / f"{language}.po" for folder in (catalogues, _CATALOGUES) if folder]
    messages = [message for file in files for message in _read_po(file) if message.id and message.string]
    return frozenset(m.id if isinstance(m.id, str) else m.id[0] for m in messages if not m.fuzzy)


def _catalogue(language: str, folder: Path | None) -> gettext.NullTranslations:
    default = _translations(_CATALOGUES / f"{language}.po")
    if folder is None:
        return default
    catalogue = _translations(folder / f"{language}.po")
    catalogue.add_fallback(default)
    return catalogue


def _translations(path: Path) -> gettext.NullTranslations:
    if not path.exists():
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, _read_po(path))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _read_po(path: Path) -> Catalog:
    """The catalogue in a file; an empty one where there is no such file."""
    if not path.exists():
        return Catalog(locale=path.stem)
    with path.open("rb") as file:
        return read_po(file, locale=path.stem)
