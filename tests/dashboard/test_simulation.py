"""Random writes by every road, and faults of the dashboard: what the copy, the figures and the mails become.

The clock jumps from hour to hour. Something is written before the slots of an hour are decided, and more
between the decision and the delivery. Each mail is held against what is true at that moment, and at the end
the copy against the dashboard, and the figures against plain counting.
"""

import random
import re
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.dashboard.profiles.shapes import Document
from tests.analytics.given import Lab
from tests.conftest import LONG
from tests.dashboard.conftest import Dashboard, Opened, Stage
from tests.dashboard.simulated import DAY, HOUR, Row, SimulatedDashboard
from tests.messages.mail.reading import parsed, part

START = datetime(2026, 3, 10, 0, 0, 1, tzinfo=UTC)
PEOPLE = 12
HOURS = 4 * 24 if LONG else 20
"""From midnight in UTC: the short form ends after the evening's slots in Berlin."""
CASES = [(seed, watermark) for seed in range(2) for watermark in (True, False)] if LONG else [(0, False)]
KINDS = ["mongo", "postgres"] if LONG else ["mongo"]
_GOAL = re.compile(r"^(?P<title>Goal \d+\.\d+)\n(?P<date>\w{3} \d+ \w{3}) · (?P<when>.+)$", re.MULTILINE)


class MailReader:
    """Reads the mails that have left since it last looked, and says what is not true in them."""

    def __init__(self, inbox: Path, simulated: SimulatedDashboard) -> None:
        self._inbox = inbox / "new"
        self._simulated = simulated
        self._read: set[str] = set()
        self._heard: Counter[tuple[str, str, str]] = Counter()
        self.count = 0

    def problems(self) -> list[str]:
        found = []
        for path in sorted(self._inbox.iterdir()) if self._inbox.is_dir() else ():
            if path.name not in self._read:
                self._read.add(path.name)
                self.count += 1
                raw = path.read_bytes()
                mail = parsed(raw)
                problems = self._problems(str(mail["To"]), str(mail["List-Id"]), part(raw, "plain"))
                found += [f"{self._simulated.now} {mail['To']} {mail['Subject']!r}: {p}" for p in problems]
        return found

    def _problems(self, to: str, kind: str, text: str) -> list[str]:
        person = self._simulated.person(to.rpartition("<")[2])
        if person is None:
            return ["has no account any more"]
        number, user = person
        local = self._simulated.local(user)
        heard = (to, kind, local.date().isoformat())
        self._heard[heard] += 1
        checks = {
            "inactive account": not user["active"],
            "wants no mail": not user["preferences"]["notifications"]["email"],
            f"at {local:%H:%M}": not 8 <= local.hour < 21,
            "the second of its kind today": self._heard[heard] > 1,
        }
        found = [problem for problem, holds in checks.items() if holds]
        return found + self._untrue_goals(text, local) + self._untrue_absence(number, user, text, local)

    def _untrue_goals(self, text: str, local: datetime) -> list[str]:
        found = []
        for match in _GOAL.finditer(text):
            goal = self._simulated.goal_titled(match["title"])
            if goal is None or goal["status"] != "active":
                found.append(f"{match['title']} is {goal and goal['status']}")
            elif (told := (match["date"], match["when"])) != (true := _due(goal, local)):
                found.append(f"{match['title']} is due {true}, not {told}")
        return found

    def _untrue_absence(self, number: int, user: Row, text: str, local: datetime) -> list[str]:
        days = re.search(r"it has been (\d+) day", text)
        quiet = "no focus session yet" in text
        found = []
        zone = local.tzinfo
        for session in self._simulated.sessions_of(number):
            ago = (local.date() - session["started"].astimezone(zone).date()).days
            if (days and ago < int(days[1])) or (quiet and ago == 0):
                found.append(f"focused {ago} days ago")
        if days and (local.date() - user["last_login"].astimezone(zone).date()).days < int(days[1]):
            found.append(f"logged in at {user['last_login']}")
        return found


def _due(goal: Row, local: datetime) -> tuple[str, str]:
    day = goal["due"].date()
    days = (day - local.date()).days
    when = "today" if days == 0 else f"in {days} day" if days > 0 else f"{-days} day"
    plural = "" if abs(days) == 1 or days == 0 else "s"
    return f"{day:%a} {day.day} {day:%b}", f"{when}{plural}{' ago' if days < 0 else ''}"


async def _live(stage: Stage, simulated: SimulatedDashboard, reader: MailReader) -> list[str]:
    """Hour by hour for ``HOURS``; returns what was not true in the mails."""
    problems: list[str] = []
    dice = simulated.dice
    for hour in range(HOURS):
        simulated.now = START + hour * HOUR
        await simulated.mend()
        for _ in range(dice.randrange(4)):
            await simulated.write()
        if dice.random() < 0.12:
            await simulated.fail()
        await stage.plan(simulated.now)
        for _ in range(dice.randrange(3)):
            await simulated.write()
        await stage.service.delivery.run_once()
        problems += reader.problems()
    await simulated.mend(all_of_it=True)
    return problems


async def _settle(stage: Stage, simulated: SimulatedDashboard) -> None:
    """A day later, with a pass over every table; somebody confirms what is still asked."""
    simulated.now += DAY + HOUR
    await stage.clock(simulated.now)
    sync = stage.service.sync
    await sync.run_once(compare=True)
    for table in sync.health()["lost"]:
        await sync.confirm_loss(table, "a person")
    await sync.run_once(compare=True)


_KEPT = " WHERE id NOT IN (SELECT id FROM service.kept_row WHERE collection = '{}')"
"""Rows that went with their account are kept for the figures; the dashboard lacks them."""


async def _copy(stage: Stage) -> dict[str, set[tuple[Any, ...]]]:
    questions = {
        "users": "SELECT id, name, email, timezone, active, last_login_at FROM service.users",
        "goals": "SELECT id, user_id, title, open, due_date FROM service.goals" + _KEPT.format("goals"),
        "timer_sessions": "SELECT id, user_id, started_at, ended_at, focus_seconds"
        " FROM service.timer_sessions" + _KEPT.format("timer_sessions"),
    }
    return {table: {tuple(row) for row in await stage.pool.fetch(q)} for table, q in questions.items()}


def _true_copy(simulated: SimulatedDashboard) -> dict[str, set[tuple[Any, ...]]]:
    key, rows = simulated.dashboard.key, simulated.rows
    return {
        "users": {
            (key(n), r["name"], r["email"], r["timezone"], r["active"], r["last_login"])
            for n, r in rows["users"].items()
        },
        "goals": {
            (key(n), key(r["user"]), r["title"], r["status"] == "active", r["due"].date())
            for n, r in rows["goals"].items()
        },
        "timer_sessions": {
            (key(n), key(r["user"]), r["started"], r["ended"], r["focus"])
            for n, r in rows["timer_sessions"].items()
        },
    }


def _without_watermark(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of writing is never asked."""

    async def no_changes(*_: Any) -> AsyncGenerator[list[Document], None]:
        return
        yield

    monkeypatch.setattr(type(dashboard.source), "changes", no_changes)


@pytest.mark.long
@pytest.mark.parametrize("dashboard", KINDS, indirect=True)
@pytest.mark.parametrize(("seed", "watermark"), CASES)
async def test_the_copy_follows_and_no_mail_says_what_is_not_true(
    dashboard: Dashboard,
    opened: Opened,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    watermark: bool,
) -> None:
    if not watermark:
        _without_watermark(dashboard, monkeypatch)
    simulated = SimulatedDashboard(dashboard, random.Random(seed), START - HOUR)
    await simulated.open(PEOPLE)
    stage = await opened(dashboard)
    await stage.clock(simulated.now)
    await stage.service.sync.run_once()
    reader = MailReader(tmp_path / "inbox", simulated)

    problems = await _live(stage, simulated, reader)
    await _settle(stage, simulated)

    assert not problems, "\n".join(problems)
    assert reader.count
    assert stage.service.sync.health()["healthy"]
    assert await _copy(stage) == _true_copy(simulated)
    lab = Lab(stage.pool)
    await lab.clock(simulated.now)
    await lab.take()
    await lab.run()
    await lab.check()
