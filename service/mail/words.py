"""The words that templates do not hold themselves. English today; a catalogue is one more ``Words``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from service.domain.dashboard import Kind


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that a mail says in one language, apart from the facts."""

    language: str
    """BCP 47, for the ``lang`` attribute."""
    weekdays: tuple[str, ...]
    """Short, Monday first."""
    months: tuple[str, ...]
    list_names: Mapping[Kind, str]
    reasons: Mapping[Kind, str]
    """Why somebody gets mails of this kind, for the footer."""
    stop_kind: Mapping[Kind, str]
    stop_all: str
    preferences: str
    hello: str
    hello_nobody: str
    default_subject: str
    deadlines_lead: str
    overdue_hint: str
    open_goal: str
    open_goals: str
    more_goal: str
    more_goals: str

    def day(self, iso: str) -> str:
        """A date with its weekday: ``2026-03-10`` → ``Tue 10 March``."""
        day = date.fromisoformat(iso)
        return f"{self.weekdays[day.weekday()]} {day.day} {self.months[day.month - 1]}"

    def greeting(self, name: str) -> str:
        """The first words of the mail; fits people whose name nobody knows."""
        return self.hello.format(name=name) if name else self.hello_nobody

    def more(self, count: int) -> str:
        """How many goals are not listed."""
        return self.more_goal if count == 1 else self.more_goals.format(count=count)


ENGLISH = Words(
    language="en",
    weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    list_names={
        Kind.DEADLINES: "Deadline reminders",
        Kind.DAILY: "Daily check-in",
        Kind.WEEKLY: "Weekly review",
        Kind.INACTIVE: "Reminders after a pause",
        Kind.BREAKS: "Break reminders",
        Kind.MONTHLY: "Monthly report",
    },
    reasons={
        Kind.DEADLINES: "You get this because a goal of yours has a date soon and deadline reminders are on.",
        Kind.DAILY: "You get this because daily check-ins are on.",
        Kind.WEEKLY: "You get this because weekly reviews are on.",
        Kind.INACTIVE: "You get this because you have an account and reminders after a pause are on.",
        Kind.BREAKS: "You get this because you asked for break reminders by mail.",
        Kind.MONTHLY: "You get this because monthly reports are on.",
    },
    stop_kind={
        Kind.DEADLINES: "Stop deadline reminders",
        Kind.DAILY: "Stop daily check-ins",
        Kind.WEEKLY: "Stop weekly reviews",
        Kind.INACTIVE: "Stop reminders after a pause",
        Kind.BREAKS: "Stop break reminders",
        Kind.MONTHLY: "Stop monthly reports",
    },
    stop_all="Stop all mails",
    preferences="Change what you get",
    hello="Hello {name},",
    hello_nobody="Hello,",
    default_subject="A reminder for you",
    deadlines_lead="this is what is due, and where it stands.",
    overdue_hint="Done already, or no longer wanted? Close the goal or give it a new date.",
    open_goal="Open this goal",
    open_goals="Open your goals",
    more_goal="+1 more",
    more_goals="+{count} more",
)

_LANGUAGES = {"en": ENGLISH}


def words_for(locale: str) -> Words:
    """The words of a locale such as ``de-AT``; English where there is no catalogue yet."""
    return _LANGUAGES.get(locale.replace("_", "-").partition("-")[0].lower(), ENGLISH)
