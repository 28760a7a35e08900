"""What a job would write, seen before anybody gets it; and a mail to oneself, beside the outbox."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from service.messages.mail.transport import SmtpPhase
from service.messages.preview import Previewer
from tests.acme import JOBS
from tests.given import Scripted, World, composer, goal, refused, user
from tests.messages.mail.reading import check_wire, parsed, part
from tests.samples import SAMPLES
from tests.web.given import ADMIN, DASHBOARD, VIEWER, Admin, admin

PREVIEW = "/api/admin/preview"
TEST_SEND = "/api/admin/test-send"
DEADLINES = {"jobType": "reminder", "jobName": "goalDeadlines"}
FOR_ANN = DEADLINES | {"userId": "ann", "at": "2026-03-10T09:00:00+01:00"}
TO_ME = {"to": "me@example.org"}


@pytest.fixture
def transport() -> Scripted:
    return Scripted()


@pytest.fixture
async def given(pool: asyncpg.Pool, transport: Scripted) -> AsyncIterator[Admin]:
    """Ann has a goal due on 11 March, Bob has none; the HTTP face is the real one."""
    world = World(pool)
    await world.at("2026-03-01T12:00:00Z")
    await world.live(user("ann"), user("bob"), goal("g1", due="2026-03-11", title="Read ten books"))
    made = composer()
    previewer = Previewer(pool, await world.runner(), JOBS, made, made.compose, transport)
    async with admin(pool, previewer=previewer) as given:
        yield given


async def ask(
    given: Admin, path: str, body: dict[str, Any], headers: dict[str, str] = ADMIN
) -> tuple[int, dict[str, Any]]:
    answer = await given.client.post(path, json=body, headers=headers)
    return answer.status, await answer.json()


async def written(pool: asyncpg.Pool) -> list[int]:
    tables = ("delivery", "delivery_stage", "notification", "refusal", "job_run")
    return [await pool.fetchval(f"SELECT count(*) FROM service.{table}") for table in tables]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_every_sample_can_be_looked_at(given: Admin, sample: Any) -> None:
    job = {"jobType": "reminder", "jobName": sample.job.partition(".")[2]}

    status, answer = await ask(given, PREVIEW, job | {"variant": sample.variant}, VIEWER)

    assert status == 200
    raw = answer["data"]["source"].encode()
    check_wire(raw)
    assert parsed(raw)["Subject"] == answer["data"]["subject"]
    assert part(raw, "plain").strip() == answer["data"]["text"].strip()
    assert part(raw, "html").strip() == answer["data"]["html"].strip()


async def test_a_user_s_mail_is_the_one_that_the_job_decides_at_that_moment(given: Admin) -> None:
    status, answer = await ask(given, PREVIEW, FOR_ANN, VIEWER)

    assert status == 200
    assert answer["data"]["subject"] == "Due tomorrow: Read ten books"
    assert "Hello Ann," in answer["data"]["text"]
    status, later = await ask(given, PREVIEW, FOR_ANN | {"at": "2026-03-11T09:00:00+01:00"})
    assert later["data"]["subject"] == "Due today: Read ten books"


async def test_looking_writes_nothing(given: Admin) -> None:
    before = await written(given.pool)

    await ask(given, PREVIEW, FOR_ANN)

    assert await written(given.pool) == before


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (DEADLINES | {"jobName": "nothing"}, 404, "Unknown job"),
        (DEADLINES | {"jobType": "nothing"}, 404, "Unknown job type"),
        (FOR_ANN | {"userId": "nobody"}, 404, "Unknown user: nobody"),
        (FOR_ANN | {"userId": "bob"}, 409, "does not look at this user"),
        (FOR_ANN | {"at": "2026-03-05T09:00:00Z"}, 409, "not_due"),
        (FOR_ANN | {"variant": "full"}, 400, "variant chooses a sample"),
        (FOR_ANN | {"at": "2026-03-05T09:00:00"}, 400, "at:"),
        (DEADLINES | {"at": "2026-03-05T09:00:00Z"}, 400, "at needs userId"),
        (DEADLINES | {"variant": "nothing"}, 400, "variant must be one of full, one"),
        (DEADLINES | {"user": "ann"}, 400, "user"),
    ],
)
async def test_what_cannot_be_shown_is_named(
    given: Admin, body: dict[str, Any], status: int, says: str
) -> None:
    answered, answer = await ask(given, PREVIEW, body)

    assert (answered, answer["success"]) == (status, False)
    assert says in answer["error"]


async def test_a_test_mail_goes_out_once_marked_and_recorded_and_beside_the_outbox(
    given: Admin, transport: Scripted
) -> None:
    before = await written(given.pool)

    status, answer = await ask(given, TEST_SEND, FOR_ANN | TO_ME)

    assert status == 200
    [envelope] = transport.received
    assert envelope.recipient == "me@example.org"
    check_wire(envelope.content)
    message = parsed(envelope.content)
    assert message["To"].addresses[0].addr_spec == "me@example.org"
    assert message["Message-ID"] == f"<{answer['messageId']}>"
    assert "You asked for a test mail." in part(envelope.content, "plain")
    assert "You asked for a test mail." in part(envelope.content, "html")
    assert "You get this because" not in part(envelope.content, "plain")
    assert await written(given.pool) == before
    [row] = await given.pool.fetch("SELECT who, act, what FROM service.audit WHERE act = 'test-send'")
    assert row["who"] == "admin"
    assert row["what"] == {
        "job": "reminder.goalDeadlines",
        "userId": "ann",
        "to": "me@example.org",
        "messageId": answer["messageId"],
        "accepted": True,
    }


async def test_the_real_mail_still_goes_out_after_a_test(given: Admin, transport: Scripted) -> None:
    _, first = await ask(given, TEST_SEND, FOR_ANN | TO_ME)
    _, second = await ask(given, TEST_SEND, FOR_ANN | TO_ME)
    world = World(given.pool)
    await world.at("2026-03-10T09:00:00Z")
    result = await (await world.runner()).run_manual("reminder.goalDeadlines")

    assert first["messageId"] != second["messageId"]
    assert result.counts["planned"] == 1


async def test_a_refusal_of_the_mail_server_is_told_and_recorded(given: Admin, transport: Scripted) -> None:
    transport.answer = lambda envelope: refused(envelope, SmtpPhase.RCPT, 550, "5.1.1 no such user")

    status, answer = await ask(given, TEST_SEND, DEADLINES | TO_ME)

    assert status == 502
    assert "5.1.1 no such user" in answer["error"]
    assert await given.pool.fetchval("SELECT what ->> 'accepted' FROM service.audit") == "false"


@pytest.mark.parametrize("to", ["nobody", "a@b@c", "a@example.org\r\nBcc: b@example.org", "a b@example.org"])
async def test_an_address_that_is_none_gets_nothing(given: Admin, transport: Scripted, to: str) -> None:
    status, _ = await ask(given, TEST_SEND, DEADLINES | {"to": to})

    assert status == 400
    assert transport.received == []


async def test_viewers_look_and_only_admins_send(given: Admin, transport: Scripted) -> None:
    assert (await ask(given, PREVIEW, DEADLINES, VIEWER))[0] == 200
    assert (await ask(given, TEST_SEND, DEADLINES | TO_ME, VIEWER))[0] == 403
    assert (await ask(given, PREVIEW, DEADLINES, DASHBOARD))[0] == 403
    assert (await given.client.post(PREVIEW, json=DEADLINES)).status == 401
    assert transport.received == []


@pytest.mark.parametrize("broken", ["\r\n", "\n", "\r", "\r\n\r\n", "\u2028", "\x0b", "\x85", "\0"])
async def test_no_title_name_or_address_adds_a_header(given: Admin, transport: Scripted, broken: str) -> None:
    evil = f"Read{broken}Bcc: everybody@example.org{broken}X-Injected: yes"
    stored = evil.replace("\0", "")  # PostgreSQL holds none
    world = World(given.pool)
    await world.live(user("eve", name=stored), goal("g2", "eve", due="2026-03-11", title=stored))
    for_eve = DEADLINES | {"userId": "eve", "at": "2026-03-10T09:00:00+01:00"}

    status, answer = await ask(given, TEST_SEND, for_eve | TO_ME)

    assert status == 200, answer
    [sent] = transport.received
    assert {"Bcc", "X-Injected"}.isdisjoint(parsed(sent.content).keys())
    assert sent.recipient == TO_ME["to"]
    for field, value in (("to", f"me@example.org{broken}Bcc: x@example.org"), ("userId", evil)):
        status, _ = await ask(given, TEST_SEND, for_eve | TO_ME | {field: value})
        assert status in {400, 404}, field
    assert len(transport.received) == 1
