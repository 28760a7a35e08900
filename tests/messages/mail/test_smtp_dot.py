"""Between grant and answer: what was certainly not sent, what nobody knows, and how a stop ends it."""

import asyncio
import os
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import SmtpPhase
from tests.messages.mail.mails import Mails, at, envelope, pool, send
from tests.process import until
from tests.smtp_server import DROP, HANG, RecordingServer

_LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def _run(loop: Callable[[], asyncio.AbstractEventLoop], work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(work, 90))


# ── The server hangs up ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("granted", [True, False])
async def test_a_server_that_hangs_up_before_the_dot_certainly_did_not_take_the_message(
    pipelining: bool, granted: bool
) -> None:
    async with RecordingServer(at("content", DROP), pipelining=pipelining) as server:
        mails = Mails(envelope(1), envelope(2, "bad"), envelope(3), held=[2])
        smtp = pool(server)
        smtp.start(mails)
        smtp.wake()
        await until(lambda: server.closed == 1 and len(mails.results) == 2)
        assert list(mails.out) == [2]  # nothing is said of it before the queue has decided
        if not granted:
            del mails.out[2]
        mails.requests[2](granted)

    third = [(2, False, "content", None)] if granted else []
    assert mails.ends == [(1, True, "dot", 250), (3, True, "dot", 250), *third]
    assert [a.recipient for a in server.accepted] == ["ann1@example.org", "ann3@example.org"]


def _greet(listener: socket.socket, then: Callable[[socket.socket, Any], None]) -> None:
    """A server in a thread, up to the end of the content."""
    peer, _ = listener.accept()
    with peer, peer.makefile("rwb", buffering=0) as wire:
        for answer in (b"220 ready", b"250 localhost", b"250 ok", b"250 ok", b"354 go on"):
            wire.write(answer + b"\r\n")
            wire.readline()  # the next command; after 354 the first line of the content
        while wire.readline() != b"line\r\n":
            pass
        then(peer, wire)


def _reset(peer: socket.socket, _wire: Any = None) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _close(_peer: socket.socket, _wire: Any) -> None:
    return


def _quiet_pool(listener: socket.socket) -> SmtpPool:
    return SmtpPool(SmtpConfig("127.0.0.1", listener.getsockname()[1], "none", connections=1), SystemClock())


@pytest.mark.parametrize("loop", _LOOPS)
@pytest.mark.parametrize("way", [_close, _reset])
def test_a_hang_up_that_the_event_loop_has_not_seen_yet_is_seen_at_the_dot(
    loop: Callable[[], asyncio.AbstractEventLoop], way: Callable[[socket.socket, Any], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_greet, args=(listener, way))
        server.start()
        # It blocks the event loop, which hears nothing of the end.
        mails = Mails(envelope(1), at_once=True, listen=lambda _id: server.join(60))

        async def work() -> None:
            smtp = _quiet_pool(listener)
            smtp.start(mails)
            smtp.wake()
            await until(lambda: mails.settled)

        _run(loop, work())

    assert mails.ends == [(1, False, "content", None)]


@pytest.mark.parametrize("loop", _LOOPS)
@pytest.mark.parametrize(("full", "end"), [(True, ("content", None)), (False, ("dot", None))])
def test_a_dot_that_never_left_our_buffer_was_not_sent(
    loop: Callable[[], asyncio.AbstractEventLoop], full: bool, end: tuple[str, int | None]
) -> None:
    """The server stops reading, and resets the connection when the dot has been written."""
    over = threading.Event()

    def until_over(peer: socket.socket, wire: Any) -> None:
        assert over.wait(60)
        _reset(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_greet, args=(listener, until_over))
        server.start()
        mails = Mails(envelope(1), envelope(2), held=[1])

        async def work() -> None:
            smtp = _quiet_pool(listener)
            smtp.start(mails)
            smtp.wake()
            await until(lambda: 1 in mails.requests)
            (connection,) = smtp._connections
            if full:
                _fill(connection._transport.get_extra_info("socket").fileno())
            mails.requests[1](True)
            assert connection.has_dot
            mails.waiting.clear()
            over.set()
            await until(lambda: mails.settled)

        _run(loop, work())
        server.join(60)

    assert mails.ends == [(1, False, *end)]


def _fill(descriptor: int) -> None:
    """Let the system take nothing more."""
    copy = os.dup(descriptor)
    try:
        while True:
            os.write(copy, b"x" * 65536)
    except BlockingIOError:
        os.close(copy)


# ── Pipelining, and flow control ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("good", [0, 1])
async def test_the_dot_and_the_next_commands_are_one_write_and_the_dots_end_is_no_others(good: int) -> None:
    """This server answers a dot only when the next mail's DATA is here; and after so many it hangs up."""
    answer = b"250 2.0.0 taken\r\n250 ok\r\n250 ok\r\n354 go on\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if dots:
            writer.write(b"554 not again\r\n")
            writer.close()
            return
        writer.write(b"220 ready\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250-localhost\r\n250 PIPELINING\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(answer.partition(b"\r\n")[2])
        for number in range(good + 1):
            await reader.readuntil(b"\r\n.\r\n")
            await reader.readuntil(b"DATA\r\n")
            dots.append(number)
            writer.write(answer if number < good else b"")
        writer.close()

    dots: list[int] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        config = SmtpConfig("127.0.0.1", server.sockets[0].getsockname()[1], "none", connections=1)
        smtp = SmtpPool(config, SystemClock())
        mails = Mails(*(envelope(n) for n in range(3)))
        smtp.start(mails)
        smtp.wake()
        await until(lambda: mails.settled)

    assert mails.ends == [(0, True, "dot", 250)] * good + [(good, False, "dot", None)]
    assert [one.id for one in mails.waiting] == list(range(good + 1, 3))


@pytest.mark.parametrize("extension", [b"PIPELINING", b"SIZE"])
async def test_a_server_that_wants_content_for_nobody_gets_an_empty_one(extension: bytes) -> None:
    """With PIPELINING it says 354 although it refused the recipient; then a lone dot is owed."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {
            b"EHLO": b"250-localhost\r\n250 " + extension,
            b"RCPT": b"550 5.1.1 no",
            b"DATA": b"354 go on",
            b".": b"554 5.5.1 no valid recipients",
        }
        writer.write(b"220 ready\r\n")
        while line := (await reader.readline()).strip():
            heard.append(line.split(b" ")[0])
            writer.write(answers.get(line[:4], b"250 ok") + b"\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        config = SmtpConfig("127.0.0.1", server.sockets[0].getsockname()[1], "none", connections=1)
        smtp = SmtpPool(config, SystemClock())
        mails = await send(smtp, envelope(1), envelope(2))
        await smtp.close()

    assert mails.ends == [(1, False, "rcpt", 550), (2, False, "rcpt", 550)]
    assert mails.requested == []
    once = [b"MAIL", b"RCPT"] + [b"DATA", b"."] * (extension == b"PIPELINING")
    assert heard == [b"EHLO", *once, b"RSET", *once, b"QUIT"]


async def test_a_dot_is_asked_for_when_the_system_has_taken_all_of_the_content() -> None:
    """The server does not read for a while; its buffer and ours hold less than the content."""
    async with RecordingServer(at("content", "slow 0.3")) as server:
        left: list[int] = []
        big = envelope(1, "bad", b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 500_000)

        def listen(_id: int) -> None:
            left.append(*(one._transport.get_write_buffer_size() for one in smtp._connections))

        smtp = pool(server, data_timeout=60.0)
        mails = Mails(big, listen=listen)
        smtp.start(mails)
        smtp.wake()
        await until(lambda: any(one._draining for one in smtp._connections))
        assert left == []
        await until(lambda: mails.settled)
        await smtp.close()

    assert (mails.ends, left) == ([(1, True, "dot", 250)], [0])
    assert server.accepted[0].size == len(big.content)


async def test_content_that_the_server_does_not_take_in_time_was_not_sent() -> None:
    async with RecordingServer(at("content", HANG)) as server:
        big = envelope(1, "bad", b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 1_000_000)
        mails = await send(pool(server), big)

    assert mails.ends == [(1, False, "content", None)]
    assert mails.requested == []


# ── A stop ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("phase", ["connect", "mail", "rcpt", "data"])
async def test_a_stop_gives_back_what_has_no_dot(phase: str, pipelining: bool) -> None:
    reached = asyncio.Event()

    def hang(p: str, _recipient: str) -> str | None:
        if p == phase:
            reached.set()
        return HANG if p == phase else None

    async with RecordingServer(hang, pipelining=pipelining) as server:
        mails = Mails(envelope(1), envelope(2))
        smtp = pool(server, command_timeout=60.0)
        smtp.start(mails)
        smtp.wake()
        await reached.wait()
        await smtp.stop(60.0)
        smtp.wake()

    assert (mails.given_back, mails.results, mails.refusals) == ([1], [], [])
    assert [one.id for one in mails.waiting] == [1, 2]
    assert (server.connections, smtp.connections) == (1, 0)


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_stop_gives_back_what_waits_for_its_grant_which_then_does_nothing(pipelining: bool) -> None:
    async with RecordingServer(pipelining=pipelining) as server:
        mails = Mails(envelope(1), held=[1])
        smtp = pool(server)
        smtp.start(mails)
        smtp.wake()
        await until(lambda: 1 in mails.requests)
        await smtp.stop(60.0)
        mails.requests[1](True)
        await until(lambda: server.closed == 1)

    assert (mails.given_back, mails.results, server.accepted) == ([1], [], [])


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("told", "end"), [("slow 0.3", (True, "dot", 250)), (HANG, (False, "dot", None))])
async def test_a_stop_waits_for_the_answer_to_a_dot(
    told: str, end: tuple[bool, str, int | None], pipelining: bool
) -> None:
    async with RecordingServer(at("dot", told), pipelining=pipelining) as server:
        mails = Mails(envelope(1, "bad"), envelope(2))
        smtp = pool(server, data_timeout=60.0)
        smtp.start(mails)
        smtp.wake()
        await until(lambda: "." in server.commands)
        await smtp.stop(60.0 if told != HANG else 0.1)

    assert mails.ends == [(1, *end)]
    assert [one.id for one in mails.waiting] == [2]
    assert mails.given_back == [2] * pipelining
    assert server.commands.count("QUIT") == (not pipelining and told != HANG)


async def test_after_a_stop_it_can_be_started_again() -> None:
    async with RecordingServer() as server:
        smtp = pool(server)
        await send(smtp, envelope(1))
        await smtp.stop(1.0)
        assert server.commands[-1] == "QUIT"
        mails = await send(smtp, envelope(2))

    assert mails.ends == [(2, True, "dot", 250)]


# ── Everything at once ──────────────────────────────────────────────────────────────────────────────────────

_FAULTS = {
    "connect": [DROP, "421 4.3.2 later"],
    "mail": [DROP, "421 4.7.0 too many", "451 4.3.0 later", "550 5.7.1 no"],
    "rcpt": [DROP, "421 4.7.0 too many", "450 4.2.1 later", "550 5.1.1 no", "what"],
    "data": [DROP, "421 4.7.0 too many", "451 4.3.0 later"],
    "content": [DROP],
    "dot": [DROP, "421 4.7.0 later", "451 4.3.0 later", "554 5.7.0 spam"],
    "after_dot": [DROP],
}


class Stubborn(Mails):
    """Tries again at once when no connection could be opened."""

    again: Callable[[], None]

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        super().refused(phase, code, reply)
        self.again()


@pytest.mark.parametrize("loop", _LOOPS)
@pytest.mark.parametrize("pipelining", [True, False])
def test_whatever_goes_wrong_each_mail_ends_once(
    loop: Callable[[], asyncio.AbstractEventLoop], pipelining: bool
) -> None:
    dice = random.Random(1)

    def misbehave(phase: str, _recipient: str) -> str | None:
        often = 0.2 if phase == "connect" else 0.02
        return dice.choice(_FAULTS[phase]) if phase in _FAULTS and dice.random() < often else None

    async def work() -> None:
        async with RecordingServer(misbehave, pipelining=pipelining) as server:
            everybody = [envelope(n) for n in range(1000)]
            mails = Stubborn(*everybody, denied=range(7, 1000, 40))
            smtp = pool(server, connections=5, per_connection=20, command_timeout=60.0, data_timeout=60.0)
            mails.again = smtp.wake
            smtp.start(mails)
            smtp.wake()
            await until(lambda: not mails.out and not mails.waiting)
            assert smtp.in_use == 0
            await smtp.close()
            taken = Counter(int(one.message_id.partition("@")[0]) for one in server.accepted)
        assert Counter([one.id for one in mails.results] + mails.undotted) == Counter(range(1000))
        sent = {one.id for one in mails.results if one.accepted}
        unknown = {one.id for one in mails.results if (str(one.phase), one.code) == ("dot", None)}
        assert set(taken.values()) == {1}
        assert sent <= set(taken) <= sent | unknown
        assert all((unknown, mails.given_back, mails.refusals, mails.undotted))

    _run(loop, work())
