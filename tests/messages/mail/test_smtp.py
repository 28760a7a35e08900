"""The SMTP pool on real sockets: each phase, every kind of trouble, and never a dot before the permission."""

import asyncio
from datetime import UTC, datetime

import pytest

from service.messages.mail.smtp import SmtpPool
from service.messages.mail.transport import Envelope
from tests.messages.mail.mails import BODY, Mails, at, config, envelope, pool, send
from tests.process import until
from tests.smtp_server import DROP, HANG, RecordingServer


@pytest.mark.parametrize("pipelining", [True, False])
async def test_messages_arrive_whole_in_order_over_one_connection(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        smtp = pool(server)
        mails = await send(smtp, *(envelope(n) for n in range(5)))
        await smtp.close()

    assert mails.ends == [(n, True, "dot", 250) for n in range(5)]
    assert [a.recipient for a in server.accepted] == [f"ann{n}@example.org" for n in range(5)]
    assert {a.size for a in server.accepted} == {len(BODY) - 1}
    assert (server.connections, server.commands.count("QUIT")) == (1, 1)


@pytest.mark.parametrize("pipelining", [True, False])
async def test_no_dot_is_written_before_it_is_granted(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        dots: list[tuple[int, int]] = []
        mails = Mails(
            *(envelope(n) for n in range(3)),
            denied=[1],
            listen=lambda id_: dots.append((id_, server.commands.count("."))),
        )
        smtp = pool(server)
        smtp.start(mails)
        smtp.wake()
        await until(lambda: mails.settled)

    assert mails.ends == [(0, True, "dot", 250), (2, True, "dot", 250)]
    assert dots == [(0, 0), (1, 1), (2, 1)]
    assert [a.recipient for a in server.accepted] == ["ann0@example.org", "ann2@example.org"]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("phase", "told", "result"),
    [
        ("rcpt", "550 5.1.1 no", ("rcpt", 550)),
        ("rcpt", "450 4.2.1 later", ("rcpt", 450)),
        ("rcpt", "421 4.7.0 go away", ("rcpt", 421)),
        ("data", "451 4.3.0 later", ("data", 451)),
        ("dot", "554 5.7.0 spam", ("dot", 554)),
        ("dot", "451 4.0.0 later", ("dot", 451)),
        ("dot", "421 4.0.0 go away", ("dot", 421)),
        ("rcpt", DROP, ("rcpt", None)),
        ("data", DROP, ("data", None)),
        ("data", HANG, ("data", None)),
        ("data", "what", ("data", None)),
        ("data", "354" + "x" * 9000, ("data", None)),
        ("data", "250-a\r\n" * 200 + "250 b", ("data", None)),
        ("dot", DROP, ("dot", None)),
        ("dot", HANG, ("dot", None)),
        ("after_dot", DROP, ("dot", None)),
        ("after_dot", HANG, ("dot", None)),
    ],
)
async def test_trouble_with_one_message_does_not_touch_its_neighbours(
    phase: str, told: str, result: tuple[str, int | None], pipelining: bool
) -> None:
    async with RecordingServer(at(phase, told), pipelining=pipelining) as server:
        mails = await send(pool(server), envelope(1), envelope(2, "bad"), envelope(3), envelope(4))

    assert mails.ends == [
        (1, True, "dot", 250), (2, False, *result), (3, True, "dot", 250), (4, True, "dot", 250),
    ]  # fmt: skip
    taken = {1, 3, 4} | ({2} if phase == "after_dot" else set())
    assert {int(a.message_id.partition("@")[0]) for a in server.accepted} == taken


@pytest.mark.parametrize(
    ("phase", "told", "refusal"),
    [
        ("connect", "554 5.3.2 not you", ("connect", 554)),
        ("connect", "421 4.3.2 later", ("connect", 421)),
        ("connect", DROP, ("connect", None)),
        ("auth", "535 5.7.8 no", ("auth", 535)),
    ],
)
async def test_what_a_server_that_refuses_us_did_not_take_stays_in_the_queue(
    phase: str, told: str, refusal: tuple[str, int | None]
) -> None:
    async with RecordingServer(at(phase, told), auth=True) as server:
        smtp = pool(server, connections=10, user="mailer", password="secret")
        mails = await send(smtp, envelope(1), envelope(2))
        assert mails.refusals == [refusal]
        assert [one.id for one in mails.waiting] == [1, 2]

        server.behave()
        smtp.wake(1)
        await until(lambda: len(mails.results) == 2)

    assert mails.ends == [(1, True, "dot", 250), (2, True, "dot", 250)]
    assert server.connections == 2


async def test_a_port_where_nobody_listens_is_a_passing_trouble() -> None:
    async with RecordingServer() as server:
        smtp = pool(server)
    mails = await send(smtp, envelope(1))

    assert mails.refusals == [("connect", None)]
    assert [one.id for one in mails.waiting] == [1]
    assert "connect" in (await smtp.ping() or "")


async def test_a_refusal_at_mail_is_that_of_a_message() -> None:
    async with RecordingServer(at("mail", "550 5.7.1 not you")) as server:
        mails = await send(pool(server), envelope(1), envelope(2))

    assert mails.ends == [(1, False, "mail", 550), (2, False, "mail", 550)]


async def test_the_lines_of_an_answer_stay_lines() -> None:
    async with RecordingServer(at("rcpt", "550-5.1.1 a\r\n550-b\r\n550 5.1.1 c")) as server:
        mails = await send(pool(server), envelope(1, "bad"))

    assert [result.reply for result in mails.results] == ["5.1.1 a\nb\n5.1.1 c"]


# ── Refusals of a log-in ────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """A clock that goes on when it is told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


async def test_a_refused_log_in_is_not_tried_by_every_connection() -> None:
    async with RecordingServer(at("auth", "535 5.7.8 no"), auth=True) as server:
        smtp = pool(server, connections=10, user="mailer", password="secret")
        mails = await send(smtp, *(envelope(n) for n in range(10)))
        alone = await asyncio.gather(*(smtp.send_one(envelope(n)) for n in range(10, 20)))

    assert [one.id for one in mails.waiting] == list(range(10))
    assert [(r.id, r.accepted, str(r.phase), r.code) for r in alone] == [
        (n, False, "auth", 535) for n in range(10, 20)
    ]
    assert server.logins == 2


async def test_once_a_log_in_succeeded_connections_are_opened_side_by_side() -> None:
    held: set[str] = set()

    def hold(phase: str, recipient: str) -> str | None:
        if phase == "rcpt":
            held.add(recipient)
        return HANG if phase == "rcpt" else None

    async with RecordingServer(hold, auth=True) as server:
        smtp = pool(server, connections=5, user="mailer", password="secret", command_timeout=60.0)
        mails = Mails(*(envelope(n) for n in range(9)))
        smtp.start(mails)
        smtp.wake(at_most=3)
        await until(lambda: len(held) == 3)
        assert (smtp.connections, smtp.in_use) == (3, 3)
        smtp.wake()
        await until(lambda: len(held) == 5)
        await smtp.close()

    assert server.logins == 5
    assert [one.id for one in sorted(mails.waiting, key=lambda one: one.id)] == list(range(9))


async def test_a_server_that_takes_one_connection_of_us_is_not_asked_for_others_all_the_time() -> None:
    greetings = 0

    def one(phase: str, _recipient: str) -> str | None:
        nonlocal greetings
        greetings += phase == "connect"
        return "421 4.7.0 too many connections" if phase == "connect" and greetings > 1 else None

    async with RecordingServer(one) as server:
        smtp = pool(server, connections=4, per_connection=1000, command_timeout=60.0, data_timeout=60.0)
        mails = Mails(*(envelope(n) for n in range(200)))
        smtp.start(mails)
        smtp.wake()
        while len(mails.results) < 200:
            smtp.wake()
            await asyncio.sleep(0)
        await smtp.close()

    assert sorted(mails.ends) == [(n, True, "dot", 250) for n in range(200)]
    assert mails.refusals == []  # who takes one connection of us takes our mail
    assert 2 <= server.connections <= 4


async def test_questions_for_health_do_not_repeat_a_refused_log_in() -> None:
    clock = Watch()
    async with RecordingServer(at("auth", "535 5.7.8 no"), auth=True) as server:
        smtp = SmtpPool(config(server, user="mailer", password="secret"), clock)
        logins = []
        for seconds in (0, 1, 3, 1, 9, 1, 19, 1, 39, 1, 59, 1):
            clock.seconds += seconds
            assert await smtp.ping() == "auth: 535 5.7.8 no"
            logins.append(server.logins)

    assert logins == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


async def test_health_is_well_as_soon_as_a_message_got_through() -> None:
    async with RecordingServer(at("auth", "535 5.7.8 no"), auth=True) as server:
        smtp = pool(server, user="mailer", password="secret")
        assert await smtp.ping()
        server.behave()
        await send(smtp, envelope(1))

        assert await smtp.ping() is None
        await smtp.close()


async def test_health_that_is_polled_for_hours_keeps_one_connection_open() -> None:
    clock = Watch()
    async with RecordingServer() as server:
        smtp = SmtpPool(config(server), clock)
        for _ in range(20):
            clock.seconds += 61
            assert await asyncio.gather(*(smtp.ping() for _ in range(3))) == [None] * 3
            await until(lambda: server.connections - server.closed == 1)
        assert server.connections == 20
        await smtp.close()
        await until(lambda: server.connections == server.closed)


# ── Connections that are kept ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pipelining", [True, False])
async def test_connections_are_kept_and_recycled_after_so_many_messages(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        smtp = pool(server, per_connection=3)
        for n in (0, 2, 4):
            await send(smtp, envelope(n), envelope(n + 1))
        await smtp.close()

    assert [one.connection for one in server.accepted] == [1, 1, 1, 2, 2, 2]
    assert server.commands.count("QUIT") == 2


async def test_a_connection_without_mails_is_closed_and_opened_again_for_the_next() -> None:
    async with RecordingServer() as server:
        smtp = pool(server, idle=0.1)
        await send(smtp, envelope(1))
        await until(lambda: server.closed == 1 and smtp.connections == 0)
        mails = await send(smtp, envelope(2))

    assert mails.ends == [(2, True, "dot", 250)]
    assert server.commands.count("QUIT") == 1


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("told", [DROP, "421 4.7.0 too many messages"])
async def test_a_kept_connection_that_the_server_closed_is_replaced_without_a_word(
    told: str, pipelining: bool
) -> None:
    begun = 0

    def once(phase: str, _recipient: str) -> str | None:
        nonlocal begun
        begun += phase == "mail"
        return told if phase == "mail" and begun == 2 else None

    async with RecordingServer(once, pipelining=pipelining) as server:
        smtp = pool(server)
        await send(smtp, envelope(1))
        mails = await send(smtp, envelope(2))

    assert mails.ends == [(2, True, "dot", 250)]
    assert mails.given_back == [2]
    assert server.connections == 2


async def test_a_new_connection_that_is_closed_at_mail_is_the_end_of_a_message() -> None:
    async with RecordingServer(at("mail", "421 4.7.0 not now")) as server:
        mails = await send(pool(server), envelope(1), envelope(2))

    assert mails.ends == [(1, False, "mail", 421), (2, False, "mail", 421)]
    assert server.connections == 2


async def test_for_an_empty_queue_no_connection_is_opened() -> None:
    async with RecordingServer() as server:
        mails = await send(pool(server))

    assert (server.connections, mails.results) == (0, [])


# ── What must not be sent ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\r.\r\nb", b"a\0b\r\n"])
async def test_smuggled_line_ends_never_reach_the_wire(bad: bytes) -> None:
    async with RecordingServer() as server:
        mails = await send(pool(server), envelope(1, content=bad), envelope(2))

    assert mails.ends == [(1, False, "dot", 554), (2, True, "dot", 250)]


@pytest.mark.parametrize("address", ["a@b.c\r\nRCPT TO:<x@y.z>", "a b@example.org", "<a@b.c>", ""])
async def test_an_address_that_would_inject_commands_is_refused(address: str) -> None:
    async with RecordingServer() as server:
        smtp = pool(server)
        bad = Envelope(1, "a@example.org", address, BODY)
        mails = await send(smtp, bad)
        alone = await smtp.send_one(bad)

    assert mails.ends == [(1, False, "rcpt", 553)]
    assert alone == mails.results[0]
    assert server.connections == 0


# ── One mail beside the queue ───────────────────────────────────────────────────────────────────────────────


async def test_one_mail_goes_over_an_idle_connection_which_then_serves_the_queue_again() -> None:
    async with RecordingServer() as server:
        smtp = pool(server)
        await send(smtp, envelope(1))
        result = await smtp.send_one(envelope(2))
        await send(smtp, envelope(3))
        await smtp.close()
        after = await smtp.send_one(envelope(4))

    assert (result.id, result.accepted, result.code) == (2, True, 250)
    assert [a.recipient for a in server.accepted] == [f"ann{n}@example.org" for n in (1, 2, 3)]
    assert server.connections == 1
    assert (after.accepted, after.reply) == (False, "sending was stopped")


async def test_one_mail_does_not_wait_for_the_queue_nor_for_a_stale_connection() -> None:
    async with RecordingServer() as server:
        smtp = pool(server)
        mails = Mails(envelope(1), envelope(2), held=[1])
        smtp.start(mails)
        smtp.wake()
        await until(lambda: mails.requested == [1])
        assert (await smtp.send_one(envelope(3))).accepted
        mails.requests[1](True)
        await until(lambda: mails.settled)
        server.behave(at("mail", DROP))
        lost = await smtp.send_one(envelope(4))

    assert sorted(mails.ends) == [(1, True, "dot", 250), (2, True, "dot", 250)]
    assert (lost.accepted, str(lost.phase), lost.code) == (False, "mail", None)
