"""Reads bounces from a mailbox on an IMAP server. Every wait on it ends.

aioimaplib leaves commands waiting when the connection is lost, and has no limit for some; so each exchange
has one here, and whatever goes wrong ends the connection. The next pass opens another.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aioimaplib import IMAP4, IMAP4_SSL, AioImapException, quoted

from service.engine.loops import first_of, gets_on
from service.messages.mail.bounce_intake import MAX_REPORT_BYTES, BounceIntake
from service.messages.mail.imap_mailbox import ImapMailbox

log = structlog.get_logger()

_BATCH = 200
_SECONDS = 30.0
_GOODBYE = 5.0
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
        async with self._session() as client:
            uids = await self._new(client)
            for uid in uids:
                raw = await self._content(client, uid)
                if raw is not None:
                    await self._intake.process(raw)
                await self._put_away(client, uid)
                gets_on()
            return len(uids)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[IMAP4]:
        box = self._mailbox
        client = (
            IMAP4_SSL(box.host, box.port, timeout=self._seconds, ssl_context=self._tls)
            if box.tls
            else IMAP4(box.host, box.port, timeout=self._seconds)
        )
        try:
            async with self._bounded("does not answer"):
                await client.wait_hello_from_server()
            async with self._bounded("does not answer the log-in"):
                answer = await client.login(quoted(box.user), box.password)
                if answer.result != "OK":
                    raise ImapProblem("the server refuses user or password")
                await client.protocol.capability()  # what it can may depend on who we are
            await self._ask(client.select(f'"{box.folder}"'), f"there is no folder {box.folder}")
            yield client
            with suppress(ImapProblem, TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await self._ask(client.logout(), "")
        finally:
            _hang_up(client)

    @asynccontextmanager
    async def _bounded(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise ImapProblem(f"the server {what}") from None
        except (AioImapException, OSError, ValueError, IndexError) as error:
            raise ImapProblem(f"the server cannot be read: {type(error).__name__}") from error

    async def _ask(self, request: Any, refusal: str) -> list[bytes]:
        """The lines of an answer. Raises ImapProblem, with ``refusal`` if the server says no."""
        async with self._bounded("keeps silent"):
            answer = await request
        if answer.result != "OK":
            raise ImapProblem(refusal)
        return list(answer.lines)

    async def _new(self, client: IMAP4) -> list[str]:
        request = client.uid_search("UNSEEN", "UNDELETED", charset=None)
        lines = await self._ask(request, "the server cannot search")
        found = [line for line in lines if _UIDS.fullmatch(bytes(line))]
        return sorted(b" ".join(found).decode().split(), key=int)[:_BATCH]

    async def _content(self, client: IMAP4, uid: str) -> bytes | None:
        """A mail, without marking it; None: it is gone, another process has moved it."""
        lines = await self._ask(client.uid("fetch", uid, _FETCH), "the server cannot fetch a mail")
        return next((bytes(line) for line in lines if isinstance(line, bytearray)), None)

    async def _put_away(self, client: IMAP4, uid: str) -> None:
        if not self._move_to:
            await self._ask(client.uid("store", uid, r"+FLAGS (\Seen)"), "the server marks no mail as seen")
            return
        refusal, folder = f"the server moves no mail to {self._move_to}", f'"{self._move_to}"'
        if client.has_capability("MOVE"):
            await self._ask(client.uid("move", uid, folder), refusal)
            return
        await self._ask(client.uid("copy", uid, folder), refusal)
        await self._ask(client.uid("store", uid, r"+FLAGS (\Seen \Deleted)"), refusal)
        if client.has_capability("UIDPLUS"):  # else somebody else's deleted mails would go as well
            await self._ask(client.uid("expunge", uid), refusal)


def _hang_up(client: IMAP4) -> None:
    if client.protocol.transport is not None:
        client.protocol.transport.abort()
