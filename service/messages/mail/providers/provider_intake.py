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
from service.messages.suppression_list import COMPLAINT, lift

log = structlog.get_logger()

_SQL = queries.load(__file__)
_LISTS = frozenset({EventKind.SUPPRESSED, EventKind.REACTIVATED})
BY_PROVIDER = "suppressed_by_provider"
"""The reason of a suppression that follows a provider's own list."""


class ProviderIntake:
    """Processes events. ``delivery_of``: the delivery that an envelope sender names; None: it names none."""

    def __init__(self, bounces: Suppressions, delivery_of: Callable[[str], int | None]) -> None:
        self._bounces = bounces
        self._delivery_of = delivery_of
        self.totals: Counter[str] = Counter()

    async def process(self, event: ProviderEvent, connection: asyncpg.Connection) -> IntakeResult:
        """Process one event, in the connection's transaction; may be repeated."""
        if event.kind in _LISTS:
            result = await self._follow_list(event, connection)
        else:
            result = await self._about_mail(event, connection)
        self.totals[result.kind] += 1
        log.info(
            "provider_event",
            provider=event.provider,
            kind=result.kind,
            delivery=result.delivery,
            news=result.news,
        )
        return result

    async def _follow_list(self, event: ProviderEvent, connection: asyncpg.Connection) -> IntakeResult:
        """The provider's own list of suppressions has changed; ours follows, but for complaints."""
        address, said = comparable_address(event.recipient), verdict_of(event, ours=True).diagnostic
        if event.kind is EventKind.SUPPRESSED:
            reason = COMPLAINT if event.permanent else BY_PROVIDER
            detail = f"{event.provider} sends nothing to it" + (f": {said}" if said else "")
            news = await connection.fetchval(_SQL["suppress"], address, reason, detail) is not None
            return IntakeResult(str(event.kind), None, news)
        listed = await connection.fetchval(_SQL["listed"], address)
        why = f"{event.provider} sends to it again" + (f": {said}" if said else "")
        refusal = listed is None or await lift(connection, listed, event.provider, why, own_request=False)
        return IntakeResult(str(event.kind), None, news=not refusal)

    async def _about_mail(self, event: ProviderEvent, connection: asyncpg.Connection) -> IntakeResult:
        address = comparable_address(event.recipient)
        delivery = await self._find(event, address, connection)
        if delivery is None:
            return IntakeResult("ignored", None, news=False)
        went_to = await connection.fetchval(_SQL["address_of"], delivery)
        verdict = verdict_of(event, ours=went_to == address)
        news = await self._record(event, verdict, delivery, connection)
        about = None if verdict.about is None else str(verdict.about)
        return IntakeResult(str(event.kind), delivery, news, about, verdict.at_once)

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
