"""Messages in the console: finding them, what one says and how it came about, resending and cancelling."""

import re

import asyncpg
import pytest

from tests.given import ADOPT, World
from tests.web.console.consoles import Console, console, people
from tests.web.given import ADMIN


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


async def planned(given: Console, user: str = "ann", channel: str = "email") -> int:
    """The message that goalDeadlines planned for somebody."""
    await people(given.world)
    await given.manager.run_job("reminder", "goalDeadlines")
    return int(
        await given.world.pool.fetchval(
            "SELECT id FROM service.delivery_with_state WHERE user_id = $1 AND channel = $2", user, channel
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
        await world.pool.execute(
            "UPDATE service.delivery_state AS s SET reason = 'stale'"
            " FROM service.delivery AS d WHERE d.id = s.id AND d.user_id = 'bob'"
        )
        await given.sign_in("the-viewer")
        page = await given.read(f"/console/messages{query}")
        rows = await world.pool.fetch(
            "SELECT user_id FROM service.delivery_with_state WHERE id = ANY ($1)", found(page)
        )
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
               FROM service.delivery_with_state, generate_series(1, 120) AS n WHERE id = $1""",
            mail,
        )
        await world.pool.execute(ADOPT)
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
        token = await world.pool.fetchval("SELECT token FROM service.delivery_with_state WHERE id = $1", mail)
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


async def test_a_mail_that_waits_tells_the_answer_and_is_tried_now(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        await world.pool.execute(
            "UPDATE service.delivery_state SET reason = 'rcpt_450', smtp_code = 450, attempt = 1,"
            " smtp_reply = '4.2.0 mailbox busy', not_before = service.now() + interval '5 min' WHERE id = $1",
            mail,
        )
        path = f"/console/messages/{mail}"
        await given.sign_in("the-viewer")
        page = await given.read(path)
        assert "Next try, after (rcpt_450): 450 4.2.0 mailbox busy" in page
        assert "Try now" not in page

        await given.sign_in()
        assert f'action="{path}/try-now"' in await given.read(path)
        await given.act(f"{path}/try-now", 303, path)
        assert "Try now" not in await given.read(path)
        due = "SELECT not_before <= service.now() FROM service.delivery_state WHERE id = $1"
        assert await world.pool.fetchval(due, mail)

        domain = "UPDATE service.delivery_state SET reason = NULL"
        await world.pool.execute(domain)
        await world.pool.execute(
            "INSERT INTO service.domain_pause (domain, failures, until, reply)"
            " VALUES ('example.org', 1, service.now() + interval '1 min', '421 too fast')"
        )
        page = await given.read(path)
        assert "example.org asked us to wait until here: 421 too fast" in page
        assert "The pause of example.org ends for all" in page


async def test_a_mail_to_an_international_mailbox_shows_its_source(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        await world.pool.execute(
            "UPDATE service.delivery SET address = 'zoë@example.org' WHERE id = $1", mail
        )
        await given.sign_in()
        page = await given.read(f"/console/messages/{mail}?part=source")
        shown = await given.client.get(f"/api/admin/deliveries/{mail}/message", headers=ADMIN)
        assert "zoë@example.org&gt;" in page
        assert "<zoë@example.org>" in (await shown.json())["data"]["mail"]["source"]


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
        await world.pool.execute(
            "UPDATE service.delivery_state SET claim = 0, state = 'unconfirmed' WHERE id = $1", mail
        )
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


# ── Trying failed ones again ────────────────────────────────────────────────────────────────────────────────

RETRY = "/console/messages/retry"
FAILED = "/console/messages?state=failed&job=reminder.goalDeadlines"


async def failed(given: Console) -> None:
    """Ann's mail and Bob's have failed; Bob's is too late by now."""
    await planned(given)
    await given.world.pool.execute(
        "UPDATE service.delivery_state AS s"
        " SET claim = 0, state = 'failed', reason = 'smtp_550', attempt = 5, settled_at = service.now(),"
        " expires_at = CASE d.user_id WHEN 'bob' THEN service.now() ELSE s.expires_at END"
        " FROM service.delivery AS d WHERE d.id = s.id"
    )
    await given.sign_in()


async def test_failed_mails_are_counted_first_and_then_planned_again(world: World) -> None:
    async with console(world) as given:
        await failed(given)
        assert "Count them" in await given.read(FAILED)
        _, page = await given.act(RETRY, 200, job="reminder.goalDeadlines")
        for name, n in (("Failed mails that fit", 2), ("Still useful: planned again", 1), ("Too late", 1)):
            assert re.search(rf'<th scope="row">{name}[^<]*</th><td class="n">{n}</td>', page), name
        assert "Plan 1 mail again" in page
        assert (await world.mails())["ann"] == ("failed", "smtp_550")
        assert await given.audit() == []

        answer, _ = await given.act(RETRY, 303, job="reminder.goalDeadlines", confirm="on")
        assert await world.mails() == {"ann": ("planned", None), "bob": ("failed", "smtp_550")}
        assert "1 mail planned again" in await given.read(answer.headers["Location"])
        [(who, act, what)] = await given.audit()
        assert (who, act, what["filter"]["job"]) == ("admin", "retry-failed", "reminder.goalDeadlines")
        assert (what["matched"], what["retried"]) == (2, 1)


@pytest.mark.parametrize(
    ("form", "matched"),
    [
        ({"person": "ann"}, 1),
        ({"person": "ANN@example.org"}, 1),
        ({"person": "nobody"}, 0),
        ({"person": "nobody@example.org"}, 0),
        ({"run": "1"}, 2),
        ({"run": "2"}, 0),
        ({"reason": "smtp_550", "person": "bob"}, 1),
        ({"reason": "stale"}, 0),
        ({"job": "reminder.weeklyReview"}, 0),
    ],
)
async def test_only_what_the_filter_says_is_tried_again(
    world: World, form: dict[str, str], matched: int
) -> None:
    async with console(world) as given:
        await failed(given)
        _, page = await given.act(RETRY, 200, **form)
        assert f'Failed mails that fit</th><td class="n">{matched}</td>' in page


async def test_not_all_failed_mails_are_tried_at_once(world: World) -> None:
    async with console(world) as given:
        await failed(given)
        assert "not all failed mails at once" in await given.read("/console/messages?state=failed")
        for confirm in ({}, {"confirm": "on"}):
            _, page = await given.act(RETRY, 400, **confirm)
            assert "narrow it by person, job, reason or run" in page
        await world.pool.execute("UPDATE service.users SET email = 'both@example.org' WHERE id <> 'cleo'")
        _, page = await given.act(RETRY, 400, person="both@example.org", confirm="on")
        assert "choose one by id: ann, bob" in page
        assert (await world.mails())["ann"] == ("failed", "smtp_550")
        await given.sign_in("the-viewer")
        assert "Only admins do that." in await given.read(FAILED)
        await given.act(RETRY, 403, job="reminder.goalDeadlines", confirm="on")
        assert await given.audit() == []


async def test_what_is_unconfirmed_shows_its_evidence(world: World) -> None:
    async with console(world) as given:
        mail = await planned(given)
        await world.pool.execute(
            "UPDATE service.delivery_state SET claim = 0, state = 'unconfirmed', attempt = 1,"
            " reason = 'the sender died after the final dot was due', dot_at = service.now() WHERE id = $1",
            mail,
        )
        await world.pool.execute(
            "UPDATE service.delivery SET message_id = '<m1@jobs.example.org>' WHERE id = $1", mail
        )
        await given.sign_in("the-viewer")
        for path in ("/console/messages?state=unconfirmed", f"/console/messages/{mail}"):
            page = await given.read(path)
            assert "the sender died after the final dot was due; 1 attempt" in page
            assert "&lt;m1@jobs.example.org&gt;" in page
            assert "for example.org" in page
            assert "Held until somebody decides" in page
        await world.pool.execute("UPDATE service.delivery SET unconfirmed_policy = 'resend'")
        assert "Sent once more, from" in await given.read("/console/messages?state=unconfirmed")
        await world.pool.execute("UPDATE service.delivery_state SET resends = 1")
        assert "it was sent again 1 time" in await given.read("/console/messages?state=unconfirmed")
