"""How many mails were reported as spam, by kind and recipients' domain; too many stop nudges.

A nudge asks for something that nobody waits for, and complaints about it cost every other mail its way into
the inbox. Large providers want fewer than one complaint in a thousand mails. So a gate with the cause
``complaints`` shuts on a kind of nudge where at least 0.1 % of its mails of 30 days were reported, or of all
nudges together and some of that kind, with at least 1,000 sent. It opens by itself once that is over, as
mails grow older than 30 days; or a person opens it, and from then on only mails sent since are judged.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import structlog

from service.engine import gates, queries
from service.engine.database import Connection
from service.engine.gates import Cause, Scope
from service.engine.loops import first_of

log = structlog.get_logger()

_SQL = queries.load(__file__)
WINDOW = timedelta(days=30)
"""How old a mail may be that counts."""
LEAST_SENT = 1000
"""Fewer mails than this say nothing."""
ONE_IN = 1000
"""One complaint in so many mails is too much."""
OPENED_BY = "the rate of complaints"
"""Who shuts these gates, and opens them where no person does."""
_PAUSE = timedelta(minutes=5)
_DOMAINS = 20


@dataclass(frozen=True, slots=True)
class ComplaintCount:
    """Mails that were sent, and those of them that were reported as spam."""

    sent: int = 0
    complaints: int = 0

    def __add__(self, other: "ComplaintCount") -> "ComplaintCount":
        return ComplaintCount(self.sent + other.sent, self.complaints + other.complaints)

    @property
    def rate(self) -> float:
        """Complaints by mail, 0 to 1."""
        return self.complaints / self.sent if self.sent else 0.0

    @property
    def too_high(self) -> bool:
        """At least 0.1 % of at least 1,000 mails."""
        return self.sent >= LEAST_SENT and self.complaints * ONE_IN >= self.sent


@dataclass(frozen=True, slots=True)
class ComplaintRates:
    """``counts``: by kind and recipients' domain (``other``: all the rest). ``at``: when; None: never."""

    counts: Mapping[tuple[str, str], ComplaintCount]
    at: datetime | None

    @property
    def by_kind(self) -> dict[str, ComplaintCount]:
        """The sums over all domains."""
        return _by_kind(self.counts)


def kinds_to_stop(counts: Mapping[str, ComplaintCount], nudges: Collection[str]) -> dict[str, ComplaintCount]:
    """The kinds of nudge to stop, with the counts that say so. Pure."""
    known = {kind: counts.get(kind, ComplaintCount()) for kind in nudges}
    together = sum(known.values(), ComplaintCount())
    stopped = {}
    for kind, count in known.items():
        if count.too_high:
            stopped[kind] = count
        elif together.too_high and count.complaints:
            stopped[kind] = together
    return stopped


async def counted(pool: asyncpg.Pool) -> ComplaintRates:
    """The rates as they were last counted."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        rows = await connection.fetch(_SQL["counts"])
        at = await connection.fetchval(_SQL["counted_at"])
    counts = {(row["kind"], row["domain"]): ComplaintCount(row["sent"], row["complaints"]) for row in rows}
    return ComplaintRates(counts, at)


class ComplaintWatch:
    """Counts every five minutes, in one of all processes, and shuts and opens gates. ``nudges``: by name."""

    def __init__(self, pool: asyncpg.Pool, nudges: Collection[str]) -> None:
        self._pool = pool
        self._nudges = nudges

    async def serve(self, stop: asyncio.Event) -> None:
        """Count until ``stop``."""
        while not stop.is_set():
            await self.count()
            await first_of(_PAUSE.total_seconds(), stop)

    async def count(self) -> bool:
        """Count and act on it; False: somebody did within the last minutes."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SQL["begin"], _PAUSE * 0.9) is None:
                return False
            rows = await connection.fetch(_SQL["count"], WINDOW, _DOMAINS, OPENED_BY)
            await connection.execute(_SQL["forget"])
            columns = ("kind", "domain", "sent", "complaints")
            await connection.execute(_SQL["store"], *([row[name] for row in rows] for name in columns))
            judged = {
                (row["kind"], row["domain"]): ComplaintCount(row["judged_sent"], row["judged_complaints"])
                for row in rows
            }
            await self._set_gates(connection, kinds_to_stop(_by_kind(judged), self._nudges))
        return True

    async def _set_gates(self, connection: Connection, stopped: Mapping[str, ComplaintCount]) -> None:
        for kind, count in stopped.items():
            reason = (
                f"{count.complaints} of {count.sent} mails of {WINDOW.days} days were reported as spam;"
                f" it opens by itself when fewer than 1 in {ONE_IN} were"
            )
            details = {"reason": reason, "sent": count.sent, "complaints": count.complaints}
            _, new = await gates.shut(
                connection, Scope.KIND, Cause.COMPLAINTS, kind, by=OPENED_BY, details=details
            )
            if new:
                log.warning("nudges_stopped", kind=kind, sent=count.sent, complaints=count.complaints)
        over = set(self._nudges) - stopped.keys()
        for gate in await gates.current(connection):
            if gate.cause is Cause.COMPLAINTS and gate.name in over:
                await gates.open_gate(connection, gate.id, OPENED_BY)
                log.info("nudges_go_on", kind=gate.name)


def _by_kind(counts: Mapping[tuple[str, str], ComplaintCount]) -> dict[str, ComplaintCount]:
    kinds: dict[str, ComplaintCount] = {}
    for (kind, _), count in counts.items():
        kinds[kind] = kinds.get(kind, ComplaintCount()) + count
    return kinds
