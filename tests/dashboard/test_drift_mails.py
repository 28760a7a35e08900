"""What is written at the dashboard past its times of writing: what people are sent, and what figures become.

The scenarios of copy_drift that go as far as a mail or a figure, with the whole service.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONG
from tests.dashboard.conftest import Dashboard, MongoDashboard, Opened, Stage
from tests.given import inbox
from tests.messages.mail.reading import parsed

pytestmark = pytest.mark.long
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
PAST_COMPARISON = timedelta(minutes=6)
LONG_AGO = datetime(2026, 1, 5, tzinfo=UTC)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A second after an instant of UTC in March 2026."""
    return datetime(2026, 3, day, hour, minute, 1, tzinfo=UTC)


def midnight(day: int) -> datetime:
    """A floating date."""
    return datetime(2026, 3, day, tzinfo=UTC)


class Drift(Stage):
    """Everything is written with the same, old time of writing."""

    async def person(self, n: int, zone: str = "Europe/Berlin") -> None:
        await self.dashboard.put(
            "users", n, name=f"Person {n}", email=f"p{n}@example.org", timezone=zone, active=True,
            created=LONG_AGO, updated=LONG_AGO,
        )  # fmt: skip

    async def goal(self, n: int, due: int, status: str = "active") -> None:
        await self.dashboard.put(
            "goals", n, user=n, title=f"Goal {n}", status=status, due=midnight(due), updated=LONG_AGO
        )

    async def session(self, n: int, started: datetime, minutes: int = 25) -> None:
        await self.dashboard.put(
            "timer_sessions", n, user=1, kind="focus", status="completed", started=started,
            ended=started + minutes * MINUTE, planned=1500, focus=minutes * 60, updated=started,
        )  # fmt: skip

    async def compared(self, moment: datetime) -> None:
        """A synchronisation that compares all tables."""
        await self.clock(moment)
        await self.service.sync.run_once(compare=True)

    async def delete(self, table: str, numbers: Iterable[int]) -> None:
        for n in numbers:
            await self.dashboard.remove(table, n)

    async def count(self, table: str) -> int:
        found: int = await self.pool.fetchval(f"SELECT count(*) FROM service.{table}")
        return found

    @property
    def healthy(self) -> bool:
        return bool(self.service.sync.health()["healthy"])


@pytest.fixture(params=["mongo", "postgres"] if LONG else ["postgres"])
def dashboard(request: pytest.FixtureRequest) -> Dashboard:
    """Both kinds in the long form; the short form of the simulation has both."""
    found: Dashboard = request.getfixturevalue(f"{request.param}_dashboard")
    return found


@pytest.fixture
async def drift(dashboard: Dashboard, opened: Opened) -> Drift:
    """An empty dashboard; the tables are there."""
    if isinstance(dashboard, MongoDashboard):
        for name in ("users", "goals", "timersessions"):
            await dashboard.database.create_collection(name)
    stage = await opened(dashboard)
    return Drift(dashboard, stage.service)


async def _people(drift: Drift, count: int, due: int) -> None:
    """So many people, each with a goal due on that date; one of them has focused."""
    for n in range(1, count + 1):
        await drift.person(n)
        await drift.goal(n, due)
    await drift.session(1, at(1, 9))


def subjects(folder: Path) -> list[str]:
    return sorted(str(parsed(raw)["Subject"]) for raw in inbox(folder / "inbox"))


async def test_whoever_moved_gets_the_mail_at_nine_over_there(drift: Drift, tmp_path: Path) -> None:
    """copy_drift, 1."""
    for n in range(1, 4):
        await drift.person(n, "Asia/Tokyo")
    await drift.goal(1, due=12)
    await drift.session(1, at(8, 9))
    await drift.compared(at(9, 12))
    await drift.person(1, "America/New_York")

    for moment in (at(10, 1, 10), at(11, 0), at(11, 0, 30)):
        await drift.turn(moment)
    assert await drift.mails() == {}
    await drift.turn(at(11, 13))

    assert subjects(tmp_path) == ["Due tomorrow: Goal 1"]
    assert drift.healthy
    assert await drift.count("user_zone") == 3 + 1


async def test_an_import_revises_its_days_and_restores_the_streak(drift: Drift) -> None:
    """copy_drift, 4."""
    await drift.person(1, "UTC")
    for day in (1, 2, 3, 4, 5, 8, 9, 10):
        await drift.session(day, at(day, 9))
    await drift.compared(at(10, 12))
    await drift.service.runner.run_manual("analytics.dailyAnalytics")
    before = await _revisions(drift)

    for day in (6, 7):
        await drift.session(day, at(day, 9))
    await drift.compared(at(11, 1))
    await drift.service.runner.run_manual("analytics.dailyAnalytics")

    after = await _revisions(drift)
    revised = {period.date().isoformat(): after[period] - before[period] for period in before}
    revised = {day: by for day, by in revised.items() if by}
    assert revised == {"2026-03-06": 1, "2026-03-07": 1}
    assert await _streak(drift, at(11, 17)) == 10


async def _revisions(drift: Drift) -> dict[datetime, int]:
    rows = await drift.pool.fetch("SELECT period, revision FROM service.rollup WHERE statistic = 'daily'")
    return {row["period"]: row["revision"] for row in rows}


async def _streak(drift: Drift, evening: datetime) -> Any:
    """What dailyCheck says."""
    await drift.turn(evening)
    await drift.turn(evening + HOUR)
    return await drift.pool.fetchval(
        "SELECT (facts ->> 'streak')::int FROM service.delivery WHERE kind = 'daily' AND channel = 'email'"
    )


async def test_emptied_and_restored(drift: Drift, tmp_path: Path) -> None:
    """copy_drift, 6: nobody is refused a mail, and everybody gets it once."""
    await _people(drift, 30, due=11)
    await drift.compared(at(10, 7, 50))
    await drift.plan(at(10, 8))
    await drift.dashboard.empty("users")

    await drift.service.delivery.run_once()
    assert await drift.mails() == {"planned": 30}
    assert not drift.healthy
    await drift.compared(at(10, 8, 10))
    assert "the dashboard lost 30 of 30 users since" in drift.service.sync.health()["error"]
    await drift.turn(at(10, 8, 20))
    assert (await drift.mails(), await drift.count("users")) == ({"planned": 30}, 30)

    await drift.dashboard.refill("users")
    await drift.service.sync.run_once()
    await drift.turn(at(10, 8, 40))
    assert drift.healthy
    assert len(inbox(tmp_path / "inbox")) == 30
    assert await drift.mails() == {"sent": 30}


async def test_emptied_and_it_is_meant(drift: Drift) -> None:
    """copy_drift, 7: without the tombstones."""
    await _people(drift, 30, due=11)
    await drift.compared(at(10, 7, 50))
    await drift.plan(at(10, 8))
    await drift.dashboard.empty("users")
    await drift.compared(at(10, 8, 10))

    await drift.service.sync.confirm_loss("users", "a person")
    await drift.compared(at(10, 8, 20))
    await drift.turn(at(10, 8, 30))

    assert (await drift.count("users"), drift.healthy) == (0, True)
    assert await drift.mails() == {"skipped revalidated_away": 30}


async def test_a_fifth_within_a_day_and_two_more(drift: Drift) -> None:
    """copy_drift, 8."""
    await _people(drift, 100, due=11)
    await drift.compared(at(10, 0))
    await drift.delete("goals", range(1, 10))
    await drift.compared(at(10, 1))
    assert (await drift.count("goals"), drift.healthy) == (91, True)
    await drift.delete("goals", range(10, 21))
    await drift.compared(at(10, 2))
    assert (await drift.count("goals"), drift.healthy) == (80, True)
    await drift.delete("goals", range(21, 23))
    await drift.compared(at(10, 3))
    assert (await drift.count("goals"), drift.healthy) == (80, False)
    assert "22 of 100" in drift.service.sync.health()["error"]

    await drift.turn(at(10, 8))
    assert await drift.mails() == {"sent": 78, "planned rows_missing": 2}
    await drift.service.sync.confirm_loss("goals", "a person")
    await drift.compared(at(10, 8, 10))
    await drift.turn(at(10, 8, 20))

    assert await drift.mails() == {"sent": 78, "skipped revalidated_away": 2}
    assert (await drift.count("goals"), drift.healthy) == (78, True)


async def test_after_a_restored_backup_nobody_is_told_again(drift: Drift, tmp_path: Path) -> None:
    """copy_drift, 11."""
    await _people(drift, 20, due=17)
    await drift.compared(at(10, 7, 50))
    await drift.turn(at(10, 8))
    assert await drift.mails() == {"sent": 20}
    for n in range(1, 7):
        await drift.goal(n, due=17, status="completed")
    await drift.delete("users", [20])
    await drift.compared(at(10, 12))

    for n in range(1, 7):
        await drift.goal(n, due=17)
    await drift.person(20)
    await drift.compared(at(10, 14))
    assert (await drift.count("users"), drift.healthy) == (20, True)
    await drift.service.runner.run_manual("reminder.goalDeadlines")
    await drift.turn(at(11, 8))
    assert await drift.mails() == {"sent": 20}
    await drift.turn(at(16, 8))

    tomorrow = sorted(f"Due tomorrow: Goal {n}" for n in range(1, 21))
    assert [subject for subject in subjects(tmp_path) if "tomorrow" in subject] == tomorrow


async def test_a_session_made_anew_revises_its_day_and_new_stamps_do_not(drift: Drift) -> None:
    """copy_drift, 12."""
    await drift.person(1, "UTC")
    for day in range(1, 9):
        await drift.session(day, at(day, 9))
    await drift.compared(at(10, 12))
    await drift.service.runner.run_manual("analytics.dailyAnalytics")
    before = await _revisions(drift)
    for day in range(1, 9):
        await drift.dashboard.put("timer_sessions", day, **{**_stored(day), "updated": at(10, 11)})
    await drift.compared(at(10, 13))
    await drift.service.runner.run_manual("analytics.dailyAnalytics")
    assert await _revisions(drift) == before

    await drift.delete("timer_sessions", [5])
    await drift.session(5, at(5, 9), minutes=50)
    await drift.compared(at(10, 14))
    await drift.service.runner.run_manual("analytics.dailyAnalytics")

    after = await _revisions(drift)
    assert {period.day for period in after if after[period] != before[period]} == {5}
    assert after[datetime(2026, 3, 5)] == before[datetime(2026, 3, 5)] + 1


def _stored(day: int) -> dict[str, Any]:
    started = at(day, 9)
    return {
        "user": 1, "kind": "focus", "status": "completed", "started": started,
        "ended": started + 25 * MINUTE, "planned": 1500, "focus": 1500,
    }  # fmt: skip
