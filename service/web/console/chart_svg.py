"""Charts as SVG text, drawn by the server: scales, ticks, lines with gaps, ranges, bars. Pure.

Horizontal positions are per cent of the width, so that a chart fits any window and its text keeps its size;
vertical ones are pixels. Colours are classes of the console's stylesheet.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

from markupsafe import Markup, escape

HEIGHT = 220
TOP, BASE = 12, 192
"""Top and bottom of the plot area in pixels; the axis labels are below it."""
GUTTER = 46
"""Width in pixels of the column with the numbers of the scale."""
_WIDE = 1000.0
_STEPS = (1.0, 2.0, 5.0, 10.0)
_TICKS_ACROSS = 8
_LONG = 100

Value = float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One figure along the axis; None: no value. ``tone``: number of the colour, from 1."""

    name: str
    values: Sequence[Value]
    tone: int = 1


@dataclass(frozen=True, slots=True)
class Band:
    """The expected range at each position; None: not enough data."""

    low: Sequence[Value]
    high: Sequence[Value]


@dataclass(frozen=True, slots=True)
class Mark:
    """A highlighted value, and why it is unusual."""

    index: int
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class AxisLabel:
    """A label of the axis. ``minor``: hidden in a narrow window."""

    index: int
    text: str
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """The positions of a chart from left to right: names, labels, whether their figures are final, and which
    are public holidays (position to countries)."""

    names: Sequence[str]
    ticks: Sequence[AxisLabel]
    final: Sequence[bool] = ()
    holidays: Mapping[int, str] = field(default_factory=dict)

    def is_final(self, index: int) -> bool:
        return not self.final or self.final[index]

    def middle(self, index: int) -> float:
        """The middle of a position, in per cent of the width."""
        return 100 * (index + 0.5) / len(self.names)


@dataclass(frozen=True, slots=True)
class AxisScale:
    """Maps values from ``low`` to ``high`` to pixels from the bottom to the top of the plot area."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """The y coordinate of a value, clamped to the scale."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return BASE - share * (BASE - TOP)

    def ticks(self) -> list[float]:
        """Round values on the scale, ascending, including both ends."""
        step = _step(self.high - self.low)
        first, last = round(self.low / step), round(self.high / step)
        return [round(n * step, 9) for n in range(first, last + 1)]


_NEARLY = 1 - 1e-12
"""Tolerance for rounding errors of float division; small, so that small values are not cut off."""


def scale_of(values: Iterable[Value]) -> AxisScale:
    """A scale with round ends that includes zero and all values; from 0 to 1 if there are none."""
    present = [value for value in values if value is not None]
    low, high = min([0.0, *present]), max([0.0, *present])
    if low == high:
        return AxisScale(0.0, 1.0)
    for _ in range(3):
        step = _step(high - low)
        low, high = math.floor(low / step * _NEARLY) * step, math.ceil(high / step * _NEARLY) * step
    return AxisScale(low, high)


def _scale_values(values: Sequence[Value], band: Band | None) -> list[Value]:
    """The values that the scale must include; the band counts up to 1.5 times the largest value only.

    Otherwise a band that is wide for lack of data would flatten everything else.
    """
    limit = 1.5 * max((v for v in values if v is not None), default=0.0)
    highest = max((v for v in band.high if v is not None), default=0.0) if band else 0.0
    return [*values, min(highest, limit) if limit else highest]


def _step(reach: float) -> float:
    """The round step that divides a scale of this extent into two to five parts."""
    size = 10.0 ** math.floor(math.log10(reach / 4))
    return next(size * step for step in _STEPS if size * step * 4.999 >= reach)


def number(value: Value) -> str:
    """A figure with thousands separators; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def day_name(day: date) -> str:
    """``Mon 2 Mar 2026``."""
    return f"{day:%a} {day.day} {day:%b %Y}"


def day_ticks(days: Sequence[date]) -> list[AxisLabel]:
    """Labels for ascending dates: months for a long range, else some of the dates."""
    if not days:
        return []
    if days[-1] - days[0] > timedelta(days=_LONG):
        month_starts = [
            n for n, (a, b) in enumerate(pairwise(days), 1) if (a.year, a.month) != (b.year, b.month)
        ]
        every = math.ceil(len(month_starts) / 13)
        names = {n: f"{days[n]:%b}" if days[n].month > 1 else f"{days[n]:%Y}" for n in month_starts[::every]}
    else:
        every = math.ceil(len(days) / _TICKS_ACROSS)
        names = {n: f"{days[n].day} {days[n]:%b}" for n in range(0, len(days), every)}
    room = len(days) / 40
    visible = [(n, text) for n, text in names.items() if room <= n <= len(days) - room or len(names) < 3]
    return [AxisLabel(n, text, minor=position % 2 == 1) for position, (n, text) in enumerate(visible)]


def day_axis(days: Sequence[date], final: Sequence[bool], holidays: Mapping[date, str] | None = None) -> Axis:
    """An axis of dates, each with the weekday in its name. ``holidays``: date to countries."""
    positions = {n: countries for n, day in enumerate(days) if (countries := (holidays or {}).get(day))}
    return Axis([day_name(day) for day in days], day_ticks(days), final, positions)


# ── Whole charts ────────────────────────────────────────────────────────────────────────────────────────────


def lines(
    axis: Axis, figures: Sequence[Line], summary: str, band: Band | None = None, marks: Sequence[Mark] = ()
) -> Markup:
    """A line chart, with an expected range. Provisional values are dashed, a missing value leaves a gap."""
    values = [*(value for line in figures for value in line.values), *(mark.value for mark in marks)]
    scale = scale_of(_scale_values(values, band))
    shapes = _band_path(axis, band, scale) if band else ""
    shapes += "".join(_line(axis, line, scale) for line in figures)
    dots = "".join(_isolated_points(axis, line, scale) for line in figures)
    content = f"{_stretch(shapes)}{dots}{_tooltips(axis, figures, band)}{_flags(axis, marks, scale)}"
    return _frame(axis, scale, content, summary)


def bars(
    axis: Axis,
    stacked: Sequence[Line],
    summary: str,
    below: Line | None = None,
    band: Band | None = None,
    marks: Sequence[Mark] = (),
) -> Markup:
    """A stacked bar chart; ``below`` is drawn under the axis. Provisional bars have a dashed edge."""
    sums = [sum(v or 0 for v in column) for column in zip(*(b.values for b in stacked), strict=True)]
    below_axis = [-(v or 0) for v in below.values] if below else []
    scale = scale_of(_scale_values([*sums, *below_axis], band))
    shapes = _stretch(_band_path(axis, band, scale)) if band else ""
    for index in range(len(axis.names)):
        at = 0.0
        for bar in stacked:
            value = bar.values[index] or 0
            shapes += _bar(axis, index, bar.tone, scale(at + value), scale(at))
            at += value
        if below:
            shapes += _bar(axis, index, below.tone, scale(0), scale(below_axis[index]))
    figures = [*stacked, below] if below else stacked
    return _frame(axis, scale, shapes + _tooltips(axis, figures, band) + _flags(axis, marks, scale), summary)


def summary_of(title: str, axis: Axis, figures: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """A chart in words, for screen readers."""
    if not axis.names:
        return f"{title}: nothing yet."
    parts = [f"{title}, {axis.names[0]} to {axis.names[-1]}."]
    for line in figures:
        points = [
            (value, name) for value, name in zip(line.values, axis.names, strict=True) if value is not None
        ]
        if not points:
            parts.append(f"{line.name}: nothing.")
            continue
        (lowest, lowest_at), (highest, highest_at) = (
            min(points, key=lambda point: point[0]),
            max(points, key=lambda point: point[0]),
        )
        parts.append(
            f"{line.name}: lowest {number(lowest)} ({lowest_at}), highest {number(highest)} ({highest_at}),"
            f" last {number(points[-1][0])} ({points[-1][1]})."
        )
    if marks:
        parts.append(f"Unusual: {'; '.join(m.text for m in marks)}.")
    return " ".join(parts)


# ── Parts of charts ─────────────────────────────────────────────────────────────────────────────────────────


def gapless_runs(values: Sequence[Value]) -> list[range]:
    """The ranges of consecutive positions that have a value."""
    ranges, start = [], None
    for index, value in enumerate([*values, None]):
        if value is not None:
            start = index if start is None else start
        elif start is not None:
            ranges.append(range(start, index))
            start = None
    return ranges


def _line(axis: Axis, line: Line, scale: AxisScale) -> str:
    paths: dict[bool, list[str]] = {True: [], False: []}
    for run in gapless_runs(line.values):
        points = [_point(axis, index, scale(line.values[index] or 0)) for index in run]
        firm = [axis.is_final(a) and axis.is_final(b) for a, b in pairwise(run)]
        for n, solid in enumerate(firm):
            joined = n > 0 and firm[n - 1] == solid
            paths[solid].append(f"L{points[n + 1]}" if joined else f"M{points[n]}L{points[n + 1]}")
    return "".join(
        f'<path class="line c{line.tone}{"" if solid else " soon"}" d="{"".join(path)}"/>'
        for solid, path in paths.items()
        if path
    )


def _isolated_points(axis: Axis, line: Line, scale: AxisScale) -> str:
    """Dots for values without neighbours, which no line connects."""
    return "".join(
        f'<circle class="dot c{line.tone}" cx="{axis.middle(run[0]):.3f}%"'
        f' cy="{scale(line.values[run[0]] or 0):.1f}" r="3"/>'
        for run in gapless_runs(line.values)
        if len(run) == 1
    )


def _band_path(axis: Axis, band: Band, scale: AxisScale) -> str:
    paths = []
    for run in gapless_runs(
        [lo if hi is not None else None for lo, hi in zip(band.low, band.high, strict=True)]
    ):
        half = 50 / len(axis.names) if len(run) == 1 else 0.0
        upper = [(i, band.high[i] or 0) for i in run]
        lower = [(i, band.low[i] or 0) for i in reversed(run)]
        way = [_point(axis, i, scale(v), by) for i, v, by in _edges(upper, half) + _edges(lower, -half)]
        paths.append(f"M{'L'.join(way)}Z")
    return f'<path class="band" d="{"".join(paths)}"/>' if paths else ""


def _edges(points: Sequence[tuple[int, float]], half: float) -> list[tuple[int, float, float]]:
    """The points of an edge; an edge at a single position gets a width."""
    if not half:
        return [(index, value, 0.0) for index, value in points]
    [(index, value)] = points
    return [(index, value, -half), (index, value, half)]


def _point(axis: Axis, index: int, y: float, by: float = 0.0) -> str:
    return f"{(axis.middle(index) + by) / 100 * _WIDE:.1f} {y:.1f}"


def _bar(axis: Axis, index: int, tone: int, top: float, bottom: float) -> str:
    if bottom - top < 0.05:
        return ""
    slot = 100 / len(axis.names)
    broad = slot * (0.72 if len(axis.names) <= 60 else 0.9)
    soon = "" if axis.is_final(index) else " soon"
    return (
        f'<rect class="bar c{tone}{soon}" x="{axis.middle(index) - broad / 2:.3f}%" y="{top:.1f}"'
        f' width="{broad:.3f}%" height="{bottom - top:.1f}"/>'
    )


def _tooltips(axis: Axis, figures: Sequence[Line], band: Band | None) -> str:
    """Tooltips: an invisible rectangle for each position."""
    slot, tooltips = 100 / max(len(axis.names), 1), []
    for index, name in enumerate(axis.names):
        facts = [f"{line.name} {number(line.values[index])}" for line in figures]
        if band and band.low[index] is not None:
            facts.append(
                f"expected {number(round(band.low[index] or 0))} to {number(round(band.high[index] or 0))}"
            )
        if index in axis.holidays:
            facts.append(f"public holiday in {axis.holidays[index]}")
        if not axis.is_final(index):
            facts.append("provisional")
        tooltips.append(
            f'<rect class="hit" x="{index * slot:.3f}%" y="0" width="{slot:.3f}%" height="{BASE}">'
            f"<title>{escape(name)}: {escape(', '.join(facts))}</title></rect>"
        )
    return "".join(tooltips)


def _holidays(axis: Axis) -> str:
    """A stripe behind each public holiday."""
    slot = 100 / max(len(axis.names), 1)
    return "".join(
        f'<rect class="holiday" x="{index * slot:.3f}%" y="{TOP}" width="{slot:.3f}%" height="{BASE - TOP}"/>'
        for index in axis.holidays
    )


def _flags(axis: Axis, marks: Sequence[Mark], scale: AxisScale) -> str:
    return "".join(
        f'<circle class="mark" cx="{axis.middle(m.index):.3f}%" cy="{scale(m.value):.1f}" r="6">'
        f"<title>{escape(m.text)}</title></circle>"
        for m in marks
    )


def _stretch(shapes: str) -> str:
    """SVG paths have no percentages, so they are drawn in a nested SVG that is stretched."""
    return (
        f'<svg viewBox="0 0 {_WIDE:.0f} {HEIGHT}" preserveAspectRatio="none" width="100%"'
        f' height="{HEIGHT}" aria-hidden="true">{shapes}</svg>'
    )


def _frame(axis: Axis, scale: AxisScale, shapes: str, summary: str) -> Markup:
    heights = [(value, scale(value)) for value in scale.ticks()]
    largest = max(scale.high, -scale.low)
    numbers = "".join(
        f'<text x="{GUTTER - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value, largest)}</text>'
        for value, y in heights
    )
    grid = "".join(
        f'<line class="grid{" zero" if value == 0 else ""}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        for value, y in heights
    )
    names = "".join(
        f'<text class="{"minor" if tick.minor else "label"}" x="{axis.middle(tick.index):.3f}%"'
        f' y="{BASE + 20}" text-anchor="{_anchor(axis.middle(tick.index))}">{escape(tick.text)}</text>'
        for tick in axis.ticks
    )
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<div class="plot"><svg width="{GUTTER}" height="{HEIGHT}" aria-hidden="true">{numbers}</svg>'
        f'<svg class="chart" role="img" aria-label="{escape(summary)}" width="100%" height="{HEIGHT}">'
        f"{_holidays(axis)}{grid}{names}{shapes}</svg></div>"
    )


def _short(value: float, largest: float) -> str:
    """A short number for the scale. Without a sign: figures below the axis are counts, too."""
    size = abs(value)
    if largest >= 1e6:
        return f"{size / 1e6:g}M" if size else "0"
    if largest >= 1e4:
        return f"{size / 1e3:g}k" if size else "0"
    return f"{size:,g}"


def _anchor(at: float) -> str:
    if at < 4:
        return "start"
    return "end" if at > 96 else "middle"
