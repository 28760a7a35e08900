"""Finding messages, reading them as they were sent, taking them back and sending them again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.messages.outbox import Outbox
from service.messages.preview import Previewer
from tests.acme import JOBS
from tests.given import GOALS, Scripted, World, composer, goal, user
from tests.web.contract import promised
from tests.web.given import ADMIN, DASHBOARD, VIEWER, Admin, admin

DELIVERIES = "/api/admin/deliveries"


@pytest.fixture
async def given(pool: asyncpg.Pool) -> AsyncIterator[Admin]:
    """Ann and Bob each have a mail and a notification planned for 10 March, by the real job."""
    world = World(pool)
    await world.at("2026-03-10T07:59:00Z")
    await world.live(user("ann"), user("bob"), goal("g1", due="2026-03-11", title="Read ten books"))
    await world.live(goal("g2", "bob", due="2026-03-11", title="Run"))
    await world.at("2026-03-10T08:00:00Z")
    runner = await world.runner()
    await runner.run_manual(GOALS)
    made = composer()
    previewer = Previewer(pool, runner, JOBS, made, made.compose, Scripted())
    outbox = Outbox(pool, "a", timedelta(seconds=60))
    async with admin(pool, previewer=previewer, outbox=outbox) as given:
        yield given


async def mail_of(pool: asyncpg.Pool, who: str, channel: str = "email") -> int:
    sql = "SELECT id FROM service.delivery_with_state WHERE user_id = $1 AND channel = $2"
    return int(await pool.fetchval(sql, who, channel))


async def found(given: Admin, query: str) -> list[tuple[str, str]]:
    answer = await given.client.get(f"{DELIVERIES}?{query}", headers=VIEWER)
    body = await promised(answer, "GET", DELIVERIES)
    assert answer.status == 200, body
    assert "example.org" not in str([{**row, "messageId": ""} for row in body["data"]])
    return sorted((row["userId"], row["channel"]) for row in body["data"])


async def act(
    given: Admin, pattern: str, id: int | None = None, key: str | None = None, **more: Any
) -> tuple[int, Any, bool]:
    headers = ADMIN | ({"Idempotency-Key": key} if key else {})
    path = f"{DELIVERIES}/{pattern}".replace("{id}", str(id))
    answer = await given.client.post(path, headers=headers, **more)
    body = await promised(answer, "POST", f"{DELIVERIES}/{pattern}")
    return answer.status, body, "Idempotent-Replayed" in answer.headers


async def audit(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT who, act FROM service.audit ORDER BY id")
    return [(row["who"], row["act"]) for row in rows]


async def fail(pool: asyncpg.Pool, delivery: int, **changes: Any) -> None:
    await pool.execute(
        "UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'failed', attempt = 3,"
        " reason = 'content_refused', settled_at = service.now() WHERE id = $1",
        delivery,
    )
    for column, value in changes.items():
        await pool.execute(f"UPDATE service.delivery_state SET {column} = $2 WHERE id = $1", delivery, value)


async def test_messages_are_found_by_each_filter_and_never_show_an_address(given: Admin) -> None:
    await fail(given.pool, await mail_of(given.pool, "bob"))
    ann, bob = [(who, "email") for who in ("ann", "bob")]

    assert len(await found(given, f"job={GOALS}")) == 4
    assert await found(given, "job=goalDeadlines") == await found(given, f"job={GOALS}")
    assert await found(given, "user=ann&channel=email") == [ann]
    assert await found(given, "state=failed") == [bob]
    assert await found(given, "reason=content_refused") == [bob]
    assert await found(given, "address=ANN@ex") == [ann]
    assert await found(given, "address=a%25") == await found(given, "address=nn@") == []
    assert len(await found(given, "from=2026-03-10&to=2026-03-10")) == 4
    assert await found(given, "from=2026-03-11") == await found(given, "to=2026-03-09") == []
    for wrong in ("from=2026-03-11&to=2026-03-10", "channel=fax", "from=x", "state=x", "userid=ann"):
        answer = await given.client.get(f"{DELIVERIES}?{wrong}", headers=ADMIN)
        await promised(answer, "GET", DELIVERIES)
        assert answer.status == 400, wrong


async def test_a_job_that_never_was_is_unknown_and_one_that_is_gone_is_not(given: Admin) -> None:
    for path in (DELIVERIES, f"{DELIVERIES}/unconfirmed"):
        answer = await given.client.get(f"{path}?job=nonsense", headers=ADMIN)
        assert (answer.status, (await promised(answer, "GET", path))["error"]) == (
            404,
            "Unknown job: nonsense",
        )

    await given.pool.execute("UPDATE service.delivery SET job = 'reminder.formerly'")
    assert len(await found(given, "job=reminder.formerly")) == 4


async def test_pages_go_on_where_the_last_one_ended(given: Admin) -> None:
    seen: list[int] = []
    before = ""
    while True:
        answer = await given.client.get(f"{DELIVERIES}?limit=3{before}", headers=ADMIN)
        body = await answer.json()
        seen += [row["id"] for row in body["data"]]
        if body["next"] is None:
            break
        before = f"&before={body['next']}"
    assert len(seen) == 4
    assert seen == sorted(seen, reverse=True)


async def test_a_message_is_shown_byte_for_byte_as_it_was_sent(given: Admin) -> None:
    scripted = Scripted()
    await World(given.pool).delivery(scripted).run_once()
    sent = {envelope.recipient: envelope.content for envelope in scripted.received}
    ann = await mail_of(given.pool, "ann")
    pattern = f"{DELIVERIES}/{{id}}/message"

    answer = await given.client.get(f"{DELIVERIES}/{ann}/message", headers=ADMIN)
    shown = (await promised(answer, "GET", pattern))["data"]

    assert shown["mail"]["source"].encode() == sent["ann@example.org"]
    assert (shown["state"], shown["linksHidden"], shown["notice"]) == ("sent", False, None)
    assert "Read ten books" in shown["mail"]["text"]
    assert "Read ten books" in shown["mail"]["html"]


async def test_a_viewer_reads_a_message_but_gets_no_links_to_act_with(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")
    token = await given.pool.fetchval("SELECT token FROM service.delivery_with_state WHERE id = $1", ann)

    answer = await given.client.get(f"{DELIVERIES}/{ann}/message", headers=VIEWER)
    shown = (await promised(answer, "GET", f"{DELIVERIES}/{{id}}/message"))["data"]

    assert shown["linksHidden"]
    assert token not in str(shown).replace("=\r\n", "")
    assert "Read ten books" in shown["mail"]["text"]


async def test_a_notification_is_shown_in_its_words_and_an_unknown_message_is_404(given: Admin) -> None:
    note = await mail_of(given.pool, "ann", "in_app")
    pattern = f"{DELIVERIES}/{{id}}/message"

    answer = await given.client.get(f"{DELIVERIES}/{note}/message", headers=VIEWER)
    shown = (await promised(answer, "GET", pattern))["data"]

    assert shown["mail"] is None
    assert "Read ten books" in shown["notice"]["title"] + shown["notice"]["message"]
    answer = await given.client.get(f"{DELIVERIES}/999/message", headers=VIEWER)
    await promised(answer, "GET", pattern)
    assert answer.status == 404
    assert (await given.client.get(f"{DELIVERIES}/{note}/message", headers=DASHBOARD)).status == 403


async def test_a_message_that_its_template_no_longer_fits_is_409(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")
    await given.pool.execute("UPDATE service.delivery SET facts = '{}' WHERE id = $1", ann)
    answer = await given.client.get(f"{DELIVERIES}/{ann}/message", headers=VIEWER)
    assert (await promised(answer, "GET", f"{DELIVERIES}/{{id}}/message"))["error"]
    assert answer.status == 409


async def test_only_what_is_planned_can_be_taken_back(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")

    assert await act(given, "{id}/cancel", ann) == (200, {"success": True, "state": "cancelled"}, False)
    scripted = Scripted()
    await World(given.pool).delivery(scripted).run_once()
    assert [e.recipient for e in scripted.received] == ["bob@example.org"]
    status, body, _ = await act(given, "{id}/cancel", await mail_of(given.pool, "bob"))
    assert (status, "sent" in body["error"]) == (409, True)
    assert (await act(given, "{id}/cancel", 999))[0] == 404
    assert await audit(given.pool) == [("admin", "cancel")]
    answer = await given.client.post(f"{DELIVERIES}/{ann}/cancel", headers=VIEWER)
    assert answer.status == 403


async def test_a_failed_mail_leaves_again_within_its_usefulness(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")
    await fail(given.pool, ann)

    assert (await act(given, "{id}/retry", ann))[:2] == (202, {"success": True, "state": "planned"})
    scripted = Scripted()
    await World(given.pool).delivery(scripted).run_once()

    assert "ann@example.org" in {e.recipient for e in scripted.received}
    row = await given.pool.fetchrow(
        "SELECT state, attempt, reason FROM service.delivery_with_state WHERE id = $1", ann
    )
    assert row is not None
    assert tuple(row) == ("sent", 1, None)
    assert await audit(given.pool) == [("admin", "retry")]


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'sent'", "is sent"),
        (
            "UPDATE service.delivery_state SET expires_at = '2026-03-10T07:00Z'",
            "useful until 2026-03-10T07:00:00Z",
        ),
        ("INSERT INTO service.suppression VALUES ('ann@example.org', 'complaint')", "suppressed (complaint)"),
    ],
)
async def test_what_cannot_leave_again_says_why(given: Admin, trouble: str, says: str) -> None:
    ann = await mail_of(given.pool, "ann")
    await fail(given.pool, ann)
    await given.pool.execute(trouble)

    status, body, _ = await act(given, "{id}/retry", ann)

    assert (status, says in body["error"]) == (409, True), body
    assert await audit(given.pool) == []


async def test_failed_mails_leave_again_in_bulk_and_the_rest_is_counted_by_why(given: Admin) -> None:
    ann, bob = [await mail_of(given.pool, who) for who in ("ann", "bob")]
    await fail(given.pool, ann)
    await fail(given.pool, bob, expires_at=await given.pool.fetchval("SELECT service.now()"))
    counts = {"matched": 2, "retryable": 1, "retried": 0, "expired": 1, "suppressed": 0}

    status, body, _ = await act(given, "retry", json={"job": GOALS, "dryRun": True})
    assert (status, body) == (200, {"success": True, "dryRun": True} | counts)
    assert await audit(given.pool) == []
    for nothing in ({"job": "x"}, {"from": "2026-03-11"}, {"address": "zoe@"}, {"user": "zoe"}):
        assert (await act(given, "retry", json=nothing))[1]["matched"] == 0
    _, body, _ = await act(given, "retry", json={"reason": "content_refused", "to": "2026-03-10"})
    assert body == {"success": True, "dryRun": False} | counts | {"retried": 1}
    states = await given.pool.fetch(
        "SELECT state FROM service.delivery_with_state WHERE channel = 'email' ORDER BY user_id"
    )
    assert [row["state"] for row in states] == ["planned", "failed"]
    assert {what for _, what in await audit(given.pool)} == {"retry-failed"}
    assert (await act(given, "retry", json={}))[0] == 400
    assert (await act(given, "retry", json={"user": "ann", "limit": 0}))[0] == 400
    assert (await act(given, "retry", json={"from": "2026-03-11", "to": "2026-03-10"}))[0] == 400


async def test_the_same_key_acts_once_and_answers_alike(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")
    await fail(given.pool, ann)

    first = await act(given, "{id}/retry", ann, "k1")
    await fail(given.pool, ann)
    again = await act(given, "{id}/retry", ann, "k1")

    assert first == (202, {"success": True, "state": "planned"}, False)
    assert again == (*first[:2], True)
    state = await given.pool.fetchval("SELECT state FROM service.delivery_with_state WHERE id = $1", ann)
    assert state == "failed"
    assert await audit(given.pool) == [("admin", "retry")]


async def test_a_key_belongs_to_one_request_and_to_refusals_too(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")
    refused = await act(given, "{id}/retry", ann, "k1")
    await fail(given.pool, ann)

    assert refused[0] == 409
    assert await act(given, "{id}/retry", ann, "k1") == (*refused[:2], True)
    status, body, _ = await act(given, "{id}/cancel", ann, "k1")
    assert (status, "Idempotency-Key" in body["error"]) == (409, True)
    assert (await act(given, "retry", key="k2", json={"user": "ann", "dryRun": True}))[0] == 200
    assert (await act(given, "retry", key="k2", json={"user": "bob", "dryRun": True}))[0] == 409
    assert (await act(given, "{id}/retry", ann, "é"))[0] == 400


async def test_the_same_key_at_the_same_moment_acts_once(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")

    answers = await asyncio.gather(*(act(given, "{id}/cancel", ann, "k1") for _ in range(5)))

    assert {status for status, *_ in answers} == {200}
    assert sorted(replayed for *_, replayed in answers) == [False, True, True, True, True]
    assert await audit(given.pool) == [("admin", "cancel")]


async def test_a_key_is_forgotten_after_a_day(given: Admin) -> None:
    ann = await mail_of(given.pool, "ann")
    assert (await act(given, "{id}/cancel", ann, "k1"))[0] == 200
    world = World(given.pool)

    await world.at("2026-03-11T07:59:00Z")
    assert (await act(given, "{id}/cancel", ann, "k1"))[2]
    await world.at("2026-03-11T08:01:00Z")
    assert (await act(given, "{id}/cancel", ann, "k1"))[0] == 409
