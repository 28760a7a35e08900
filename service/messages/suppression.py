"""Applies bounces and complaints: to the state of a delivery, and to the suppression list."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from service.engine import queries
from service.engine.database import Connection, transaction_of
from service.messages.delivery_rows import unkeyed_message_id
from service.messages.kind import Channel
from service.messages.mail.reply_fingerprint import fingerprint_of_report
from service.messages.mail.smtp_reply import About
from service.messages.outbox import Outbox

_SQL = queries.load(__file__)
_COUNTED = frozenset({About.ADDRESS, About.MAILBOX})


@dataclass(frozen=True, slots=True)
class MailNamed:
    """A mail by its Message-ID. ``keyed``: nobody else could compute that."""

    id: int
    keyed: bool


class Suppressions:
    """Records reports about deliveries. Each method returns whether the report changed something.

    ``connection``: in its transaction.
    """

    def __init__(self, pool: asyncpg.Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._failures = outbox.address_failures

    async def record_failure(
        self,
        delivery: int,
        diagnostic: str,
        about: About | None,
        *,
        no_such_address: bool,
        connection: Connection | None = None,
    ) -> bool:
        """It came back for good; ``about`` says what counts against whom.

        What is said of too many of those that were written to at that time is about us; see
        ``AddressFailures``.
        """
        words = fingerprint_of_report(diagnostic)
        async with transaction_of(self._pool, connection) as own:
            if about in _COUNTED and await self._failures.about_us(words, own):
                about = About.US
            reason = "hard_bounce" if about is About.ADDRESS else f"about_{about}"
            if not await self._record("record_bounce", delivery, diagnostic, own, reason):
                return False
            if about is About.ADDRESS:
                await self._failures.note_hard_bounce(
                    delivery, words, no_such_address=no_such_address, connection=own
                )
            elif about is About.MAILBOX:
                await self._failures.note_mailbox_failure(delivery, words, own)
            if about in _COUNTED:
                await self._failures.stop_if_too_many(words, diagnostic, own)
        return True

    async def note_report(self, delivery: int, diagnostic: str, connection: Connection | None = None) -> bool:
        """A report that proves nothing: noted with the message, which stays as it is."""
        return await self._record("note_report", delivery, diagnostic, connection)

    async def address_of(self, delivery: int, connection: Connection | None = None) -> str | None:
        """To whom a mail went; None: there is none."""
        address: str | None = await (connection or self._pool).fetchval(_SQL["address_of"], delivery)
        return address

    async def mail_named(
        self, message_ids: Sequence[str], connection: Connection | None = None
    ) -> MailNamed | None:
        """The mail with one of these Message-IDs; None: there is none, or they name several."""
        if not message_ids:
            return None
        rows = await (connection or self._pool).fetch(_SQL["by_message_id"], list(message_ids))
        if len(rows) != 1:
            return None
        computable = unkeyed_message_id(rows[0]["dedupe_key"], Channel.EMAIL)
        return MailNamed(rows[0]["id"], not rows[0]["message_id"].startswith(f"{computable}@"))

    async def record_complaint(
        self, delivery: int, diagnostic: str, connection: Connection | None = None
    ) -> bool:
        """The recipient reported it as spam: the address is suppressed at once."""
        return await self._record("record_complaint", delivery, diagnostic, connection)

    async def record_arrival(
        self, delivery: int, diagnostic: str, connection: Connection | None = None
    ) -> bool:
        """Any other report: it proves that the server accepted an unconfirmed message."""
        return await self._record("record_arrival", delivery, diagnostic, connection)

    async def _record(
        self, query: str, delivery: int, diagnostic: str, connection: Connection | None, *more: str
    ) -> bool:
        executor = connection or self._pool
        await executor.execute(_SQL["adopt"], delivery)
        return await executor.fetchval(_SQL[query], delivery, diagnostic.replace("\0", ""), *more) is not None
