"""Charts: whatever the values, everything lies in the frame, higher is higher, and a gap stays a gap."""

import re
from datetime import date, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.web.console import chart_svg
from service.web.console.analytics import charts
from service.web.console.analytics.topics import TOPICS
from service.web.console.chart_svg import (
    BASE,
    TOP,
    Axis,
    AxisLabel,
    AxisScale,
    Band,
    Line,
    Mark,
    gapless_runs,
    number,
    scale_of,
)

VALUES = st.floats(0, 1e7, allow_subnormal=False).map(lambda v: round(v, 3))
COLUMN = st.lists(st.none() | VALUES, min_size=1, max_size=40)
SUNDAY = date(2026, 3, 1)


def axis_of(count: int, final: int | None = None) -> Axis:
    """So many days, of which the first ``final`` are final."""
    days = [SUNDAY + timedelta(days=n) for n in range(count)]
    return chart_svg.day_axis(days, [n < (count if final is None else final) for n in range(count)])


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def of_class(root: ElementTree.Element, wanted: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if wanted in one.get("class", "").split()]


def share(text: str | None) -> float:
    return float((text or "").rstrip("%"))


@given(st.lists(st.floats(-1e7, 1e7, allow_subnormal=False).map(lambda v: round(v, 3)), max_size=20))
@example([0.0, 0.001, -2_499_500.0])
@example([5_000_000.001])
def test_a_scale_holds_all_values_and_zero_and_ends_at_round_ones(values: list[float]) -> None:
    scale = scale_of(values)
    ticks = scale.ticks()

    assert scale.low <= min([0.0, *values])
    assert scale.high >= max([0.0, *values])
    assert ticks[0] == pytest.approx(scale.low)
    assert ticks[-1] == pytest.approx(scale.high)
    assert 2 <= len(ticks) <= 8
    assert 0.0 in ticks
    assert all(TOP <= scale(value) <= BASE for value in values)


@given(VALUES, VALUES, st.floats(1, 1e7))
def test_scales_are_monotone(one: float, other: float, high: float) -> None:
    scale = AxisScale(0, high)
    less, more = sorted((one, other))

    assert scale(less) >= scale(more)
    assert scale(0) == BASE
    assert scale(high) == TOP


@given(COLUMN, COLUMN, st.integers(0, 40))
def test_everything_that_is_drawn_lies_in_the_frame(
    one: list[float | None], two: list[float | None], final: int
) -> None:
    count = min(len(one), len(two))
    axis = axis_of(count, final)
    band = Band(one[:count], [None if v is None else v * 3 + 1 for v in one[:count]])
    marks = [Mark(n, v, "why") for n, v in enumerate(two[:count]) if v is not None][:2]
    shown = [Line("a", one[:count], 1), Line("b", two[:count], 2)]
    for svg in (
        chart_svg.lines(axis, shown, "s", band, marks),
        chart_svg.bars(axis, shown, "s", below=Line("c", one[:count], 4)),
    ):
        root = parsed(svg)
        for path in root.iter("path"):
            found = points(path.get("d", ""))
            assert found
            assert all(0 <= x <= 1000 and TOP <= y <= BASE for x, y in found)
        for bar in of_class(root, "bar"):
            assert share(bar.get("x")) >= 0
            assert share(bar.get("x")) + share(bar.get("width")) <= 100.001
            assert float(bar.get("y", 0)) >= TOP - 0.1
            assert float(bar.get("y", 0)) + float(bar.get("height", 0)) <= BASE + 0.1
        for dot in root.iter("circle"):
            assert 0 <= share(dot.get("cx")) <= 100
            assert TOP <= float(dot.get("cy", 0)) <= BASE


@given(COLUMN)
def test_a_line_is_drawn_where_there_are_values_and_nowhere_else(values: list[float | None]) -> None:
    axis = axis_of(len(values))
    root = parsed(chart_svg.lines(axis, [Line("a", values)], "s"))
    drawn = {round(x, 1) for path in of_class(root, "line") for x, _ in points(path.get("d", ""))}
    drawn |= {round(10 * share(dot.get("cx")), 1) for dot in of_class(root, "dot")}
    wanted = {axis.middle(n) * 10 for n, value in enumerate(values) if value is not None}

    assert sorted(drawn) == pytest.approx(sorted(wanted), abs=0.11)
    moves = sum(path.get("d", "").count("M") for path in of_class(root, "line"))
    assert moves == sum(len(run) > 1 for run in gapless_runs(values))


def test_runs_are_the_stretches_between_gaps() -> None:
    assert gapless_runs([None, 1, 2, None, 3, None]) == [range(1, 3), range(4, 5)]
    assert gapless_runs([]) == []


def test_only_what_is_not_final_is_dashed() -> None:
    axis = axis_of(5, final=3)
    root = parsed(chart_svg.lines(axis, [Line("a", [1, 2, 3, 4, 5])], "s"))
    [firm, soon] = of_class(root, "line")

    assert "soon" not in firm.get("class", "")
    assert [x for x, _ in points(firm.get("d", ""))] == [100, 300, 500]
    assert [x for x, _ in points(soon.get("d", ""))] == [500, 700, 900]
    bars = of_class(parsed(chart_svg.bars(axis, [Line("a", [1, 2, 3, 4, 5])], "s")), "bar")
    assert ["soon" in bar.get("class", "") for bar in bars] == [False] * 3 + [True] * 2


def test_bars_stand_on_each_other_and_what_is_below_hangs() -> None:
    svg = chart_svg.bars(axis_of(1), [Line("a", [10], 1), Line("b", [30], 2)], "s", below=Line("c", [20], 4))
    first, second, below = of_class(parsed(svg), "bar")
    heights = [float(bar.get("height", 0)) for bar in (first, second, below)]

    assert heights[1] == pytest.approx(3 * heights[0], abs=0.2)
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.2)
    assert float(second.get("y", 0)) + heights[1] == pytest.approx(float(first.get("y", 0)), abs=0.11)
    assert float(below.get("y", 0)) == pytest.approx(float(first.get("y", 0)) + heights[0], abs=0.11)


def test_a_wide_range_does_not_press_the_values_flat() -> None:
    root = parsed(
        chart_svg.lines(axis_of(3), [Line("a", [10, 9, 10])], "s", Band([0, 0, 0], [1000, 500, 20]))
    )
    [line] = of_class(root, "line")

    assert min(y for _, y in points(line.get("d", ""))) < (TOP + BASE) / 2


def test_every_text_is_escaped() -> None:
    axis = Axis(["<b>"], [AxisLabel(0, "<i>")])
    svg = chart_svg.lines(axis, [Line('"><x>', [1])], 'a "quoted" <summary>', marks=[Mark(0, 1, "<y>")])

    root = parsed(svg)
    [chart] = [one for one in root.iter("svg") if one.get("role") == "img"]
    assert chart.get("aria-label") == 'a "quoted" <summary>'
    titles = [title.text for title in root.iter("title")]
    assert titles == ['<b>: "><x> 1', "<y>"]


def test_words_for_those_who_do_not_see_it() -> None:
    told = chart_svg.summary_of(
        "Sessions", axis_of(3), [Line("Sessions", [4, None, 1.5])], [Mark(2, 1.5, "few")]
    )

    assert told == (
        "Sessions, Sun 1 Mar 2026 to Tue 3 Mar 2026. Sessions: lowest 1.5 (Tue 3 Mar 2026), highest 4"
        " (Sun 1 Mar 2026), last 1.5 (Tue 3 Mar 2026). Unusual: few."
    )
    assert [number(v) for v in (None, 0, 1225.0, 0.25)] == ["–", "0", "1,225", "0.2"]


@pytest.mark.parametrize("count", [1, 2, 7, 28, 91, 92, 365, 1096])
def test_labels_are_few_ascending_and_on_the_axis(count: int) -> None:
    ticks = axis_of(count).ticks

    assert 1 <= len(ticks) <= 14
    assert [t.index for t in ticks] == sorted({t.index for t in ticks})
    assert all(0 <= t.index < count for t in ticks)


def test_an_anomaly_is_marked_on_its_day_and_told() -> None:
    days = [SUNDAY + timedelta(days=n) for n in range(3)]
    rows = {day: {"final": True, "totalFocusTime": 100.0} for day in days if day != days[1]}
    anomaly = {
        "series": "day.focusMinutes", "peak": "2026-03-03", "value": 100.0, "severity": "major",
        "explanation": "focusMinutes on Tuesday, 2026-03-03: 100, expected 300 to 400",
        "closed_at": None, "since": None,
    }  # fmt: skip
    [topic] = [one for one in TOPICS if one.series == "day.focusMinutes"]
    panel = charts.daily(
        topic,
        charts.ChartDays(days, rows, [anomaly], holidays={days[0]: "DE, AT"}),
        {days[2]: {"low": -5.0, "high": 400.0}},
    )

    [mark] = of_class(parsed(panel.svg), "mark")
    assert share(mark.get("cx")) == pytest.approx(100 * 2.5 / 3, abs=0.01)
    assert [title.text for title in mark] == [
        "Focus minutes on Tuesday, 2026-03-03: 100, expected 300 to 400"
    ]
    assert [(note.severity, note.open) for note in panel.notes] == [("major", True)]
    assert [row[1:] for row in panel.rows] == [["100", "0 to 400"], ["–", "–"], ["100", "–"]]

    # The pointer finds the same at each day, and the scale holds it.
    assert [hit.findtext("title") for hit in of_class(parsed(panel.svg), "hit")] == [
        f"{chart_svg.day_name(days[0])}: Minutes 100, public holiday in DE, AT",
        f"{chart_svg.day_name(days[1])}: Minutes –",
        f"{chart_svg.day_name(days[2])}: Minutes 100, expected 0 to 400",
    ]
    assert TOP <= float(mark.get("cy", 0)) < BASE
    assert [row[0] for row in panel.rows][-1] == f"{chart_svg.day_name(days[0])} (public holiday in DE, AT)"
    assert [stripe.get("x") for stripe in of_class(parsed(panel.svg), "holiday")] == ["0.000%"]
    assert panel.legend["holiday"] == "public holiday"


def test_a_cohort_table_keeps_what_is_immature_empty() -> None:
    found = {
        "kind": "weekly",
        "cohorts": [
            {"cohort": SUNDAY, "size": 20, "cells": [{"active": 20, "size": 20, "rate": 1.0}, None]},
            {"cohort": SUNDAY + timedelta(days=7), "size": 3, "cells": [None, None]},
        ],
        "averages": [{"active": 20, "size": 20, "rate": 1.0}, {"active": 0, "size": 0, "rate": None}],
    }
    shown = charts.cohort_table(found)

    assert [one["name"] for one in shown["cohorts"]] == ["8 Mar 2026", "1 Mar 2026"]
    assert shown["cohorts"][1]["cells"] == [("100", "20 of 20", 10)]
    assert shown["cohorts"][0]["cells"] == [None]
    assert shown["averages"] == [("100", "20 of 20", 10)]
