"""The SMTP pool on real sockets: each phase, every kind of trouble, and never a dot before the permission."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from tests.process import until
from tests.smtp_server import DROP, HANG, Misbehave, RecordingServer

_BODY = b"Message-ID: <%d@example.org>\r\nSubject: x\r\n\r\n.leading dot\r\nline\r\n"


def envelope(n: int, name: str = "ann") -> Envelope:
    return Envelope(n, "hello@example.org", f"{name}{n}@example.org", _BODY % n)


def config(server: RecordingServer, **changes: object) -> SmtpConfig:
    values = {"connections": 2, "command_timeout": 0.5, "data_timeout": 0.5, "connect_timeout": 2.0} | changes
    return SmtpConfig("127.0.0.1", server.port, "none", **values)  # type: ignore[arg-type]


class Sender:
    """Sends and remembers; ``denied`` get no dot."""

    def __init__(self, server: RecordingServer, *, denied: Sequence[int] = (), **changes: object) -> None:
        self.pool = SmtpPool(config(server, **changes), SystemClock())
        self.server = server
        self.denied = set(denied)
        self.results: list[SendResult] = []
        self.asked: list[tuple[int, int]] = []

    async def before_dot(self, ids: Sequence[int]) -> frozenset[int]:
        await asyncio.sleep(0)
        self.asked += [(id_, self.server.commands.count(".")) for id_ in ids]
        return frozenset(ids) - self.denied

    async def on_result(self, result: SendResult) -> None:
        self.results.append(result)

    async def send(self, *envelopes: Envelope) -> list[tuple[int, bool, str, int | None]]:
        async with asyncio.timeout(60):
            await self.pool.send(envelopes, self.before_dot, self.on_result)
        return [(r.id, r.accepted, str(r.phase), r.code) for r in self.results]


def at(phase: str, told: str, name: str = "bad") -> Misbehave:
    """Misbehave in one phase towards recipients of this name; the nameless phases towards everybody."""
    nameless = phase in {"connect", "auth", "mail"}
    return lambda p, recipient: told if p == phase and (nameless or recipient.startswith(name)) else None


@pytest.mark.parametrize("pipelining", [True, False])
async def test_messages_arrive_whole_in_order_over_one_connection(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        sender = Sender(server)
        results = await sender.send(*(envelope(n) for n in range(5)))
        await sender.pool.close()

    assert results == [(n, True, "dot", 250) for n in range(5)]
    assert [a.recipient for a in server.accepted] == [f"ann{n}@example.org" for n in range(5)]
    assert {a.size for a in server.accepted} == {len(_BODY % 1)}
    assert server.connections == 1


@pytest.mark.parametrize("pipelining", [True, False])
async def test_no_dot_is_written_before_it_is_granted(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        sender = Sender(server, denied=[1])
        results = await sender.send(*(envelope(n) for n in range(3)))

    assert results == [(0, True, "dot", 250), (1, False, "content", None), (2, True, "dot", 250)]
    assert sender.asked == [(0, 0), (1, 1), (2, 1)]
    assert [a.recipient for a in server.accepted] == ["ann0@example.org", "ann2@example.org"]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("phase", "told", "result"),
    [
        ("rcpt", "550 5.1.1 no", ("rcpt", 550)),
        ("rcpt", "450 4.2.1 later", ("rcpt", 450)),
        ("data", "451 4.3.0 later", ("data", 451)),
        ("dot", "554 5.7.0 spam", ("dot", 554)),
        ("dot", "451 4.0.0 later", ("dot", 451)),
        ("rcpt", DROP, ("rcpt", None)),
        ("data", DROP, ("data", None)),
        ("data", HANG, ("data", None)),
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
        sender = Sender(server)
        results = await sender.send(envelope(1), envelope(2, "bad"), envelope(3), envelope(4))

    assert results == [
        (1, True, "dot", 250), (2, False, *result), (3, True, "dot", 250), (4, True, "dot", 250),
    ]  # fmt: skip
    taken = {1, 3, 4} | ({2} if phase == "after_dot" else set())
    assert {int(a.message_id.partition("@")[0]) for a in server.accepted} == taken


@pytest.mark.parametrize(
    ("phase", "told", "result"),
    [
        ("connect", "554 5.3.2 not you", ("connect", 554)),
        ("connect", "421 4.3.2 later", ("connect", 421)),
        ("connect", DROP, ("connect", None)),
        ("mail", "550 5.7.1 not you", ("mail", 550)),
    ],
)
async def test_a_server_that_refuses_us_refuses_every_message(
    phase: str, told: str, result: tuple[str, int | None]
) -> None:
    async with RecordingServer(at(phase, told)) as server:
        results = await Sender(server).send(envelope(1), envelope(2))

    assert results == [(1, False, *result), (2, False, *result)]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_server_that_hangs_up_before_the_dot_certainly_did_not_take_the_message(
    pipelining: bool,
) -> None:
    async with RecordingServer(at("content", DROP), pipelining=pipelining) as server:
        sender = Sender(server)

        async def mark(ids: Sequence[int]) -> frozenset[int]:
            if 2 in ids:
                await until(lambda: server.closed == 1)
            return await sender.before_dot(ids)

        async with asyncio.timeout(60):
            messages = [envelope(1), envelope(2, "bad"), envelope(3)]
            await sender.pool.send(messages, mark, sender.on_result)

    results = sorted((r.id, r.accepted, r.phase, r.code) for r in sender.results)
    assert results == [
        (1, True, SmtpPhase.DOT, 250), (2, False, SmtpPhase.CONTENT, None), (3, True, SmtpPhase.DOT, 250),
    ]  # fmt: skip


def _hang_up_before_the_dot(listener: socket.socket, hung_up: threading.Event) -> None:
    peer, _ = listener.accept()
    with peer, peer.makefile("rwb", buffering=0) as wire:
        for answer in (b"220 ready", b"250 localhost", b"250 ok", b"250 ok", b"354 go on"):
            wire.write(answer + b"\r\n")
            wire.readline()  # the next command; after 354 the first line of the content
        while wire.readline() != b"line\r\n":
            pass
    hung_up.set()


async def test_a_hang_up_that_the_event_loop_has_not_seen_yet_is_seen_at_the_dot() -> None:
    hung_up = threading.Event()
    results: list[SendResult] = []

    async def mark(ids: Sequence[int]) -> frozenset[int]:
        assert hung_up.wait(60)  # blocks the event loop: it hears nothing of the end
        return frozenset(ids)

    async def note(result: SendResult) -> None:
        results.append(result)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_hang_up_before_the_dot, args=(listener, hung_up))
        server.start()
        pool = SmtpPool(SmtpConfig("127.0.0.1", listener.getsockname()[1], "none"), SystemClock())
        async with asyncio.timeout(60):
            await pool.send([envelope(1)], mark, note)
        server.join(60)

    assert [(r.accepted, r.phase, r.code) for r in results] == [(False, SmtpPhase.CONTENT, None)]


async def test_the_lines_of_an_answer_stay_lines() -> None:
    async with RecordingServer(at("rcpt", "550-5.1.1 a\r\n550-b\r\n550 5.1.1 c")) as server:
        sender = Sender(server)
        await sender.send(envelope(1, "bad"))

    assert [result.reply for result in sender.results] == ["5.1.1 a\nb\n5.1.1 c"]


# ── Refusals of a log-in ────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """A clock that goes on when it is told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


async def _at_once(sender: Sender, count: int) -> list[tuple[int, bool, str, int | None]]:
    await asyncio.gather(*(sender.send(envelope(n)) for n in range(count)))
    return sorted((r.id, r.accepted, str(r.phase), r.code) for r in sender.results)


async def test_a_refused_log_in_is_not_tried_by_every_connection() -> None:
    async with RecordingServer(at("auth", "535 5.7.8 no"), auth=True) as server:
        sender = Sender(server, connections=10, user="mailer", password="secret")
        results = await _at_once(sender, 10)

    assert results == [(n, False, "auth", 535) for n in range(10)]
    assert server.logins == 1


async def test_once_a_log_in_succeeded_connections_are_opened_side_by_side() -> None:
    held: set[str] = set()

    def hold(phase: str, recipient: str) -> str | None:
        if phase == "rcpt":
            held.add(recipient)
        return HANG if phase == "rcpt" else None

    async with RecordingServer(hold, auth=True) as server:
        sender = Sender(server, connections=5, user="mailer", password="secret", command_timeout=60.0)
        sending = asyncio.ensure_future(_at_once(sender, 5))
        await until(lambda: len(held) == 5)
        sending.cancel()
        await asyncio.wait({sending})

    assert server.logins == 5


async def test_questions_for_health_do_not_repeat_a_refused_log_in() -> None:
    clock = Watch()
    async with RecordingServer(at("auth", "535 5.7.8 no"), auth=True) as server:
        pool = SmtpPool(config(server, user="mailer", password="secret"), clock)
        logins = []
        for seconds in (0, 1, 3, 1, 9, 1, 19, 1, 39, 1, 59, 1):
            clock.seconds += seconds
            assert await pool.ping() == "auth: 535 5.7.8 no"
            logins.append(server.logins)

    assert logins == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


async def test_health_is_well_as_soon_as_a_message_got_through() -> None:
    refusing = True

    async with RecordingServer(
        lambda phase, _: "535 5.7.8 no" if phase == "auth" and refusing else None, auth=True
    ) as server:
        sender = Sender(server, user="mailer", password="secret")
        assert await sender.pool.ping()
        refusing = False
        await sender.send(envelope(1))

        assert await sender.pool.ping() is None
        await sender.pool.close()


async def test_health_that_is_polled_for_hours_keeps_one_connection_open() -> None:
    clock = Watch()
    async with RecordingServer() as server:
        pool = SmtpPool(config(server), clock)
        for _ in range(20):
            clock.seconds += 61
            assert await asyncio.gather(*(pool.ping() for _ in range(3))) == [None] * 3
            await until(lambda: server.connections - server.closed == 1)
        assert server.connections == 20
        await pool.close()
        await until(lambda: server.connections == server.closed)


async def test_connections_are_kept_and_recycled_after_so_many_messages() -> None:
    async with RecordingServer() as server:
        sender = Sender(server, per_connection=3)
        for n in range(6):
            await sender.send(envelope(n))
        await sender.pool.close()

    assert server.connections == 2
    assert server.commands.count("QUIT") == 2


async def test_a_kept_connection_that_the_server_closed_is_replaced_without_a_word() -> None:
    dropped: list[str] = []

    def once(phase: str, _recipient: str) -> str | None:
        if phase == "mail" and len(dropped) < 2:
            dropped.append(phase)
            return DROP if len(dropped) == 2 else None
        return None

    async with RecordingServer(once) as server:
        sender = Sender(server)
        await sender.send(envelope(1))
        results = await sender.send(envelope(2))

    assert results == [(1, True, "dot", 250), (2, True, "dot", 250)]
    assert server.connections == 2


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\r.\r\nb", b"a\0b\r\n"])
async def test_smuggled_line_ends_never_reach_the_wire(bad: bytes) -> None:
    async with RecordingServer() as server:
        results = await Sender(server).send(Envelope(1, "a@example.org", "b@example.org", bad), envelope(2))

    assert results == [(1, False, "dot", 554), (2, True, "dot", 250)]


@pytest.mark.parametrize("address", ["a@b.c\r\nRCPT TO:<x@y.z>", "a b@example.org", "<a@b.c>", ""])
async def test_an_address_that_would_inject_commands_is_refused(address: str) -> None:
    async with RecordingServer() as server:
        results = await Sender(server).send(Envelope(1, "a@example.org", address, _BODY % 1))

    assert results == [(1, False, "rcpt", 553)]
    assert server.connections == 0


async def test_a_port_where_nobody_listens_is_a_passing_trouble() -> None:
    async with RecordingServer() as server:
        sender = Sender(server)
    results = await sender.send(envelope(1))

    assert results == [(1, False, str(SmtpPhase.CONNECT), None)]
    assert "connect" in (await sender.pool.ping() or "")


async def test_a_failure_of_the_note_before_the_dot_does_not_leave_half_a_message_on_the_line() -> None:
    async with RecordingServer() as server:
        sender = Sender(server)

        async def broken(_ids: Sequence[int]) -> frozenset[int]:
            raise ConnectionRefusedError("the database is down")

        with pytest.raises(ConnectionRefusedError):
            await sender.pool.send([envelope(1)], broken, sender.on_result)
        results = await sender.send(envelope(2))

    assert results == [(2, True, "dot", 250)]
    assert [a.recipient for a in server.accepted] == ["ann2@example.org"]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_what_is_no_longer_wanted_is_left_alone(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        sender = Sender(server)
        unwanted = {1, 2, 4}

        async with asyncio.timeout(60):
            await sender.pool.send(
                [envelope(n) for n in range(5)],
                sender.before_dot,
                sender.on_result,
                lambda one: one.id not in unwanted,
            )
        await sender.pool.close()

    assert [result.id for result in sender.results] == [0, 3]
    assert [one.recipient for one in server.accepted] == ["ann0@example.org", "ann3@example.org"]
    assert sum(command.startswith("MAIL") for command in server.commands) == 2


async def test_a_message_whose_commands_went_out_is_gone_through_with() -> None:
    async with RecordingServer() as server:
        sender = Sender(server)

        async with asyncio.timeout(60):
            await sender.pool.send(
                [envelope(n) for n in range(3)],
                sender.before_dot,
                sender.on_result,
                lambda _one: not sender.results,
            )
        await sender.pool.close()

    assert [(result.id, result.accepted) for result in sender.results] == [(0, True), (1, True)]


async def test_for_what_nobody_wants_no_connection_is_opened() -> None:
    async with RecordingServer() as server:
        sender = Sender(server)
        await sender.pool.send([envelope(1)], sender.before_dot, sender.on_result, lambda _one: False)

    assert server.connections == 0
