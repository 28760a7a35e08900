"""A mail shows each attempt to send it: when, what the server said, when it is tried again."""

from datetime import timedelta

import pytest

from service.messages.attempts import attempts
from service.messages.mail.smtp_reply import About
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from tests.given import GOALS, Scripted, World, accepted, goal, refused, user
from tests.web.console.consoles import console
from tests.web.contract import promised
from tests.web.given import ADMIN, VIEWER, admin

PATH = "/api/admin/deliveries/{id}/attempts"
LATER = (SmtpPhase.RCPT, 451, "4.3.0 try again later")
LOST = (SmtpPhase.DATA, None, "connection reset")


@pytest.fixture
async def mail(world: World) -> int:
    """Ann's mail, planned and not tried."""
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    id_: int = await world.pool.fetchval("SELECT id FROM service.delivery WHERE channel = 'email'")
    return id_


async def _try(world: World, minute: int, answer: tuple[SmtpPhase, int | None, str] | None) -> None:
    def answered(envelope: Envelope) -> SendResult:
        return refused(envelope, *answer) if answer else accepted(envelope)

    await world.at(f"2026-03-10T{8 + minute // 60:02}:{minute % 60:02}:07Z")
    await world.delivery(Scripted(answered)).run_once()


async def test_each_attempt_is_shown_with_its_seconds_and_the_next_try(world: World, mail: int) -> None:
    for minute, answer in ((0, LATER), (2, LOST), (10, None)):
        await _try(world, minute, answer)

    async with admin(world.pool) as given:
        answer_ = await given.client.get(PATH.format(id=mail), headers=VIEWER)
        data = (await promised(answer_, "GET", PATH))["data"]
        assert (await given.client.get(PATH.format(id=4711), headers=ADMIN)).status == 404
    async with console(world) as opened:
        await opened.sign_in("the-viewer")
        page = await opened.read(f"/console/messages/{mail}")

    first, second, last = data
    assert (first["at"], first["state"], first["reason"]) == ("2026-03-10T08:00:07Z", "planned", "throttled")
    assert (first["smtpCode"], first["smtpReply"]) == LATER[1:]
    assert "2026-03-10T08:01:07" <= first["nextTry"] < "2026-03-10T08:01:20"
    assert (second["at"], second["reason"], second["smtpReply"]) == (
        "2026-03-10T08:02:07Z",
        "data_lost",
        "connection reset",
    )
    assert (last["at"], last["state"], last["smtpCode"], last["nextTry"]) == (
        "2026-03-10T08:10:07Z",
        "sent",
        250,
        None,
    )
    assert "2026-03-10T08:00:07Z" in page
    assert "451 4.3.0 try again later" in page


async def test_only_attempts_are_shown_and_the_last_twenty(world: World, mail: int) -> None:
    assert await attempts(world.pool, mail) == []
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, quiet_start, quiet_end)"
        " VALUES ('ann', '10:00', '12:00')"
    )
    await _try(world, 61, LATER)  # in quiet hours: no attempt
    assert await attempts(world.pool, mail) == []

    await world.pool.execute("DELETE FROM service.recipient_setting")
    for place in range(25):
        await world.pool.execute("UPDATE service.delivery_state SET not_before = service.now()")
        await _try(world, 62 + place, (SmtpPhase.RCPT, 450, f"4.2.0 busy {place}"))

    shown = await attempts(world.pool, mail)
    assert shown
    assert [one.smtp_reply for one in shown] == [f"4.2.0 busy {place}" for place in range(5, 25)]


async def test_what_came_back_was_accepted_before(world: World, mail: int) -> None:
    await _try(world, 0, None)
    await world.at("2026-03-10T09:00:00Z")
    reports = Suppressions(world.pool, Outbox(world.pool, "a", timedelta(seconds=60)))
    await reports.record_failure(mail, "550 5.1.1 who?", About.ADDRESS, no_such_address=True)

    shown = await attempts(world.pool, mail)
    assert shown
    assert [(one.at.isoformat()[11:19], one.state, one.smtp_reply) for one in shown] == [
        ("08:00:07", "sent", None)
    ]
