"""The calendar of one person: streaks, weeks, months, figures, trends, stretches and absences, told twice."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.analytics.absence import Episode, answered, silent_until, step_due
from service.analytics.activity import LocalSession, figures, focus_by_period
from service.analytics.focus_stretch import breaks_due, stretch_start
from service.analytics.periods import Period, month_before, week_before, week_ending_by, weeks_of
from service.analytics.streak import current_streak, longest_streak
from service.messages.trend import NEW, change

TODAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

any_day = st.dates(date(2023, 1, 1), date(2030, 12, 31))
week_starts = st.integers(0, 6)


def ago(*numbers: int) -> set[date]:
    """So many days before today."""
    return {TODAY - n * DAY for n in numbers}


# ── Streaks ─────────────────────────────────────────────────────────────────────────────────────────────────

lately = st.sets(st.integers(0, 14)).map(lambda numbers: ago(*numbers))


def chains(days: Collection[date], moved: Collection[date]) -> list[list[date]]:
    """All dates, cut wherever more than a lost date lies between two neighbours."""
    found: list[list[date]] = []
    for day in sorted(days):
        gap = (day - found[-1][-1]).days if found else 99
        lost = gap == 2 and not {day, day - DAY}.isdisjoint(moved)
        if gap == 1 or lost:
            found[-1].append(day)
        else:
            found.append([day])
    return found


def naive_current(days: Collection[date], moved: Collection[date]) -> int:
    """Assume that tomorrow has a session, and count what it would go on from."""
    last = max(days, default=date.min)
    end = TODAY if last == TODAY else TODAY - DAY
    reaches = last == end or (last == end - DAY and not {end, end + DAY}.isdisjoint(moved))
    return len(chains(days, moved)[-1]) if reaches else 0


@given(lately)
def test_a_streak_is_the_run_that_ends_today_or_yesterday(days: set[date]) -> None:
    by_end = {chain[-1]: len(chain) for chain in chains(days, ())}

    assert current_streak(days, TODAY) == by_end.get(TODAY, by_end.get(TODAY - DAY, 0))
    assert longest_streak(days) == max(by_end.values(), default=0)


@given(lately, lately)
def test_where_the_zone_changed_one_lost_date_breaks_no_streak_and_counts_for_none(
    days: set[date], moved: set[date]
) -> None:
    assert current_streak(days, TODAY, moved) == naive_current(days, moved)
    assert longest_streak(days, moved) == max(map(len, chains(days, moved)), default=0)


@given(lately, lately)
def test_the_streak_of_today_is_never_longer_than_the_longest_nor_shortened_by_a_journey(
    days: set[date], moved: set[date]
) -> None:
    assert current_streak(days, TODAY) <= current_streak(days, TODAY, moved) <= longest_streak(days, moved)
    assert longest_streak(days, moved) <= len(days)


@pytest.mark.parametrize(
    ("days", "moved", "current", "longest"),
    [
        ((), (), 0, 0),
        ((0,), (), 1, 1),
        ((1,), (), 1, 1),
        ((2,), (), 0, 1),
        ((1, 2, 3), (), 3, 3),
        ((0, 2, 3), (), 1, 2),
        ((0, 2, 3), (1,), 3, 3),
        ((0, 2, 3), (0,), 3, 3),
        ((0, 3, 4), (1, 2), 1, 2),
        ((2, 3), (1,), 2, 2),
        ((2, 3), (0,), 2, 2),
        ((3, 4), (0, 1, 2), 0, 2),
        ((0, 2, 4), (1, 3), 3, 3),
    ],
)
def test_streaks_by_example(
    days: tuple[int, ...], moved: tuple[int, ...], current: int, longest: int
) -> None:
    assert current_streak(ago(*days), TODAY, ago(*moved)) == current
    assert longest_streak(ago(*days), ago(*moved)) == longest


# ── Weeks and months ────────────────────────────────────────────────────────────────────────────────────────


def sunday_first(day: date) -> int:
    """0 = Sunday … 6 = Saturday, counted from a Sunday everybody knows."""
    return (day - date(2000, 1, 2)).days % 7


@given(any_day, week_starts)
def test_the_last_week_is_whole_ends_by_the_day_and_no_later_one_does(day: date, start: int) -> None:
    week = week_ending_by(day, start)

    ends = [day - n * DAY for n in range(7) if sunday_first(day - n * DAY + DAY) == start]
    assert [week.last] == ends
    assert sunday_first(week.start) == start
    assert len(week.days) == 7


@pytest.mark.parametrize(
    ("day", "start", "first", "last"),
    [
        ("2026-04-26", 1, "2026-04-20", "2026-04-26"),  # Monday to the Sunday of the slot
        ("2026-04-26", 0, "2026-04-19", "2026-04-25"),  # Sunday to the Saturday before
        ("2026-04-26", 6, "2026-04-18", "2026-04-24"),
        ("2026-04-26", 2, "2026-04-14", "2026-04-20"),
        ("2026-04-25", 1, "2026-04-13", "2026-04-19"),
        ("2026-04-27", 1, "2026-04-20", "2026-04-26"),
        ("2027-01-03", 1, "2026-12-28", "2027-01-03"),
    ],
)
def test_weeks_by_example(day: str, start: int, first: str, last: str) -> None:
    week = week_ending_by(date.fromisoformat(day), start)

    assert (week.start.isoformat(), week.last.isoformat()) == (first, last)


@given(any_day, week_starts)
def test_the_week_before_is_the_same_week_seen_seven_days_earlier(day: date, start: int) -> None:
    week = week_ending_by(day, start)

    assert week_before(week) == week_ending_by(day - 7 * DAY, start)
    assert week_before(week).last + DAY == week.start


@given(any_day)
@example(date(2024, 3, 31))
@example(date(2026, 1, 1))
def test_the_month_before_holds_all_dates_of_one_month_and_ends_where_this_one_begins(day: date) -> None:
    month = month_before(day)

    near = [day - n * DAY for n in range(70)]
    last = next(one for one in near if one.month != day.month)
    assert set(month.days) == {one for one in near if (one.year, one.month) == (last.year, last.month)}
    assert month.end == day.replace(day=1)


@given(any_day, week_starts)
def test_the_weeks_of_a_month_share_it_out(day: date, start: int) -> None:
    month = month_before(day)

    weeks = weeks_of(month, start)

    assert [one for week in weeks for one in week.days] == month.days
    assert all(1 <= len(week.days) <= 7 for week in weeks)
    assert all(a.end == b.start and sunday_first(b.start) == start for a, b in pairwise(weeks))
    assert all(len(week.days) == 7 for week in weeks[1:-1])


@given(any_day, st.integers(1, 400))
def test_a_period_holds_its_dates_and_not_its_end(start: date, length: int) -> None:
    period = Period(start, start + length * DAY)

    assert period.days[0] == start in period
    assert period.days[-1] == period.last in period
    assert period.end not in period
    assert start - DAY not in period
    assert len(period.days) == length


# ── Figures ─────────────────────────────────────────────────────────────────────────────────────────────────

STATUSES = ("completed", "abandoned", "cancelled", "running", "paused", "rejected")
WEEK = Period(date(2026, 3, 2), date(2026, 3, 9))

local_sessions = st.lists(
    st.builds(
        LocalSession,
        day=st.dates(WEEK.start - 2 * DAY, WEEK.end + DAY),
        focus=st.booleans(),
        status=st.sampled_from(STATUSES),
        focus_seconds=st.sampled_from([0, 29, 30, 59, 60]) | st.integers(0, 4 * 3600),
        category=st.sampled_from([None, "", "reading", "music", "work"]),
    ),
    max_size=25,
)


@given(local_sessions)
def test_figures_are_what_somebody_would_count_with_a_pencil(sessions: list[LocalSession]) -> None:
    by_day: dict[date, int] = dict.fromkeys(WEEK.days, 0)
    by_category: dict[str, int] = defaultdict(int)
    done = 0
    for one in sessions:
        if WEEK.start <= one.day < WEEK.end:
            done += one.focus and one.status == "completed"
            if one.focus and one.status in ("completed", "abandoned"):
                by_day[one.day] += one.focus_seconds
                by_category[one.category or ""] += one.focus_seconds

    found = figures(sessions, WEEK)

    assert dict(zip(WEEK.days, found.by_day, strict=True)) == by_day
    assert found.focus_seconds == sum(found.by_day)
    assert (found.sessions, found.active_days) == (done, sum(s >= 60 for s in by_day.values()))
    assert dict(found.categories) == {name: s for name, s in by_category.items() if name and s}
    seconds = [s for _, s in found.categories]
    assert seconds == sorted(seconds, reverse=True)
    if found.best_day is None:
        assert found.focus_seconds == 0
    else:
        most = max(by_day.values())
        assert found.best_day == min(day for day, s in by_day.items() if s == most)
        assert most > 0


@given(local_sessions)
def test_the_average_is_the_focus_time_shared_among_completed_sessions(sessions: list[LocalSession]) -> None:
    found = figures(sessions, WEEK)

    if found.sessions:
        assert abs(found.average_seconds * found.sessions - found.focus_seconds) <= found.sessions / 2
    else:
        assert found.average_seconds == 0


@pytest.mark.parametrize(
    ("focus", "status", "credited", "done"),
    [
        (True, "completed", 60, True),
        (True, "abandoned", 60, False),
        (True, "cancelled", 0, False),
        (True, "running", 0, False),
        (True, "paused", 0, False),
        (True, "rejected", 0, False),
        (False, "completed", 0, False),
        (False, "abandoned", 0, False),
    ],
)
def test_what_a_session_is_worth(focus: bool, status: str, credited: int, done: bool) -> None:
    one = LocalSession(TODAY, focus, status, 60)

    assert (one.credited, one.done) == (credited, done)


@given(any_day, week_starts, st.data())
def test_the_weeks_of_a_month_share_its_focus_time_out(day: date, start: int, data: st.DataObject) -> None:
    month = month_before(day)
    size = len(month.days)
    by_day = data.draw(st.lists(st.integers(0, 9999), min_size=size, max_size=size))
    weeks = weeks_of(month, start)

    found = focus_by_period(by_day, month, weeks)

    known = dict(zip(month.days, by_day, strict=True))
    assert found == [sum(known[one] for one in known if one in week) for week in weeks]
    assert sum(found) == sum(by_day)


# ── Trends ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("current", "previous", "sessions", "said"),
    [
        (0, 0, 0, None),
        (0, 0, 9, None),
        (1, 0, 0, NEW),
        (1, 0, 9, NEW),
        (100, 100, 9, None),
        (104, 100, 9, None),
        (96, 100, 9, None),
        (1046, 1000, 9, None),
        (954, 1000, 9, None),
        (105, 100, 9, 5),
        (95, 100, 9, -5),
        (150, 100, 9, 50),
        (150, 100, 3, 50),
        (150, 100, 2, None),
        (150, 100, 0, None),
        (0, 100, 9, -100),
        (0, 100, 2, None),
        (900, 100, 9, 800),
        (4, 3, 3, 33),
        (5, 3, 3, 67),
    ],
)
def test_a_trend_is_said_only_when_it_means_something(
    current: int, previous: int, sessions: int, said: int | str | None
) -> None:
    assert change(current, previous, sessions) == said


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 20))
@example(1046, 1000, 9)
@example(954, 1000, 9)
def test_a_trend_is_new_a_change_of_five_per_cent_or_nothing(
    current: int, previous: int, sessions: int
) -> None:
    found = change(current, previous, sessions)

    if previous == 0:
        assert found == (NEW if current else None)
    elif sessions < 3 or 20 * abs(current - previous) < previous:
        assert found is None
    else:
        assert isinstance(found, int)
        assert 2 * abs(found * previous - 100 * (current - previous)) <= previous


# ── Continuous focus ────────────────────────────────────────────────────────────────────────────────────────

intervals = st.lists(
    st.tuples(st.integers(-600, -1), st.integers(1, 120)).map(
        lambda pair: (NOON + pair[0] * MINUTE, NOON + min(pair[0] + pair[1], 0) * MINUTE)
    ),
    max_size=12,
)


@given(intervals, st.integers(0, 30))
def test_a_stretch_reaches_back_over_all_gaps_shorter_than_a_break(
    earlier: list[tuple[datetime, datetime]], joint: int
) -> None:
    pause = joint * MINUTE
    start, before = NOON, None
    while start != before:
        before = start
        start = min([start, *(begun for begun, ended in earlier if ended > start - pause)])

    assert stretch_start(NOON, earlier, pause) == start


@pytest.mark.parametrize(
    ("earlier", "start"),
    [
        ([], 0),
        ([(-30, -4)], -30),
        ([(-30, -5)], 0),
        ([(-30, -6)], 0),
        ([(-60, -33), (-30, -1)], -60),
        ([(-60, -35), (-30, -1)], -30),
        ([(-90, -2), (-30, -1)], -90),
        ([(-20, 5)], -20),
    ],
)
def test_stretches_by_example(earlier: list[tuple[int, int]], start: int) -> None:
    spans = [(NOON + begun * MINUTE, NOON + ended * MINUTE) for begun, ended in earlier]

    assert stretch_start(NOON, spans, 5 * MINUTE) == NOON + start * MINUTE


@given(st.integers(0, 24 * 60), st.integers(1, 120))
def test_breaks_come_after_twice_the_work_and_then_after_each_work_three_in_all(
    focused: int, work: int
) -> None:
    reached = sum(focused >= work * (k + 1) for k in (1, 2, 3))

    assert breaks_due(focused * MINUTE, work * MINUTE) == reached


# ── Absence ─────────────────────────────────────────────────────────────────────────────────────────────────

_steps = st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted)


@pytest.mark.parametrize(
    ("days", "step"),
    [
        *((n, None) for n in range(3)),
        *((n, 1) for n in range(3, 7)),
        *((n, 2) for n in range(7, 14)),
        *((n, 3) for n in range(14, 22)),
        *((n, None) for n in (22, 30, 31, 400)),
    ],
)
def test_a_step_is_due_from_its_day_until_the_next(days: int, step: int | None) -> None:
    assert step_due(days, (3, 7, 14)) == step


@given(st.integers(-5, 60), _steps)
def test_the_step_is_the_last_one_reached(days: int, steps: Sequence[int]) -> None:
    reached = sum(days >= step for step in steps)
    over = days > max(21, steps[-1])

    assert step_due(days, steps) == (None if over or not reached else reached)


episodes = st.lists(
    st.tuples(st.integers(1, 400), st.booleans()), max_size=6, unique_by=lambda pair: pair[0]
).map(lambda pairs: [episode(last, came) for last, came in sorted(pairs, reverse=True)])


def episode(last_step: int, answer: bool = False) -> Episode:
    """An absence whose last step was so many days ago."""
    on = TODAY - last_step * DAY
    return Episode(on - 7 * DAY, on, answer)


@given(episodes)
def test_after_three_absences_in_a_row_without_an_answer_there_is_silence_for_half_a_year(
    known: list[Episode],
) -> None:
    judged = [one for one in known if one.answered or (TODAY - one.last_step_on).days > 7]
    in_vain = 0
    for one in judged:
        in_vain = 0 if one.answered else in_vain + 1
    until = judged[-1].last_step_on + timedelta(days=180) if judged else TODAY

    assert silent_until(known, TODAY) == (until if in_vain >= 3 and until > TODAY else None)


@pytest.mark.parametrize(
    ("known", "silent"),
    [
        ([], False),
        ([episode(90), episode(60)], False),
        ([episode(90), episode(60), episode(30)], True),
        ([episode(90), episode(60), episode(8)], True),
        ([episode(90), episode(60), episode(7)], False),
        ([episode(120), episode(90), episode(60), episode(7)], True),
        ([episode(90), episode(60), episode(30, answer=True)], False),
        ([episode(90), episode(60, answer=True), episode(30)], False),
        ([episode(90, answer=True), episode(60), episode(40), episode(30)], True),
        ([episode(390), episode(360), episode(179)], True),
        ([episode(390), episode(360), episode(180)], False),
    ],
)
def test_silence_by_example(known: list[Episode], silent: bool) -> None:
    assert (silent_until(known, TODAY) is not None) == silent


@pytest.mark.parametrize(
    ("back", "came"), [((), False), ((-1,), False), ((0,), True), ((7,), True), ((8,), False), ((8, 3), True)]
)
def test_an_answer_comes_within_seven_days_of_the_last_step(back: tuple[int, ...], came: bool) -> None:
    assert answered(TODAY, [TODAY + n * DAY for n in back]) == came
