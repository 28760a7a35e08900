"""The charts of daily figures on /console/analytics, with the definitions of what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FINAL = (
    "A day is final when its date is over in every time zone, from 12:00 UTC on the day after; late and"
    " edited data revises it even then."
)
_RANGES = "Days add up to any range. Weeks and months count by people's own dates, so their edges differ."


@dataclass(frozen=True, slots=True)
class ChartTopic:
    """A chart of daily figures. ``figures``: figure to its name; ``series``: whose range is drawn.

    ``definition``: how the figures are counted, when they are final, and whether they may be added up.
    """

    name: str
    title: str
    hint: str
    figures: Mapping[str, str]
    definition: Sequence[str]
    series: str = ""
    as_bars: bool = False


TOPICS = (
    ChartTopic(
        "active",
        "Active users",
        "Who opened a session that day, in the 7 and in the 30 days to it.",
        {"mau": "MAU", "wau": "WAU", "dau": "DAU"},
        (
            "Distinct people who started a session that was not rejected, by their own local date.",
            "They do not add up: who comes on two days counts once in WAU and once in MAU.",
            _FINAL,
        ),
    ),
    ChartTopic(
        "present",
        "Users per day",
        "Who started a session, or made or reached a goal, on the day by the service's clock.",
        {"activeUsers": "Active users"},
        (
            "Distinct people, by the day in the service's time zone; DAU counts by each person's own date.",
            "Days do not add up: who comes on two days counts once on each.",
            _FINAL,
        ),
        "day.activeUsers",
    ),
    ChartTopic(
        "sessions",
        "Sessions",
        "Focus sessions completed, by the day on which they began.",
        {"totalSessions": "Sessions"},
        (
            "Breaks, cancelled and abandoned ones are not counted. The day is that of the service's clock.",
            _RANGES,
            _FINAL,
        ),
        "day.sessions",
    ),
    ChartTopic(
        "focus",
        "Focus time",
        "Minutes of focus, by the day on which the session began.",
        {"totalFocusTime": "Minutes"},
        (
            "The credited time of completed and abandoned sessions: without pauses, at most 4 hours each.",
            _RANGES,
            _FINAL,
        ),
        "day.focusMinutes",
    ),
    ChartTopic(
        "goals",
        "Goals",
        "Made and reached per day; the range is that of the reached.",
        {"goalsCompleted": "Reached", "goalsCreated": "Made"},
        (
            "By the service's day on which a goal was made or reached. Deleted goals leave both.",
            "Days add up. Reached is not a share of made: most goals are reached on a later day.",
            _FINAL,
        ),
        "day.goalsCompleted",
    ),
    ChartTopic(
        "new",
        "New users",
        "Accounts made per day.",
        {"newUsers": "New users"},
        ("By the day on which the account was made, by the service's clock.", "Days add up.", _FINAL),
        "day.newUsers",
        as_bars=True,
    ),
)
