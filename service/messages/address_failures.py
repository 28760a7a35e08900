"""What counts against addresses: hard bounces, and mails that full mailboxes refused; and what is taken back.

It is said on the wire, or in a report that comes later. Reports in the same words about too many of those
that were written to at one time are about us, like replies (``relay.too_many``): the relay's gate is shut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from service.engine import queries
from service.engine.database import Connection, transaction_of
from service.messages.relay import RelayRefusal, too_many
from service.messages.relay_gate import RelayGate

_SQL = queries.load(__file__)
_LATELY = timedelta(hours=24)
"""What was said longer ago is taken back by a person only."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """How many addresses are written to again, and the mails whose failures count no more."""

    addresses: int
    deliveries: Sequence[int]


async def take_back(
    executor: Connection | asyncpg.Pool,
    words: str,
    deliveries: Sequence[int] = (),
    *,
    within: timedelta | None,
) -> TakenBack:
    """What was said in these words was about us, not about the recipients.

    Nothing of it counts against an address any more; mails that it let fail, those of ``deliveries`` as
    well, are planned again while they are useful. ``within``: only what was said so lately; None: all.
    """
    row = await executor.fetchrow(_SQL["take_back"], words, list(deliveries), within)
    assert row
    return TakenBack(row["lifted"], row["deliveries"])


class AddressFailures:
    """``words``: the fingerprint of a reply, by which it can be taken back. ``connection``: in its
    transaction.
    """

    def __init__(self, pool: asyncpg.Pool, relay_gate: RelayGate) -> None:
        self._pool = pool
        self._relay_gate = relay_gate

    async def note_hard_bounce(
        self,
        delivery: int,
        words: str | None = None,
        *,
        no_such_address: bool,
        connection: Connection | None = None,
    ) -> None:
        """The address refuses mail: suppressed after three in 30 days, or at once if it does not exist."""
        await self._note("note_hard_bounce", connection, delivery, no_such_address, words)

    async def note_mailbox_failure(
        self, delivery: int, words: str | None = None, connection: Connection | None = None
    ) -> None:
        """The mailbox is full or switched off: with the third mail in 14 days the address rests."""
        await self._note("note_mailbox_failure", connection, delivery, words)

    async def _note(self, query: str, connection: Connection | None, delivery: int, *values: object) -> None:
        """While nobody else notes something about this mailbox, so that each counts what was noted before."""
        async with transaction_of(self._pool, connection) as own:
            await own.execute(_SQL["lock_address"], delivery)
            await own.execute(_SQL[query], delivery, *values)

    async def forget_mailbox_failure(self, delivery: int) -> None:
        """The mailbox took this mail after all."""
        await self._pool.execute(_SQL["forget_mailbox_failure"], delivery)

    async def take_back(
        self, words: str, deliveries: Sequence[int] = (), connection: Connection | None = None
    ) -> None:
        """What was said in these words within a day was about us, not about the recipients."""
        await take_back(connection or self._pool, words, deliveries, within=_LATELY)

    async def stop_if_too_many(self, words: str, reply: str, connection: Connection) -> None:
        """Stop all mail if too many came back in these words, unless a person said that it is not us."""
        row = await connection.fetchrow(_SQL["share"], words)
        assert row
        same, recipients = row["same"], row["recipients"]
        if not too_many(same, recipients) or await self._relay_gate.overruled(words, connection):
            return
        reason = (
            f"of the last {recipients} recipients {same} were reported as undeliverable in the same words, so"
            f" this is about us: {' '.join(reply.split())[:200]}"
        )
        await take_back(connection, words, within=_LATELY)
        await self._relay_gate.shut_by_reports(RelayRefusal(reason, words=words, reported=True), connection)

    async def about_us(self, words: str, connection: Connection) -> bool:
        """Whether mail is stopped because of these words."""
        return await self._relay_gate.shut_for(words, connection)

    async def forget_claims(self) -> None:
        """Forget which mails left together more than a day ago."""
        await self._pool.execute(_SQL["forget_claims"])
