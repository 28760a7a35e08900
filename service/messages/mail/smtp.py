"""The SMTP pool: connections that pull mails from a queue, closed after a number of mails or when idle.

aiosmtplib does what is difficult and rare: connect, EHLO, STARTTLS, AUTH. Then its transport gets our
protocol, ``SmtpConnection``.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from service.clock import Clock
from service.messages.mail.mail_queue import CheckedQueue, NoMail, OneMail
from service.messages.mail.smtp_connect import ConnectGate, ServerRefusal, SmtpConfig, connect
from service.messages.mail.smtp_connection import SmtpConnection
from service.messages.mail.smtp_message import failure
from service.messages.mail.transport import (
    Envelope,
    MailQueue,
    SendResult,
    SmtpPhase,
)

__all__ = ["SmtpConfig", "SmtpPool"]

_QUIT_SECONDS = 2.0


class SmtpPool:
    """Connections to one server. ``opened``: how many there have been."""

    def __init__(self, config: SmtpConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._gate = ConnectGate(clock)
        self._mails = CheckedQueue(NoMail())
        self._at_most = config.connections
        self._connections: set[SmtpConnection] = set()
        self._idle: list[SmtpConnection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._lent: dict[SmtpConnection, asyncio.Future[None]] = {}
        self._pinging = asyncio.Lock()
        self._changed = asyncio.Event()
        self.opened = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def in_use(self) -> int:
        """How many have a mail on its way."""
        return sum(not one.is_idle for one in self._connections)

    # ── The queue ───────────────────────────────────────────────────────────────────────────────────────────

    def start(self, queue: MailQueue) -> None:
        """Send what this queue holds, from the next ``wake`` on."""
        self._mails = CheckedQueue(queue)
        for connection in self._connections - self._lent.keys():
            connection.mails = self._mails

    def wake(self, at_most: int | None = None) -> None:
        """There is (again) something in the queue.

        Idle connections pull; while there is more, others are opened, ``at_most`` so many in all, until the
        next call. While the server refuses us, one at a time is opened, and none beside those that are open.
        """
        self._at_most = self._config.connections if at_most is None else at_most
        self._pull()

    def _pull(self) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle and not connection.begin_next():
                self._idle.append(connection)
                return
        self._open_more()

    def _open_more(self) -> None:
        """Open a connection for each mail that waits, and hold that mail until any connection is ready."""
        limit = min(self._config.connections, self._at_most)
        while len(self._connections) + len(self._opening) < limit:
            waits = self._opening and not self._gate.is_open
            if waits or (self._connections and self._gate.closed) or not self._mails.hold_next():
                return
            task = asyncio.ensure_future(self._open_for_queue(self._mails))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_for_queue(self, mails: CheckedQueue) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            connection = await self._gate.open(self._open)
        except Exception as error:  # noqa: BLE001 — the mails that wait for it must not be forgotten
            self._opening.discard(task)
            mails.give_back_held(but=len(self._opening))
            if not self._connections:  # a server that takes fewer of us than we would like refuses nobody
                refusal = error if isinstance(error, ServerRefusal) else _unexpected(error)
                mails.queue.refused(refusal.phase, refusal.code, refusal.reply)
            return
        self._opening.discard(task)
        connection.pull()
        self._open_more()

    async def _open(self) -> SmtpConnection:
        transport, offers = await connect(self._config)
        self.opened += 1
        connection = SmtpConnection(transport, self._mails, self, self._config, self._clock, offers)
        self._connections.add(connection)
        return connection

    # ── What connections say ────────────────────────────────────────────────────────────────────────────────

    def idle(self, connection: SmtpConnection) -> None:
        """It found nothing to send. One that was lent comes back."""
        if self._return(connection):
            connection.mails = self._mails
            connection.pull()
        else:
            self._idle.append(connection)

    def quitting(self) -> None:
        """A connection says QUIT."""
        self._changed.set()

    def ended(self, connection: SmtpConnection) -> None:
        """It is closed: another one takes its place if there is something to send."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._return(connection)
        self._changed.set()
        self._pull()  # what it gave back, and what waits for its place

    def _return(self, connection: SmtpConnection) -> bool:
        """Whether it was lent."""
        waiting = self._lent.pop(connection, None)
        if waiting and not waiting.done():
            waiting.set_result(None)
        return waiting is not None

    # ── One mail ────────────────────────────────────────────────────────────────────────────────────────────

    async def send_one(self, envelope: Envelope) -> SendResult:
        """Send one mail over an idle connection or one of its own. Its dot is always granted."""
        mail = OneMail(envelope)
        while mail.result is None:
            if self._mails.stopped:
                return failure(envelope, SmtpPhase.CONNECT, None, "sending was stopped")
            try:
                await self._lend(mail)
            except ServerRefusal as error:
                return failure(envelope, error.phase, error.code, error.reply)
        return mail.result

    async def _lend(self, queue: MailQueue) -> None:
        """Let one connection send what this queue holds, until it ends. Raises ServerRefusal."""
        mails = CheckedQueue(queue)
        if not mails.hold_next():
            return
        self._quit_outdated()
        ready = [one for one in self._idle if one.is_idle]
        try:
            connection = ready[-1] if ready else await self._gate.open(self._open)
        except BaseException:
            mails.give_back_held()
            raise
        if connection in self._idle:
            self._idle.remove(connection)
        done = self._lent[connection] = asyncio.get_running_loop().create_future()
        connection.mails = mails
        connection.pull()
        mails.give_back_held()  # it was just being closed
        try:
            await done
        except asyncio.CancelledError:
            connection.stop()
            raise

    # ── Health and the end ──────────────────────────────────────────────────────────────────────────────────

    async def ping(self, *, at_once: bool = False) -> str | None:
        """None when a connection is open or can be opened, else what is wrong.

        This keeps at most one connection open. After a refusal the server is not tried again for a while,
        unless it is to be done ``at_once``.
        """
        async with self._pinging:
            self._quit_outdated()
            if any(not one.is_quitting for one in self._connections):
                return None
            if self._gate.closed and not at_once:
                return str(self._gate.refusal)
            try:
                connection = await self._gate.open(self._open)
            except ServerRefusal as error:
                return str(error)
            connection.pull()
            return None

    def _quit_outdated(self) -> None:
        for connection in [one for one in self._idle if one.outdated]:
            self._idle.remove(connection)
            connection.quit()

    async def stop(self, seconds: float) -> None:
        """Pull nothing more. Mails without a dot are given back at once; the others end within ``seconds``.

        Then all connections are closed with QUIT, which takes two seconds more at the most.
        """
        self._mails.stopped = True
        while self._opening:  # wait_for of Python 3.11 may lose a cancellation
            for task in self._opening:
                task.cancel()
            await asyncio.wait(self._opening, timeout=0.1)
        self._mails.give_back_held()
        for connection in list(self._connections):
            connection.stop()
        await self._until_none(seconds, lambda one: one.has_dot)
        for connection in [one for one in self._connections if one.has_dot]:
            connection.abort("sending was stopped")
        await self._until_none(_QUIT_SECONDS, lambda _one: True)
        for connection in list(self._connections):
            connection.abort("sending was stopped")

    async def _until_none(self, seconds: float, is_so: Callable[[SmtpConnection], bool]) -> None:
        """Wait until this is so of no connection, for so many seconds at the most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(map(is_so, self._connections)):
                    self._changed.clear()
                    await self._changed.wait()

    async def close(self) -> None:
        """Close all connections; nothing is waited for but QUIT."""
        await self.stop(0.0)


def _unexpected(error: Exception) -> ServerRefusal:
    return ServerRefusal(SmtpPhase.CONNECT, None, f"{type(error).__name__}: {error}")
