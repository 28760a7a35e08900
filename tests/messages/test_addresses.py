"""However the dashboard spells an address, what is known of it is found: on pages, in forecasts, in lists."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.messages import suppression_list
from service.messages.mail.providers.provider_event import EventKind, ProviderEvent
from service.messages.mail.providers.provider_intake import ProviderIntake
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from service.messages.suppression_list import SuppressionFilter
from tests.given import GOALS, Scripted, World, goal, user
from tests.web.console.consoles import console
from tests.web.given import ADMIN, admin

SPELLED = "Ann@Bücher.example"
SENT_TO = "ann@xn--bcher-kva.example"
NINE = "2026-03-10T08:00:00Z"


@pytest.fixture
async def suppressed(world: World) -> World:
    """Ann's address is suppressed; Bob's is not."""
    await world.at(NINE)
    await world.live(
        user("ann", email=SPELLED),
        goal("g-ann", due="2026-03-11"),
        user("bob"),
        goal("g-bob", "bob", "2026-03-11"),
    )
    await world.pool.execute(
        "INSERT INTO service.suppression (address, reason) VALUES ($1, 'hard_bounce')", SENT_TO
    )
    return world


async def _mailable(world: World) -> int:
    async with admin(world.pool) as given:
        path = "/api/admin/forecast?days=1&job=goalDeadlines"
        answer: dict[str, Any] = await (await given.client.get(path, headers=ADMIN)).json()
    (job,) = answer["data"]["jobs"] if "data" in answer else answer["jobs"]
    return sum(hour["email"] for hour in job["hours"])


async def test_the_person_the_forecast_and_the_list_know_the_suppression(suppressed: World) -> None:
    world = suppressed
    await (await world.runner()).run_manual(GOALS)
    async with console(world) as opened:
        await opened.sign_in("the-viewer")
        assert "No mail to this address" in await opened.read("/console/people/ann")
        for typed in (SENT_TO, SPELLED.lower()):
            await opened.read(f"/console/people?person={typed}", 303)
    assert (await world.reasons())["ann"] == "suppressed_address"
    assert await suppression_list.accounts(world.pool, SENT_TO) == ["ann"]
    assert await suppression_list.accounts(world.pool, SPELLED) == ["ann"]
    for typed in (SPELLED, SENT_TO, "ann@xn"):
        found = await suppression_list.listed(world.pool, SuppressionFilter(typed), before=None, limit=9)
        assert [one.address for one in found] == [SENT_TO]


@pytest.mark.parametrize("by", ["suppression", "mailbox_rest", "suppressed_key"])
async def test_the_forecast_counts_nobody_who_gets_no_mail(world: World, by: str) -> None:
    await world.at("2026-03-10T07:00:00Z")
    await world.live(user("ann", email=SPELLED), user("bob"), user("cas", email=None))
    assert await _mailable(world) == 2
    row = {
        "suppression": "(address, reason) VALUES ($1, 'complaint')",
        "mailbox_rest": "(address, rests, until) VALUES ($1, 1, service.now() + interval '7 days')",
        "suppressed_key": "(address_key, reason, created_at)"
        " VALUES (service.keyed_hash($1), 'complaint', service.now())",
    }
    await world.pool.execute(f"INSERT INTO service.{by} {row[by]}", SENT_TO)
    assert await _mailable(world) == 1


async def test_mails_are_found_by_either_spelling_and_reports_tied_to_them(world: World) -> None:
    await world.at(NINE)
    await world.live(user("ann", email=SPELLED), goal("g-ann", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    await world.delivery(Scripted()).run_once()
    async with admin(world.pool) as given:
        for typed in (SPELLED, SENT_TO, "ANN@"):
            answer = await given.client.get(f"/api/admin/deliveries?address={typed}", headers=ADMIN)
            assert len((await answer.json())["data"]) == 1, typed

    at = await world.pool.fetchval("SELECT service.now()")
    event = ProviderEvent("postmark", EventKind.COMPLAINT, SPELLED, at)
    bounces = Suppressions(world.pool, Outbox(world.pool, "a", timedelta(seconds=60)))
    async with world.pool.acquire() as connection, connection.transaction():
        result = await ProviderIntake(bounces, lambda _sender: None).process(
            event, cast("asyncpg.Connection", connection)
        )
    assert result.news
    assert await world.pool.fetchval("SELECT address FROM service.suppression") == SENT_TO


async def test_what_is_known_of_the_address_goes_with_the_person(suppressed: World, tmp_path: Path) -> None:
    pool = suppressed.pool
    keeper = PersonalData(pool, Archive(pool, tmp_path, cast("Any", None)))

    data = await keeper.export("ann")

    assert [row["address"] for row in data["suppression"]] == [SENT_TO]
    assert (data["users"][0]["email"], data["users"][0]["mail_address"]) == (SPELLED, SENT_TO.capitalize())


async def test_an_address_that_a_former_release_changed_is_itself(suppressed: World) -> None:
    """It writes the address alone."""
    pool = suppressed.pool
    read = "SELECT mail_address FROM service.recipient WHERE id = $1"
    assert (await pool.fetchval(read, "ann"), await pool.fetchval(read, "bob")) == (
        SENT_TO,
        "bob@example.org",
    )

    await pool.execute("UPDATE service.users SET email = 'Ann@example.org' WHERE id = 'ann'")

    assert await pool.fetchval(read, "ann") == "ann@example.org"
