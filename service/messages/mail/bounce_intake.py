"""Intake of bounces, complaints and unsubscribing mails: parse one, find its delivery, record it.

A report proves nothing by itself, because anybody can write one. The signed envelope sender (VERP), to which
it was sent or which stands in the returned mail, says which delivery it is about. A Message-ID does so as
well, but a failure that is known by nothing else is only noted, and a complaint counts if nobody could
compute the ID. Only who got a mail knows the address that unsubscribes.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from service.engine.loops import first_of
from service.messages.choices import UnsubscribeByMail
from service.messages.mail import bounce_reports, unsubscribe_mail
from service.messages.mail.bounce_report import BounceReport, RecipientReport, ReportKind
from service.messages.mail.verp import delivery_of
from service.messages.suppression import Suppressions

log = structlog.get_logger()

UNSUBSCRIBE = "unsubscribe"
"""The kind of a mail to an unsubscribe address."""
_BATCH = 200
MAX_REPORT_BYTES = 1 << 20
"""Only so much of a report is read; real ones have a few kilobytes."""


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """The result of a mail. ``kind``: of the report, ``unsubscribe``, or ``ignored``; ``news``: whether it
    changed something; ``delivery`` None: it names none of ours. ``about``: what a failure or delay is about.

    ``matched_by``: how the delivery is known: ``verp``, ``verp_in_copy``, ``message_id``, ``token`` (of
    an unsubscribe address) or ``none``.
    """

    kind: str
    delivery: int | None
    news: bool
    about: str | None = None
    at_once: bool = False
    matched_by: str = "none"


@dataclass(frozen=True, slots=True)
class _Match:
    delivery: int
    by: str
    trusted: bool


class BounceIntake:
    """Processes mail to the bounce ``address``; ``secret`` is the one that signs envelope senders."""

    def __init__(
        self, bounces: Suppressions, unsubscribe: UnsubscribeByMail, address: str, secret: bytes
    ) -> None:
        self._bounces = bounces
        self._unsubscribe = unsubscribe
        self._address = address
        self._secret = secret
        self.totals: Counter[tuple[str, str]] = Counter()
        """Reports by kind and by what they are about (empty: nothing)."""

    async def process(
        self, raw: bytes, recipient: str | None = None, connection: asyncpg.Connection | None = None
    ) -> IntakeResult:
        """Process one mail; may be repeated. ``recipient``: that of the envelope, if the mail server passes
        it on.

        ``connection``: in its transaction.
        """
        if wish := unsubscribe_mail.read(raw, self._address, recipient):
            result = await self._act_on_wish(wish, connection)
        else:
            report = await asyncio.to_thread(bounce_reports.parse, raw)
            match = await self._match(report, recipient, connection)
            result = await self._act(report, match, connection)
        self.totals[result.kind, result.about or ""] += 1
        log.info(
            "bounce",
            kind=result.kind,
            about=result.about,
            delivery=result.delivery,
            matched_by=result.matched_by,
            news=result.news,
        )
        return result

    async def _act_on_wish(
        self, wish: unsubscribe_mail.UnsubscribeMail, connection: asyncpg.Connection | None
    ) -> IntakeResult:
        if wish.automatic:
            return IntakeResult("ignored", None, news=False)
        delivery, news = await self._unsubscribe.take(wish.token, connection)
        if delivery is None:
            return IntakeResult("ignored", None, news=False)
        return IntakeResult(UNSUBSCRIBE, delivery, news, matched_by="token")

    async def _match(
        self, report: BounceReport | None, recipient: str | None, connection: asyncpg.Connection | None
    ) -> _Match | None:
        """The delivery that a report is about, by the most trustworthy of its names."""
        delivery = self._signed([recipient] if recipient else report.envelope_to if report else ())
        if delivery is not None:
            return _Match(delivery, "verp", trusted=True)
        if report is None:
            return None
        delivery = self._signed(report.copy_from)
        if delivery is not None:
            return _Match(delivery, "verp_in_copy", trusted=True)
        mail = await self._bounces.mail_named(report.message_ids, connection)
        if mail is None:
            return None
        complaint = report.worst.kind is ReportKind.COMPLAINT
        return _Match(mail.id, "message_id", trusted=complaint and mail.keyed)

    def _signed(self, addresses: Sequence[str]) -> int | None:
        ids = (delivery_of(address, self._address, self._secret) for address in addresses)
        return next((id_ for id_ in ids if id_ is not None), None)

    async def _act(
        self, report: BounceReport | None, match: _Match | None, connection: asyncpg.Connection | None
    ) -> IntakeResult:
        if report is None or match is None:
            return IntakeResult("ignored", match.delivery if match else None, news=False)
        address = await self._bounces.address_of(match.delivery, connection)
        said = report.about_recipient(address) if address else report.worst
        news = await self._record(said, match, connection)
        about = None if said.about is None else str(said.about)
        return IntakeResult(str(said.kind), match.delivery, news, about, said.at_once, match.by)

    async def _record(
        self, said: RecipientReport, match: _Match, connection: asyncpg.Connection | None
    ) -> bool:
        delivery = match.delivery
        diagnostic = f"{said.kind}: {said.status or ''} {said.diagnostic}".strip()
        if not match.trusted:
            return await self._bounces.note_report(delivery, diagnostic, connection)
        match said.kind:
            case ReportKind.COMPLAINT:
                return await self._bounces.record_complaint(delivery, diagnostic, connection)
            case ReportKind.FAILED:
                return await self._bounces.record_failure(
                    delivery, diagnostic, said.about, no_such_address=said.at_once, connection=connection
                )
        return await self._bounces.record_arrival(delivery, diagnostic, connection)


class BounceMaildir:
    """Reads the Maildir that receives mail to the bounce address."""

    def __init__(self, folder: Path, intake: BounceIntake, *, pause: float = 60.0) -> None:
        self._folder = folder
        self._intake = intake
        self._pause = pause

    async def read(self) -> int:
        """Process new mails, oldest first, and move them to ``cur``; a crash may repeat one."""
        names = await asyncio.to_thread(_new_files, self._folder)
        for name in names:
            raw = await asyncio.to_thread(_read_head, self._folder / "new" / name)
            await self._intake.process(raw)
            await asyncio.to_thread(_mark_read, self._folder, name)
        return len(names)

    async def serve(self, stop: asyncio.Event) -> None:
        """Read until ``stop``."""
        while not stop.is_set():
            if await self.read():
                continue
            await first_of(self._pause, stop)


def _new_files(folder: Path) -> list[str]:
    files = sorted((path.stat().st_mtime, path.name) for path in (folder / "new").iterdir() if path.is_file())
    return [name for _, name in files[:_BATCH]]


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_REPORT_BYTES)


def _mark_read(folder: Path, name: str) -> None:
    (folder / "cur").mkdir(exist_ok=True)
    os.replace(folder / "new" / name, folder / "cur" / f"{name}:2,S")
