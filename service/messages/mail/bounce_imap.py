"""Reads bounces from a mailbox on an IMAP server. Every wait on it ends.

aioimaplib leaves commands waiting when the connection is lost, and has no limit for some; so each exchange
has one here, and whatever goes wrong ends the connection. The next pass opens another.
"""

import asyncio
import re
import ssl
from asyncio import FIRST_COMPLETED
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog
from aioimaplib import IMAP4, IMAP4_SSL, AioImapException, quoted

from service import connection_errors
from service.engine.loops import first_of, gets_on
from service.messages.mail.bounce_intake import MAX_REPORT_BYTES, BounceIntake
from service.messages.mail.imap_mailbox import ImapMailbox

log = structlog.get_logger()

_BATCH = 200
_SECONDS = 30.0
_PAUSE = 60.0
_TOLD_AFTER = 900.0
_UIDS = re.compile(rb"[\d ]+")
_FETCH = f"(BODY.PEEK[]<0.{MAX_REPORT_BYTES}>)"


class ImapProblem(Exception):
    """The server cannot be reached, refuses us, or does not answer in time; in a sentence without secrets."""


class BounceImap:
    """Hands new mail to the intake, and marks it as seen, or moves it. Another process may do so as well.

    ``move_to``: a folder for what was read; empty: it stays. ``tls``: trusts a private authority.
    ``seconds``: for each exchange with the server; ``pause``: between two passes.
    """

    def __init__(
        self,
        mailbox: ImapMailbox,
        intake: BounceIntake,
        *,
        move_to: str = "",
        tls: ssl.SSLContext | None = None,
        seconds: float = _SECONDS,
        pause: float = _PAUSE,
    ) -> None:
        self._mailbox = mailbox
        self._intake = intake
        self._move_to = move_to
        self._tls = tls
        self._seconds = seconds
        self._pause = pause
        self._problem: str | None = None
        self._since = 0.0

    @property
    def problem(self) -> str | None:
        """What has kept us from reading for a quarter of an hour; None: nothing."""
        if self._problem is None or asyncio.get_running_loop().time() - self._since < _TOLD_AFTER:
            return None
        return f"bounces cannot be read (BOUNCE_IMAP_URL): {self._problem}"

    async def serve(self, stop: asyncio.Event) -> None:
        """Read until ``stop``."""
        while not stop.is_set():
            if not await self._pass():
                await first_of(self._pause, stop)

    async def _pass(self) -> int:
        """How many were read; 0 if that does not work now."""
        try:
            read = await self.read()
        except ImapProblem as problem:
            if self._problem is None:
                self._since = asyncio.get_running_loop().time()
                log.warning("bounces cannot be read", host=self._mailbox.host, problem=str(problem))
            self._problem = str(problem)
            return 0
        if self._problem is not None:
            log.info("bounces are read again", host=self._mailbox.host)
        self._problem = None
        return read

    async def read(self) -> int:
        """Process new mail, the oldest first, 200 at most; a crash may repeat one. Raises ImapProblem."""
        session = _Session(self._mailbox, self._tls, self._seconds)
        try:
            await session.open()
            uids = await session.new()
            for uid in uids:
                raw = await session.content(uid)
                if raw is not None:
                    await self._intake.process(raw)
                await session.put_away(uid, self._move_to)
                gets_on()
            await session.log_out()
            return len(uids)
        finally:
            session.hang_up()


async def check_mailbox(mailbox: ImapMailbox, tls: ssl.SSLContext, seconds: float) -> None:
    """Log in and open the folder, and change nothing. Raises ImapProblem. ``seconds``: for each exchange."""
    session = _Session(mailbox, tls, seconds)
    try:
        await session.open()
        await session.log_out()
    finally:
        session.hang_up()


class _Session:
    """One connection to the server."""

    def __init__(self, mailbox: ImapMailbox, tls: ssl.SSLContext | None, seconds: float) -> None:
        self._box = mailbox
        self._seconds = seconds
        self._lost = asyncio.get_running_loop().create_future()
        host, port = mailbox.host, mailbox.port
        self._client = (
            IMAP4_SSL(host, port, timeout=seconds, ssl_context=tls)
            if mailbox.tls
            else IMAP4(host, port, timeout=seconds)
        )
        self._client.protocol.conn_lost_cb = self._connection_lost

    def _connection_lost(self, _error: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    async def open(self) -> None:
        """Connect, log in, and open the folder."""
        await self._wait(self._client.wait_hello_from_server())
        login = self._client.login(quoted(self._box.user), self._box.password)
        await self._ask(login, "the server refuses user or password")
        await self._wait(self._client.protocol.capability())  # what it can may depend on who we are
        folder = self._box.folder
        await self._ask(self._client.select(f'"{folder}"'), f"the server opens no folder {folder}")

    async def new(self) -> list[str]:
        """The numbers of mails that nobody has read."""
        request = self._client.uid_search("UNSEEN", "UNDELETED", charset=None)
        lines = await self._ask(request, "the server cannot search")
        found = [line for line in lines if _UIDS.fullmatch(bytes(line))]
        return sorted(b" ".join(found).decode().split(), key=int)[:_BATCH]

    async def content(self, uid: str) -> bytes | None:
        """A mail, without marking it; None: it is gone, another process has moved it."""
        lines = await self._ask(self._client.uid("fetch", uid, _FETCH), "the server cannot fetch a mail")
        return next((bytes(line) for line in lines if isinstance(line, bytearray)), None)

    async def put_away(self, uid: str, folder: str) -> None:
        """Mark a mail as seen, or move it to a folder."""
        client = self._client
        if not folder:
            await self._ask(client.uid("store", uid, r"+FLAGS (\Seen)"), "the server marks no mail as seen")
            return
        refusal = f"the server moves no mail to {folder}"
        if client.has_capability("MOVE"):
            await self._ask(client.uid("move", uid, f'"{folder}"'), refusal)
            return
        await self._ask(client.uid("copy", uid, f'"{folder}"'), refusal)
        await self._ask(client.uid("store", uid, r"+FLAGS (\Seen \Deleted)"), refusal)
        if client.has_capability("UIDPLUS"):  # else somebody else's deleted mails would go as well
            await self._ask(client.uid("expunge", uid), refusal)

    async def log_out(self) -> None:
        """Say goodbye; nothing depends on the answer."""
        with suppress(ImapProblem):
            await self._wait(self._client.logout())

    def hang_up(self) -> None:
        """Close the connection, whatever is under way."""
        if self._client.protocol.transport is not None:
            self._client.protocol.transport.abort()

    async def _ask(self, request: Coroutine[Any, Any, Any], refusal: str) -> list[bytes]:
        """The lines of an answer. Raises ImapProblem, with ``refusal`` if the server says no."""
        answer = await self._wait(request)
        if answer.result != "OK":
            raise ImapProblem(refusal)
        return list(answer.lines)

    async def _wait(self, request: Coroutine[Any, Any, Any]) -> Any:
        exchange = asyncio.ensure_future(request)
        try:
            await asyncio.wait({exchange, self._lost}, timeout=self._seconds, return_when=FIRST_COMPLETED)
            if exchange.done():
                return exchange.result()
        except (AioImapException, OSError, TimeoutError, ValueError, IndexError) as error:
            why = connection_errors.reason(error, "BOUNCE_IMAP_CA_FILE") or f"fails: {type(error).__name__}"
            raise ImapProblem(f"the server {why}") from error
        finally:
            exchange.cancel()
        raise ImapProblem(f"the server {'breaks off' if self._lost.done() else 'keeps silent'}")
