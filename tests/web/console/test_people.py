"""A person in the console: found by id or e-mail, what they got and did not get and why, what comes next."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from tests.given import World, user
from tests.web.console.consoles import Console, console, people


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


@pytest.mark.parametrize("wanted", ["ann", "ann@example.org", "ANN@Example.org", "+ann+"])
async def test_an_id_or_an_address_leads_to_the_person(world: World, wanted: str) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        answer = await given.client.get(f"/console/people?person={wanted}", allow_redirects=False)
        assert (answer.status, answer.headers.get("Location")) == (303, "/console/people/ann")


async def test_a_beginning_finds_some_and_a_stranger_nobody(world: World) -> None:
    await people(world)
    await world.live(user("anton"), user("a%"))
    async with console(world) as given:
        await given.sign_in()
        page = await given.read("/console/people?person=An")
        assert '<a href="/console/people/ann">' in page
        assert '<a href="/console/people/anton">' in page
        assert "bob" not in page
        assert "Nobody is known by “zoe”" in await given.read("/console/people?person=zoe")
        assert "Unknown user: zoe" in await given.read("/console/people/zoe", 404)
        assert "Unknown user" in await given.read("/console/people/a%00b", 404)
        assert "<code>a%</code>" in await given.read("/console/people/a%25")


async def test_everything_that_is_known_is_told(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.manager.run_job("reminder", "goalDeadlines")
        await given.manager.run_job("reminder", "weeklyReview")
        await world.pool.execute(
            "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
            " VALUES ('ann', 'weekly', 'email', false, 'preferences')"
        )
        await world.pool.execute(
            "INSERT INTO service.user_profile (user_id, figures, as_of) VALUES ('ann', $1, '2026-03-09')",
            {
                "peakHours": [9, 14],
                "chronotype": "morning",
                "preferredLength": {"minutes": 25, "share": 0.6},
                "consistency": None,
                "churnRisk": {"probability": 0.12, "reason": None},
                "insights": [{"text": "You finish more before noon.", "evidence": "61 of 80"}],
            },
        )
        await world.pool.execute(
            "INSERT INTO service.suppression (address, reason) VALUES ('ann@example.org', 'hard_bounce')"
        )
        await given.sign_in("the-viewer")
        page = await given.read("/console/people/ann")

    for told in (
        "Europe/Berlin, Tue 10 Mar 09:00 there",
        "goalDeadlines, mail</a> leaves",
        "Wed 11 Mar 09:00",  # goalDeadlines looks again
        "<b>no content</b>",  # of the weekly review
        'off<span class="soft">*</span>',
        "09–10, 14–15",
        "You finish more before noon.",
        "12 %",
        "<b>No mail to this address:</b> hard bounce",
    ):
        assert told in page, told


async def test_a_job_is_explained_rule_by_rule(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        page = await given.read("/console/people/cleo?job=goalDeadlines&at=2026-03-11")
        assert "goalDeadlines on 2026-03-11</h2>" in page
        assert "It would not be sent: not_due. goalDeadlines does not look at this user then." in page
        page = await given.read("/console/people/bob?job=goalDeadlines")
        assert "It would go out on Tue 10 Mar at 09:00 (America/New_York)" in page
        assert '<span class="state good">passed</span> <b>quiet hours</b>' in page
        assert "at is not a date" in await given.read("/console/people/bob?job=goalDeadlines&at=x", 400)
        path = "/console/people/bob?job=analytics.dailyAnalytics"
        assert "writes to nobody" in await given.read(path, 400)


async def test_the_past_comes_in_pages(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.manager.run_job("reminder", "goalDeadlines")
        await world.pool.execute(
            """WITH runs AS (INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before)
                             SELECT 'reminder.dailyCheck', 'manual', at, 'succeeded', at
                             FROM generate_series('2026-01-01'::timestamptz, '2026-02-28', '1 day') AS at
                             RETURNING id, nominal_at)
               INSERT INTO service.decision (run_id, user_id, job, local_date, reason, decided_at)
               SELECT id, 'ann', 'reminder.dailyCheck', nominal_at::date, 'not_due', nominal_at FROM runs"""
        )
        await given.sign_in()
        first = await given.read("/console/people/ann")
        assert first.count("<b>not due</b>") == 38
        assert "?before=2026-01-22T00%3A00%3A00%2B00%3A00#history" in first
        older = await given.read("/console/people/ann?before=2026-01-22T00%3A00%3A00%2B00%3A00")
        assert older.count("<b>not due</b>") == 21
        assert 'rel="next"' not in older
        await given.read("/console/people/ann?before=x", 400)


# ── Their data ──────────────────────────────────────────────────────────────────────────────────────────────

ANN = "/console/people/ann"


@asynccontextmanager
async def keeping(world: World, folder: Path) -> AsyncIterator[Console]:
    """The pages over everything that is stored; nothing is archived yet."""
    await people(world)
    no_dashboard: Any = None
    keeper = PersonalData(world.pool, Archive(world.pool, folder, no_dashboard))
    async with console(world, people=keeper) as given:
        await given.manager.run_job("reminder", "goalDeadlines")
        await given.sign_in()
        yield given


async def test_everything_about_somebody_is_taken_along(world: World, tmp_path: Path) -> None:
    async with keeping(world, tmp_path) as given:
        assert f'<a href="{ANN}/data" download>' in await given.read(ANN)
        answer = await given.client.get(f"{ANN}/data")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="person.json"'
        found = await answer.json()
        assert found["users"][0]["email"] == "ann@example.org"
        assert {row["user_id"] for row in found["delivery"]} == {"ann"}
        assert await given.audit() == [("admin", "export", {"userId": "ann"})]
        assert "Unknown user" in await given.read("/console/people/zoe/data", 404)
        await given.sign_in("the-viewer")
        assert "Only admins take it along or erase it." in await given.read(ANN)
        await given.read(f"{ANN}/data", 403)
        assert len(await given.audit()) == 1


async def test_somebody_is_erased_where_their_id_is_typed(world: World, tmp_path: Path) -> None:
    async with keeping(world, tmp_path) as given:
        await given.client.get(f"{ANN}/data")
        for typed in ("", "Ann", "bob"):
            _, page = await given.act(f"{ANN}/erase", 400, ANN, typed=typed)
            assert "Nothing was erased" in page
        assert (await world.mails())["ann"] == ("planned", None)

        answer, _ = await given.act(f"{ANN}/erase", 303, ANN, typed="ann")
        assert "Erased for good" in await given.read(answer.headers["Location"])
        await given.read(ANN, 404)
        assert await world.mails() == {"bob": ("planned", None)}
        # The trace of the export stays, but not whose data it was.
        (_, export, whose), (who, act, deleted) = await given.audit()
        assert (export, whose) == ("export", {"erased": True})
        assert (who, act, deleted["users"]) == ("admin", "erase", 1)


async def test_viewers_erase_nobody(world: World, tmp_path: Path) -> None:
    async with keeping(world, tmp_path) as given:
        await given.sign_in("the-viewer")
        await given.act(f"{ANN}/erase", 403, ANN, typed="ann")
        assert await given.audit() == []
        assert "ann" in await world.mails()
