"""Charts, tables and notes of /console/analytics; pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Any

from markupsafe import Markup

from service.analytics.replaced_values import ReplacedValue
from service.web.console import chart_svg
from service.web.console.analytics.topics import ChartTopic
from service.web.console.chart_svg import Axis, AxisLabel, Band, Line, Mark, number

Row = Mapping[str, Any]

WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_CAPITAL = re.compile("(?<!^)[A-Z]")
COLUMNS = {"weekly": 16, "monthly": 12}
"""How many periods of a cohort are shown; the export has all."""


@dataclass(frozen=True, slots=True)
class ChartNote:
    """An anomaly in words. ``severity``: minor, major or critical."""

    text: str
    severity: str
    open: bool


@dataclass(frozen=True, slots=True)
class ChartPanel:
    """A chart and its figures as a table. ``legend``: CSS class to its meaning."""

    name: str
    title: str
    hint: str
    svg: Markup
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[ChartNote] = ()
    across: bool = False
    """Whether it is as wide as the page."""
    definition: Sequence[str] = ()
    """How the figures are counted, whether they add up, and when they are final; a paragraph each."""
    revised: Sequence[str] = ()
    """Final figures that were revised, in words, newest period first."""


@dataclass(frozen=True, slots=True)
class ChartDays:
    """The dates of the charts, the figures of those that have some, and what is to be said of them.

    ``holidays``: date to the countries that had a public one.
    """

    days: Sequence[date]
    rows: Mapping[date, Row]
    anomalies: Sequence[Row] = ()
    replaced: Sequence[ReplacedValue] = ()
    holidays: Mapping[date, str] = field(default_factory=dict)


def holidays_of(ranges: Iterable[Mapping[date, Row]]) -> dict[date, str]:
    """The public holidays that judged days of series name."""
    return {day: row["holiday"] for rows in ranges for day, row in rows.items() if row["holiday"]}


def daily(topic: ChartTopic, content: ChartDays, ranges: Mapping[date, Row]) -> ChartPanel:
    """A chart of some figures of each day; a day without figures leaves a gap."""
    days, rows = content.days, content.rows
    final = [day not in rows or rows[day]["final"] for day in days]
    axis = chart_svg.day_axis(days, final, content.holidays)
    lines_ = [
        Line(name, [rows[day].get(figure) if day in rows else None for day in days], tone)
        for tone, (figure, name) in enumerate(topic.figures.items(), 1)
    ]
    band = _band(days, ranges)
    marks = _marks(topic.series, days, content.anomalies)
    summary = chart_svg.summary_of(topic.title, axis, lines_, marks)
    draw = (
        chart_svg.bars(axis, lines_, summary, band=band, marks=marks)
        if topic.as_bars
        else chart_svg.lines(axis, lines_, summary, band, marks)
    )
    return ChartPanel(
        topic.name,
        topic.title,
        topic.hint,
        draw,
        ["Day", *(line.name for line in lines_), *(["Expected"] if band else [])],
        _table(axis, lines_, band),
        _legend(axis, lines_, band, marks),
        [note(anomaly) for anomaly in content.anomalies if anomaly["series"] == topic.series],
        definition=topic.definition,
        revised=_revised(topic, rows, content.replaced),
    )


def _revised(topic: ChartTopic, rows: Mapping[date, Row], replaced: Sequence[ReplacedValue]) -> list[str]:
    return [
        f"{topic.figures[one.figure]} on {chart_svg.day_name(one.period)}:"
        f" {number(rows[one.period][one.figure])}; was {number(one.was)} until"
        f" {chart_svg.day_name(one.until.astimezone(UTC).date())}, {one.until.astimezone(UTC):%H:%M} UTC"
        for one in reversed(replaced)
        if one.figure in topic.figures and one.period in rows
    ]


def _band(days: Sequence[date], ranges: Mapping[date, Row]) -> Band | None:
    if not any(ranges.get(day) and ranges[day]["low"] is not None for day in days):
        return None
    expected = [ranges.get(day) or {"low": None, "high": None} for day in days]
    low = [None if bounds["low"] is None else max(bounds["low"], 0.0) for bounds in expected]
    return Band(low, [bounds["high"] for bounds in expected])


def _marks(series: str, days: Sequence[date], anomalies: Sequence[Row]) -> list[Mark]:
    places = {day.isoformat(): n for n, day in enumerate(days)}
    return [
        Mark(places[anomaly["peak"]], anomaly["value"], note(anomaly).text)
        for anomaly in anomalies
        if anomaly["series"] == series and anomaly["peak"] in places
    ]


def note(anomaly: Row) -> ChartNote:
    """An anomaly in words; hourly ones get their date, which the explanation omits."""
    subject, _, rest = anomaly["explanation"].partition(" ")
    text = f"{_CAPITAL.sub(_lower, subject[:1].upper() + subject[1:])} {rest}"
    if not anomaly["series"].startswith("day."):
        text = f"{chart_svg.day_name(anomaly['since'].date())}, UTC: {text}"
    return ChartNote(text, anomaly["severity"], anomaly["closed_at"] is None)


def _lower(capital: re.Match[str]) -> str:
    return f" {capital[0].lower()}"


def _legend(axis: Axis, lines_: Sequence[Line], band: Band | None, marks: Sequence[Mark]) -> dict[str, str]:
    legend = {f"c{line.tone}": line.name for line in lines_} if len(lines_) > 1 else {}
    if band:
        legend["band"] = "expected range"
    if not all(axis.final):
        legend["soon"] = "provisional"
    if axis.holidays:
        legend["holiday"] = "public holiday"
    if marks:
        legend["mark"] = "unusual"
    return legend


def _table(axis: Axis, lines_: Sequence[Line], band: Band | None) -> list[list[str]]:
    """The figures as rows of a table, newest first."""
    rows = []
    for n in reversed(range(len(axis.names))):
        cells = [_day_name(axis, n)]
        cells += [number(line.values[n]) for line in lines_]
        if band:
            low, high = band.low[n], band.high[n]
            cells.append("–" if low is None or high is None else f"{low:,.0f} to {high:,.0f}")
        rows.append(cells)
    return rows


def _day_name(axis: Axis, n: int) -> str:
    told = [f"public holiday in {axis.holidays[n]}"] if n in axis.holidays else []
    told += [] if axis.is_final(n) else ["provisional"]
    return f"{axis.names[n]} ({', '.join(told)})" if told else axis.names[n]


# ── Weeks ───────────────────────────────────────────────────────────────────────────────────────────────────


def lifecycle(weeks: Sequence[Row]) -> ChartPanel:
    """New, returning and resurrecting people of each week; dormant ones below the axis."""
    names = {"new": "New", "returning": "Returning", "resurrecting": "Resurrecting", "dormant": "Dormant"}
    axis = chart_svg.day_axis([week["period"] for week in weeks], [week["final"] for week in weeks])
    lines_ = [
        Line(name, [week["lifecycle"][figure] for week in weeks], tone)
        for tone, (figure, name) in enumerate(names.items(), 1)
    ]
    *above, dormant = lines_
    summary = chart_svg.summary_of("Lifecycle, weeks from Sunday", axis, lines_)
    return ChartPanel(
        "lifecycle",
        "Lifecycle",
        "People active in each week: first ever, as in the week before, or back after a pause."
        " Below the axis: active the week before, not in this one.",
        chart_svg.bars(axis, above, summary, below=dormant),
        ["Week from", *names.values()],
        _table(axis, lines_, None),
        _legend(axis, lines_, None, ()),
        across=True,
    )


def hours(weeks: Sequence[Row]) -> ChartPanel:
    """Focus minutes by local hour of the day, summed over the weeks."""
    return _margin(
        "hours",
        "Hours of the day",
        "Minutes of focus by the local hour, over all weekdays of these weeks.",
        [f"{hour:02d}:00" for hour in range(24)],
        [AxisLabel(hour, f"{hour:02d}", minor=hour % 6 == 3) for hour in range(0, 24, 3)],
        [week["usagePatterns"]["hourlyDistribution"] for week in weeks],
        "Hour",
    )


def weekdays(weeks: Sequence[Row]) -> ChartPanel:
    """Focus minutes by weekday, summed over the weeks."""
    return _margin(
        "weekdays",
        "Weekdays",
        "Minutes of focus by the weekday, over all hours of these weeks.",
        WEEKDAYS,
        [AxisLabel(n, name) for n, name in enumerate(WEEKDAYS)],
        [week["usagePatterns"]["dailyDistribution"] for week in weeks],
        "Weekday",
    )


def heat_map(weeks: Sequence[Row]) -> dict[str, Any] | None:
    """Focus minutes by weekday and local hour, summed over the weeks; None: no week has them.

    A cell is its minutes in words, and the level of its colour from 0 to 10, by the largest cell.
    """
    matrices = [m for week in weeks if (m := week["usagePatterns"].get("weekdayHours"))]
    if not matrices:
        return None
    seconds = [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
    most = max(map(max, seconds)) or 1
    return {
        "hours": [f"{hour:02d}" for hour in range(24)],
        "weeks": len(matrices),
        "rows": [_heat_row(WEEKDAYS[dow], seconds[dow], most) for dow in range(7)],
    }


def _heat_row(name: str, seconds: Sequence[float], most: float) -> dict[str, Any]:
    minutes = [f"{name} {hour:02d}:00: {number(round(value / 60))} min" for hour, value in enumerate(seconds)]
    levels = [round(10 * value / most) for value in seconds]
    return {"name": name, "cells": list(zip(minutes, levels, strict=True))}


def _margin(
    name: str,
    title: str,
    hint: str,
    names: Sequence[str],
    ticks: Sequence[AxisLabel],
    seconds: Sequence[Sequence[float]],
    head: str,
) -> ChartPanel:
    axis = Axis(names, ticks)
    line = Line("Minutes", [round(sum(column) / 60, 1) for column in zip(*seconds, strict=True)])
    rows = [[axis.names[n], number(line.values[n])] for n in range(len(names))]
    return ChartPanel(
        name,
        title,
        hint,
        chart_svg.bars(axis, [line], chart_svg.summary_of(title, axis, [line])),
        [head, "Minutes"],
        rows,
    )


# ── Cohorts ─────────────────────────────────────────────────────────────────────────────────────────────────


def cohort_table(table: Row) -> dict[str, Any]:
    """The retention table: the cells of each cohort, None for periods that are not over.

    A cell is its per cent, its counts in words, and the level of its colour from 0 to 10.
    """
    width = min(
        COLUMNS[table["kind"]],
        max((_mature_cells(cohort["cells"]) for cohort in table["cohorts"]), default=0),
    )
    name: Callable[[date], str] = (
        (lambda day: f"{day:%b %Y}") if table["kind"] == "monthly" else (lambda day: f"{day.day} {day:%b %Y}")
    )
    return {
        "columns": range(width),
        "cut": any(_mature_cells(cohort["cells"]) > width for cohort in table["cohorts"]),
        "cohorts": [
            {
                "name": name(cohort["cohort"]),
                "size": cohort["size"],
                "cells": [_cell(c) for c in cohort["cells"][:width]],
            }
            for cohort in reversed(table["cohorts"])
        ],
        "averages": [_cell(cohort) if cohort["size"] else None for cohort in table["averages"][:width]],
    }


def _mature_cells(cells: Sequence[Row | None]) -> int:
    return max((n for n, cell in enumerate(cells, 1) if cell), default=0)


def _cell(cell: Row | None) -> tuple[str, str, int] | None:
    if cell is None:
        return None
    rate = cell["rate"]
    return (
        "–" if rate is None else f"{100 * rate:.0f}",
        f"{cell['active']} of {cell['size']}",
        round(10 * (rate or 0)),
    )


# ── Dates ───────────────────────────────────────────────────────────────────────────────────────────────────


def days_between(since: date, until: date) -> list[date]:
    """Every date, both included."""
    return [since + timedelta(days=n) for n in range((until - since).days + 1)]
