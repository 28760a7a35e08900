"""The outbox: the mails that wait or are under way, how each stands, and who has it in hand."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any

import asyncpg

from service.engine import queries
from service.engine.batches import update_all
from service.engine.database import Connection
from service.engine.schema import SCHEMA
from service.mail_address import comparable_address
from service.messages.address_failures import AddressFailures
from service.messages.delivery_rows import contact_history_from_row
from service.messages.eligibility import ContactHistory
from service.messages.limits import UNLIMITED
from service.messages.relay_gate import RelayGate

_SQL = queries.load(__file__)
_LAST_CHARACTER = "\U0010ffff"
_CLAIM_TIMEOUT = 15.0
"""Seconds: who cannot claim says so soon; what has been sent may wait longer to be recorded."""
_EXPECTED = 10
"""How many elements PostgreSQL expects of an array that it does not know."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this process owns until its lease ends. ``dot_at``: it may have been sent then."""

    id: int
    dedupe_key: str
    claim: int
    attempt: int
    job: str
    run_id: int | None
    kind: str
    user_id: str
    zone: str
    template: str
    locale: str
    address: str
    recipient_name: str
    facts: dict[str, Any]
    message_id: str
    message_date: datetime
    token: str
    dot_at: datetime | None
    expires_at: datetime
    claimed_at: datetime
    domain: str
    """The recipient's, in lower case."""
    probe: bool
    """The domain asked us to wait a while ago and has taken nothing since."""
    own_zone: str | None
    """The zone that the recipient chose here; None: the dashboard's."""
    history: ContactHistory
    traceparent: str | None = None
    """The step that planned it, as W3C trace context; None: it was not traced."""


_COLUMNS = tuple(field.name for field in fields(ClaimedDelivery) if field.name != "history")


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of a claimed delivery. ``claim``: the one it belongs to.

    ``delay``: try again later; ``refund``: the attempt does not count.
    ``unwritten``: the final dot was certainly not written, so the mark is reset to ``dot_at``, that of an
    earlier attempt.
    """

    id: int
    claim: int
    state: str
    reason: str | None = None
    code: int | None = None
    reply: str | None = None
    delay: timedelta | None = None
    refund: bool = False
    unwritten: bool = False
    dot_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which messages; None: any. ``since`` and ``until``: local dates, both included.

    ``address``: how the recipient's address begins.
    """

    user: str | None = None
    job: str | None = None
    reason: str | None = None
    since: date | None = None
    until: date | None = None
    address: str | None = None
    run: int | None = None

    @property
    def values(self) -> tuple[str | date | int | None, ...]:
        """The parameters of the queries."""
        dates = (self.since, self.until)
        return (self.user, self.job, self.reason, *dates, *address_range(self.address), self.run)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What ``Outbox.record`` did.

    ``marked``: the ids that may get the dot. ``settled``: those whose results were still ours to record.
    ``reopened``: the domains that asked us to wait, and have taken mail again.
    """

    marked: frozenset[int] = frozenset()
    settled: frozenset[int] = frozenset()
    reopened: frozenset[str] = frozenset()


def address_range(prefix: str | None) -> tuple[str | None, str | None]:
    """The range of addresses with this prefix, as deliveries and suppressions name them, in byte order."""
    if prefix is None:
        return None, None
    begins = comparable_address(prefix)
    return begins, begins + _LAST_CHARACTER


class Outbox:
    """The outbox of one process. ``owner``: its unique name; ``lease``: how long a claim lasts.

    ``jobs``: the jobs whose messages it can compose, and claims; None: all. ``latest``: the latest time that
    the database's clock may plausibly show (None: unknown); see ``engine.clock_watch``. ``relay``: the mail
    server, as ``host:port``; no mail is claimed, and no dot granted, while its gate is shut.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        owner: str,
        lease: timedelta,
        jobs: Iterable[str] | None = None,
        *,
        latest: Callable[[], datetime | None] = lambda: None,
        relay: str = "",
    ) -> None:
        self._pool = pool
        self.relay_gate = RelayGate(pool, relay, owner)
        self.address_failures = AddressFailures(pool, self.relay_gate)
        self.owner = owner
        self.lease = lease
        self._jobs = None if jobs is None else list(jobs)
        self._latest = latest
        self._done: list[int] = []

    async def recover(self) -> int:
        """Release what was claimed and whose lease is over, and expire what is no longer useful.

        Returns how many were released, or will be sent a second time.

        Mails of an earlier release are adopted, a thousand at a time, once none of its processes is alive.
        Raises TimeoutError while somebody holds a lock on the deliveries, as ``claim`` does.
        """
        await self._pool.execute(_SQL["adopt"], self.lease, timeout=_CLAIM_TIMEOUT)
        latest = self._latest()
        await update_all(self._pool, _SQL["expire"], latest, seconds=_CLAIM_TIMEOUT)
        await self._pool.execute(_SQL["forget_pauses"], timeout=_CLAIM_TIMEOUT)
        await self.address_failures.forget_claims()
        tags = [
            await self._pool.execute(_SQL[name], latest, timeout=_CLAIM_TIMEOUT)
            for name in ("recover", "resend_unconfirmed")
        ]
        return sum(int(tag.rpartition(" ")[2]) for tag in tags)

    async def keep_statistics(self) -> None:
        """Let PostgreSQL know how many mails there are, once they have become many more."""
        if await self._pool.fetchval(_SQL["needs_analyze"]):
            await self._pool.execute(_SQL["analyze"])

    async def claim(
        self,
        limit: int,
        capacities: Mapping[str, int] = MappingProxyType({}),
        other_domains: int = UNLIMITED,
        *,
        probe: bool = False,
    ) -> list[ClaimedDelivery]:
        """Own up to ``limit`` mails that are due.

        ``capacities``: the most mails for each of these domains; ``other_domains``: for every other one.
        ``probe``: also while the mail server refuses us. Mails to a domain that asked us to wait are not
        claimed. Raises TimeoutError, and claims nothing, while somebody holds a lock on the deliveries.
        """
        done, self._done = self._done, []
        room = (list(capacities), list(capacities.values()), other_domains)
        own = (SCHEMA, self._jobs, self._latest(), done, self.relay_gate.relay, probe)
        args = (self.owner, self.lease, limit, *room, *own)
        rows = await self._pool.fetch(_SQL["claim"], *args, timeout=_CLAIM_TIMEOUT)
        return [_claimed(row) for row in rows]

    def done(self, claim: int) -> None:
        """Nothing of this claim is in hand any more: the next claim forgets it."""
        self._done.append(claim)

    async def renew(self, claims: Sequence[int]) -> frozenset[int]:
        """Keep these claims for another lease; returns those that were not over yet."""
        rows = await self._pool.fetch(_SQL["renew"], list(claims), self.lease, timeout=_CLAIM_TIMEOUT)
        return frozenset(row["id"] for row in rows)

    async def record(
        self, dots: Sequence[tuple[int, int]], settlements: Sequence[Settlement], *, probe: bool = False
    ) -> Recorded:
        """Record "about to write the final dot" for these (id, claim), and these results, in one statement.

        ``probe``: dots are granted also while the mail server refuses us.
        """
        s = settlements
        results: tuple[list[Any], ...] = (
            [x.id for x in s],
            [x.claim for x in s],
            [x.state for x in s],
            [x.reason for x in s],
            [x.code for x in s],
            [None if x.reply is None else x.reply.replace("\0", "")[:500] for x in s],
            [x.delay for x in s],
            [int(x.refund) for x in s],
            [x.unwritten for x in s],
            [x.dot_at for x in s],
        )
        row = await self._pool.fetchrow(
            _SQL["record"],
            _filled_up([id_ for id_, _ in dots]),
            _filled_up([claim for _, claim in dots]),
            self._latest(),
            *map(_filled_up, results),
            self.relay_gate.relay,
            probe,
        )
        assert row
        return Recorded(frozenset(row["marked"]), frozenset(row["settled"]), frozenset(row["reopened"]))

    async def mark_dots(self, dots: Sequence[tuple[int, int]]) -> frozenset[int]:
        """Record "about to write the final dot" for (id, claim); returns the ids that may get it."""
        return (await self.record(dots, ())).marked

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[int]:
        """Store results, fenced by the claim; returns the ids that were still ours."""
        return (await self.record((), settlements)).settled if settlements else frozenset()

    async def pause(self, domain: str, pauses: Sequence[timedelta], reply: str) -> datetime:
        """Pause a domain, by the next of these growing pauses unless it is paused already; returns until
        when.

        A mail that is accepted after the pause ends the sequence.
        """
        text = reply.replace("\0", "")[:200]
        until: datetime = await self._pool.fetchval(_SQL["pause_domain"], domain, list(pauses), text)
        return until

    async def end_pauses(self, domains: Collection[str]) -> None:
        """These domains are not paused any more."""
        await self._pool.execute(_SQL["end_pauses"], list(domains))

    async def release_throttled(self, domain: str) -> None:
        """Make due what waits since this domain asked us to send more slowly."""
        await update_all(self._pool, _SQL["release_throttled"], domain)

    async def paused(self) -> dict[str, datetime]:
        """The domains that are paused now, and until when."""
        return {row["domain"]: row["until"] for row in await self._pool.fetch(_SQL["paused_domains"])}

    async def ended_pauses(self, pauses: Mapping[str, datetime]) -> dict[str, bool]:
        """Those of these pauses (a domain, and until when) that are over; True: before their time."""
        rows = await self._pool.fetch(_SQL["ended_pauses"], list(pauses), list(pauses.values()))
        return {row["domain"]: row["early"] for row in rows}

    async def update_changed(self, changed: Sequence[Mapping[str, Any]]) -> None:
        """Store what revalidation changed: ``{id, claim, facts, address, name}`` each."""
        if changed:
            await self._pool.execute(_SQL["update_changed"], list(changed))

    async def release(self, claimed: Sequence[ClaimedDelivery], pause: timedelta = timedelta(0)) -> None:
        """Release deliveries that were not sent, to be claimed again after ``pause``.

        Their mark "about to write the final dot" is reset: the dot must certainly not have been written.
        """
        claims = ([c.id for c in claimed], [c.claim for c in claimed], [c.dot_at for c in claimed])
        await self._pool.execute(_SQL["release"], *claims, pause)

    async def counts(self) -> dict[str, int]:
        """Mails by state."""
        return {row["state"]: row["n"] for row in await self._pool.fetch(_SQL["counts"])}

    async def resend(self, id: int, connection: Connection | None = None) -> bool:  # noqa: A002
        """Send a message again that failed, expired or is unconfirmed. False: it is in no such state."""
        return await self._act("resend", id, connection)

    async def cancel(self, id: int, connection: Connection | None = None) -> bool:  # noqa: A002
        """Take back a message that has not left. False: it has, or there is none."""
        return await self._act("cancel", id, connection)

    async def retry(self, id: int, connection: Connection | None = None) -> bool:  # noqa: A002
        """Plan a failed mail again, within its usefulness. False: it did not fail, or it is too late."""
        return await self._act("retry", id, connection)

    async def _act(self, act: str, id: int, connection: Connection | None) -> bool:  # noqa: A002
        executor = connection or self._pool
        await executor.execute(_SQL["adopt_these"], [id])
        return await executor.fetchval(_SQL[act], id) is not None

    async def retry_failed(
        self,
        selection: DeliveryFilter,
        limit: int,
        *,
        dry_run: bool = False,
        connection: Connection | None = None,
    ) -> dict[str, int]:
        """Plan up to ``limit`` of these failed mails again, oldest first; ``dry_run`` only counts.

        Returns matched, retryable, retried, and what cannot be sent: expired, suppressed.
        """
        executor = connection or self._pool
        rows = await executor.fetch(_SQL["failed"], *selection.values)
        fates = Counter(row["fate"] for row in rows)
        retryable = [row["id"] for row in rows if row["fate"] == "retryable"][:limit]
        retried: list[Any] = []
        if retryable and not dry_run:
            await executor.execute(_SQL["adopt_these"], retryable)
            retried = await executor.fetch(_SQL["retry_these"], retryable)
        return {
            "matched": len(rows),
            "retried": len(retried),
            **{fate: fates[fate] for fate in ("retryable", "expired", "suppressed")},
        }


def _filled_up(values: list[Any]) -> list[Any]:
    """With NULLs, which match nothing, up to as many as PostgreSQL expects of an array that it does not know.

    With fewer a plan made for them looks cheaper than the general one, and is made anew each time: that took
    longer than the statement.
    """
    return values + [None] * (_EXPECTED - len(values))


def _claimed(row: asyncpg.Record) -> ClaimedDelivery:
    return ClaimedDelivery(**{name: row[name] for name in _COLUMNS}, history=contact_history_from_row(row))
