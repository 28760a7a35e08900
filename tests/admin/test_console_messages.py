"""Messages in the console: finding them, what one says and how it came about, resending and cancelling."""

import re

import asyncpg
import pytest

from tests.admin.consoles import Console, console, people
from tests.given import World


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


async def planned(given: Console, user: str = "ann", channel: str = "email") -> int:
    """The message that goalDeadlines planned for somebody."""
    await people(given.world)
    await given.manager.run_job("reminder", "goalDeadlines")
    return int(
        await given.world.pool.fetchval(
            "SELECT id FROM service.delivery WHERE user_id = $1 AND channel = $2", user, channel
        )
    )


def found(page: str) -> list[int]:
    """The messages that a list shows."""
    return [int(number) for number in re.findall(r'<th scope="row"><a href="/console/messages/(\d+)">', page)]


@pytest.mark.parametrize(
    ("query", "whose"),
    [
        ("", ["ann", "bob"]),
        ("?person=ann", ["ann"]),
        ("?person=BOB@example.org", ["bob"]),
        ("?person=nobody", []),
        ("?person=a%25", []),
        ("?job=reminder.goalDeadlines&state=planned", ["ann", "bob"]),
        ("?state=sent&channel=email", []),
        ("?reason=stale", ["bob"]),
        ("?run=1", ["ann", "bob"]),
        ("?run=2", []),
    ],
)
async def test_messages_are_found(world: World, query: str, whose: list[str]) -> None:
    async with console(world) as given:
        await planned(given)
        await world.pool.execute("UPDATE service.delivery SET reason = 'stale' WHERE user_id = 'bob'")
        await given.sign_in("the-viewer")
        page = await given.read(f"/console/messages{query}")
        rows = await world.pool.fetch("SELECT user_id FROM service.delivery WHERE id = ANY ($1)", found(page))
        assert sorted({row["user_id"] for row in rows}) == whose
        assert ("No message is like that." in page) == (not whose)


@pytest.mark.parametrize("query", ["?state=lost", "?job=x", "?channel=fax", "?run=x", "?before=x"])
async def test_a_wrong_word_is_named(world: World, query: str) -> None:
    async with console(world) as given:
        await given.sign_in("the-viewer")
        name = query[1:].partition("=")[0]
        assert name in await given.read(f"/console/messages{query}", 400)


async def test_pages_hold_each_message_once(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        await world.pool.execute(
            """INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date,
                   template, locale, facts, message_id, message_date, token, not_before, expires_at)
               SELECT 'k' || n, channel, job, kind, user_id, zone, local_date,
                   template, locale, facts, message_id, message_date, 't' || n, not_before, expires_at
               FROM service.delivery, generate_series(1, 120) AS n WHERE id = $1""",
            mail,
        )
        await given.sign_in()
        path, seen = "?person=ann&channel=email", []
        while path:
            page = await given.read(f"/console/messages{path}")
            seen += found(page)
            more = re.search(r'<a href="([^"]+)" rel="next">Older', page)
            path = more[1].replace("&amp;", "&") if more else ""
        assert len(seen) == len(set(seen)) == 121
        assert seen == sorted(seen, reverse=True)


async def test_a_mail_tells_its_way_and_what_it_says(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        token = await world.pool.fetchval("SELECT token FROM service.delivery WHERE id = $1", mail)
        await given.sign_in("the-viewer")
        path = f"/console/messages/{mail}"
        page = await given.read(path)
        for told in (
            '<h1 dir="auto">Due tomorrow: Read ten books</h1>',
            "ann@example.org",
            'By <a href="/console/runs/1">run 1</a>',
            "goalDeadlines:ann:2026-03-10",
            "goalDeadlines:g1:2026-03-11:D1",
            "To leave no earlier",
            'sandbox width="800"',
        ):
            assert told in page
        assert "Read ten books" in await given.read(f"{path}?part=text")
        source = await given.read(f"{path}?part=source")
        assert "Message-ID:" in source
        html = await given.client.get(f"{path}/html?scheme=dark")
        body = await html.text()
        assert "Read ten books" in body
        assert "sandbox" in html.headers["Content-Security-Policy"]
        # Whoever looks cannot stop mails in somebody's name.
        assert token not in page + source + body


async def test_a_notification_is_shown_as_words(world: World) -> None:
    async with console(world) as given:
        note = await planned(given, channel="in_app")
        await given.sign_in("the-viewer")
        page = await given.read(f"/console/messages/{note}")
        assert "Not read yet." in page
        assert "iframe" not in page
        await given.read(f"/console/messages/{note}/html", 404)
        await given.read("/console/messages/4711", 404)


async def test_a_mail_that_no_template_knows_any_more_is_still_explained(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        await world.pool.execute("UPDATE service.delivery SET facts = '{}' WHERE id = $1", mail)
        await given.sign_in()
        assert "The mail cannot be made again" in await given.read(f"/console/messages/{mail}")
        await given.read(f"/console/messages/{mail}/html", 409)


async def test_an_unconfirmed_mail_is_resent_and_a_planned_one_taken_back(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        path = f"/console/messages/{mail}"
        await world.pool.execute("UPDATE service.delivery SET state = 'unconfirmed' WHERE id = $1", mail)
        await given.sign_in()
        assert "It may have arrived: then they get it twice." in await given.read(path)
        await given.act(f"{path}/resend", 303, path)
        assert (await world.mails())["ann"] == ("planned", None)
        _, page = await given.act(f"{path}/resend", 409, path)
        assert "can be resent" in page
        await given.act(f"{path}/cancel", 303, path)
        assert (await world.mails())["ann"] == ("cancelled", None)
        await given.act(f"{path}/cancel", 409, path)
        assert await given.audit() == [
            ("admin", "resend", {"delivery": mail}),
            ("admin", "cancel", {"delivery": mail}),
        ]


@pytest.mark.parametrize("act", ["resend", "cancel"])
async def test_viewers_and_old_forms_change_no_message(world: World, act: str) -> None:
    async with console(world) as given:
        mail = await planned(given)
        path = f"/console/messages/{mail}"
        await given.sign_in("the-viewer")
        assert "Only admins do that." in await given.read(path)
        await given.act(f"{path}/{act}", 403, path)
        await given.sign_in()
        old = await given.client.post(f"{path}/{act}", headers=given.origin, data={"form_token": "old"})
        assert old.status == 403
        assert (await world.mails())["ann"] == ("planned", None)
        assert await given.audit() == []
