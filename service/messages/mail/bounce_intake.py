"""Intake of bounces, complaints and unsubscribing mails: parse one, find its delivery, record it.

A report proves nothing by itself, because anybody can write one. Only the signed envelope sender to which it
was sent (VERP) says which delivery it is about; and only who got a mail knows the address that unsubscribes.
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
from service.messages.mail.bounce_reports import BounceReport, ReportKind
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
    changed something; ``delivery`` None: it was not sent to an address of ours."""

    kind: str
    delivery: int | None
    news: bool


class BounceIntake:
    """Processes mail to the bounce ``address``; ``secret`` is the one that signs envelope senders."""

    def __init__(
        self, bounces: Suppressions, unsubscribe: UnsubscribeByMail, address: str, secret: bytes
    ) -> None:
        self._bounces = bounces
        self._unsubscribe = unsubscribe
        self._address = address
        self._secret = secret
        self.totals: Counter[str] = Counter()

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
            report = bounce_reports.parse(raw)
            result = await self._act(report, self._delivery(report, recipient), connection)
        self.totals[result.kind] += 1
        log.info("bounce", kind=result.kind, delivery=result.delivery, news=result.news)
        return result

    async def _act_on_wish(
        self, wish: unsubscribe_mail.UnsubscribeMail, connection: asyncpg.Connection | None
    ) -> IntakeResult:
        if wish.automatic:
            return IntakeResult("ignored", None, news=False)
        delivery, news = await self._unsubscribe.take(wish.token, connection)
        return IntakeResult("ignored" if delivery is None else UNSUBSCRIBE, delivery, news)

    def _delivery(self, report: BounceReport | None, recipient: str | None) -> int | None:
        addresses: Sequence[str] = (recipient,) if recipient else report.envelope_to if report else ()
        ids = (delivery_of(address, self._address, self._secret) for address in addresses)
        return next((id_ for id_ in ids if id_ is not None), None)

    async def _act(
        self, report: BounceReport | None, delivery: int | None, connection: asyncpg.Connection | None
    ) -> IntakeResult:
        if report is None or delivery is None:
            return IntakeResult("ignored", delivery, news=False)
        diagnostic = f"{report.kind}: {report.status or ''} {report.diagnostic}".strip()
        match report.kind:
            case ReportKind.HARD:
                unknown = report.no_such_address
                news = await self._bounces.record_hard_bounce(
                    delivery, diagnostic, no_such_address=unknown, connection=connection
                )
            case ReportKind.COMPLAINT:
                news = await self._bounces.record_complaint(delivery, diagnostic, connection)
            case _:
                news = await self._bounces.record_arrival(delivery, diagnostic, connection)
        return IntakeResult(str(report.kind), delivery, news)


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
