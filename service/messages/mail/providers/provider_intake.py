"""Intake of what providers report: find the delivery, judge whom a failure is about, record it.

The provider proved who it is, so that a report may be tied to its delivery by less than a signed address.
"""

from collections import Counter
from collections.abc import Callable

import asyncpg
import structlog

from service.engine import queries
from service.engine.database import Connection
from service.mail_address import comparable_address
from service.messages.mail.bounce_intake import IntakeResult
from service.messages.mail.providers.provider_event import EventKind, ProviderEvent
from service.messages.mail.providers.provider_verdict import EventVerdict, verdict_of
from service.messages.suppression import Suppressions

log = structlog.get_logger()

_SQL = queries.load(__file__)


class ProviderIntake:
    """Processes events. ``delivery_of``: the delivery that an envelope sender names; None: it names none."""

    def __init__(self, bounces: Suppressions, delivery_of: Callable[[str], int | None]) -> None:
        self._bounces = bounces
        self._delivery_of = delivery_of
        self.totals: Counter[str] = Counter()

    async def process(self, event: ProviderEvent, connection: asyncpg.Connection) -> IntakeResult:
        """Process one event, in the connection's transaction; may be repeated."""
        address = comparable_address(event.recipient)
        delivery = await self._find(event, address, connection)
        if delivery is None:
            result = IntakeResult("ignored", None, news=False)
        else:
            went_to = await connection.fetchval(_SQL["address_of"], delivery)
            verdict = verdict_of(event, ours=went_to == address)
            news = await self._record(event, verdict, delivery, connection)
            about = None if verdict.about is None else str(verdict.about)
            result = IntakeResult(str(event.kind), delivery, news, about, verdict.at_once)
        self.totals[result.kind] += 1
        log.info(
            "provider_event",
            provider=event.provider,
            kind=result.kind,
            delivery=result.delivery,
            news=result.news,
        )
        return result

    async def _find(self, event: ProviderEvent, address: str, connection: Connection) -> int | None:
        if (signed := self._delivery_of(event.sender)) is not None:
            return signed
        found: int | None = None
        if event.message_ids:
            found = await connection.fetchval(_SQL["of_message"], address, list(event.message_ids))
        if found is None and event.at is not None:
            found = await connection.fetchval(_SQL["last_to"], address, event.at)
        return found

    async def _record(
        self, event: ProviderEvent, verdict: EventVerdict, delivery: int, connection: asyncpg.Connection
    ) -> bool:
        said = f"{event.provider} {event.kind}: {event.status or ''} {verdict.diagnostic}".strip()
        match event.kind:
            case EventKind.COMPLAINT:
                return await self._bounces.record_complaint(delivery, said, connection)
            case EventKind.FAILED:
                return await self._bounces.record_failure(
                    delivery, said, verdict.about, no_such_address=verdict.at_once, connection=connection
                )
        return await self._bounces.record_arrival(delivery, said, connection)
