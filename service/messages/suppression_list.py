"""The suppression list as operators see it: which addresses, why, since when, by which reports; and lifting.

A complaint is lifted only where the person asked for it. After that the address begins anew: what failed
before counts no more, and a report that was processed before changes nothing when it comes again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import asyncpg

from service.engine import queries
from service.engine.database import Connection
from service.mail_address import comparable_address
from service.messages.address_failures import TakenBack, take_back
from service.messages.outbox import address_range
from service.zones import iso

_SQL = queries.load(__file__)
_MAX_EVIDENCE = 50
COMPLAINT = "complaint"
"""The reason of a suppression that only the person may have lifted."""


@dataclass(frozen=True, slots=True)
class SuppressionFilter:
    """Which suppressions; None: any. ``address``: how it begins; ``since`` and ``until``: dates in UTC, both
    included."""

    address: str | None = None
    reason: str | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class SuppressedAddress:
    """An address that is not written to. ``address`` None: its person was erased, only a keyed hash is left.

    ``reason``: hard_bounce, complaint, mailbox_rest, …; ``detail``: the same in words. ``until``: when that
    is over; None: never.
    """

    id: int
    address: str | None
    reason: str
    detail: str
    created_at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class SuppressionEvidence:
    """A reply or report about a mail to the address. ``counted``: it counts against the address or mailbox.

    ``kept``: whether the mail itself is still stored; without it only ``delivery`` and ``at`` are known.
    """

    delivery: int
    job: str | None
    kind: str | None
    user_id: str | None
    state: str | None
    at: datetime | None
    smtp_code: int | None
    smtp_reply: str | None
    counted: bool
    kept: bool


class LiftRefusal(StrEnum):
    """Why a suppression cannot be lifted."""

    UNKNOWN = "There is no such suppression; it may have been lifted"
    COMPLAINT = (
        "The person reported a mail as spam: that is lifted only where the person asked for mail again"
        " (personAsked)"
    )


async def listed(
    executor: Connection | asyncpg.Pool, which: SuppressionFilter, *, before: int | None, limit: int
) -> list[SuppressedAddress]:
    """Suppressions, newest first. ``before``: only lower ids."""
    begins = comparable_address(which.address) if which.address else None
    rows = await executor.fetch(
        _SQL["page"],
        *address_range(begins),
        begins,
        which.reason,
        which.since,
        which.until,
        before,
        limit,
    )
    return [SuppressedAddress(**dict(row)) for row in rows]


async def find(executor: Connection | asyncpg.Pool, id_: int) -> SuppressedAddress | None:
    """One suppression; None: there is none of this id."""
    row = await executor.fetchrow(_SQL["one"], id_)
    return SuppressedAddress(**dict(row)) if row else None


async def evidence(executor: Connection | asyncpg.Pool, address: str) -> list[SuppressionEvidence]:
    """The replies and reports about an address, newest first, 50 at most."""
    rows = await executor.fetch(_SQL["evidence"], comparable_address(address), _MAX_EVIDENCE)
    return [SuppressionEvidence(**dict(row)) for row in rows]


async def accounts(executor: Connection | asyncpg.Pool, address: str) -> Sequence[str]:
    """The ids of the accounts with an address."""
    return [row["id"] for row in await executor.fetch(_SQL["accounts"], comparable_address(address))]


async def lift(
    connection: Connection, id_: int, actor: str, reason: str, *, own_request: bool, same_words: bool = False
) -> LiftRefusal | None:
    """Write to an address again, with an audit entry; None: done. In the connection's transaction.

    ``own_request``: the person asked for mail again. ``same_words``: the server said the same of others, and
    it was about us: all of them are written to again, but for those who complained, and what failed so is
    planned again while it is useful.
    """
    locks = [await connection.fetchrow(_SQL[name], id_) for name in ("lock", "lock_rest", "lock_key")]
    row = next(filter(None, locks), None)
    if row is None:
        return LiftRefusal.UNKNOWN
    if row["reason"] == COMPLAINT and not own_request:
        return LiftRefusal.COMPLAINT
    words = row["fingerprint"] if same_words else None
    same = await take_back(connection, words, within=None) if words else TakenBack(0, ())
    own = [bounce["delivery_id"] for bounce in await connection.fetch(_SQL["lift"], id_)]
    details = {
        "suppression": id_,
        "address": row["address"],
        "reason": reason,
        "personAsked": own_request,
        "suppressedFor": row["reason"],
        "since": iso(row["created_at"]),
        "sameWords": same_words,
        "lifted": max(1, same.addresses),
        "bounces": sorted({*own, *same.deliveries}),
    }
    await connection.execute(_SQL["audit"], actor, details)
    return None
