"""From claimed mails to mails with bytes: ask the dashboard, check, decide again, compose."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.engine.fault_log import FaultLog, one_line
from service.engine.job import Job
from service.errors import SchemaUnknown, SourceUnavailable
from service.messages.delivery_decisions import before_sending, changed_columns, state_query
from service.messages.delivery_state import DeliveryState
from service.messages.limits import domain_of
from service.messages.mail.transport import Envelope
from service.messages.outbox import ClaimedDelivery, Outbox, Settlement
from service.messages.reminder import Revalidated, reminders
from service.messages.replacement import Replacements
from service.tracing import Span

log = structlog.get_logger()

_DASHBOARD_PAUSE = timedelta(seconds=30)
_BUSY_PAUSE = timedelta(seconds=2)


class Outcome(Protocol):
    """What becomes of claimed mails; each gets exactly one of these calls."""

    def ready(self, delivery: ClaimedDelivery, envelope: Envelope) -> None:
        """It may be sent, with these bytes."""

    def settled(self, delivery: ClaimedDelivery, settlement: Settlement, *, stored: bool) -> None:
        """It is not sent. ``stored``: that is in the database already."""

    def released(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta) -> None:
        """These are to be claimed again after ``pause``."""

    def span(self, delivery: ClaimedDelivery) -> Span:
        """The span of its attempt."""


class DeliveryChecks:
    """Checks and composes claimed mails; see ``DeliveryLoop`` for the arguments."""

    def __init__(
        self,
        outbox: Outbox,
        compose: Callable[[ClaimedDelivery], bytes],
        current_state: Callable[[StateQuery], Awaitable[DashboardState]],
        jobs: Mapping[str, Job],
        replacements: Replacements,
        sender: Callable[[int], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._compose = compose
        self._current_state = current_state
        self._jobs = reminders(jobs)
        self._replacements = replacements
        self._sender = sender
        self._waiting = FaultLog("delivery waits for the dashboard", clock=monotonic)

    async def check(self, claimed: Sequence[ClaimedDelivery], outcome: Outcome) -> None:
        """Ask the dashboard about these once, and say of each what becomes of it.

        If it cannot be asked, all are released: nothing is sent without asking.
        """
        try:
            current = await self._current_state(state_query(claimed, self._jobs))
        except (SourceUnavailable, SchemaUnknown) as error:
            self._waiting.occurred(error)
            outcome.released(claimed, _DASHBOARD_PAUSE)
            return
        self._waiting.over()
        await self._check(claimed, current, outcome)

    async def _check(
        self, claimed: Sequence[ClaimedDelivery], current: DashboardState, outcome: Outcome
    ) -> None:
        changed: list[ClaimedDelivery] = []
        outdated: list[ClaimedDelivery] = []
        valid: list[ClaimedDelivery] = []
        follow_zones = self._replacements.clock_zone is None
        for position, delivery in enumerate(claimed):
            if position % 16 == 15:
                await asyncio.sleep(0)
            checked = before_sending(delivery, self._jobs[delivery.job], current, follow_zones=follow_zones)
            if isinstance(checked, Settlement):
                outcome.settled(delivery, checked, stored=False)
            elif isinstance(checked, Revalidated):
                outdated.append(delivery)
            else:
                if checked is not delivery:
                    changed.append(checked)
                valid.append(checked)
        await self._outbox.update_changed([changed_columns(one) for one in changed])
        await self._replace(outdated, current, outcome)
        for delivery in valid:
            if domain_of(delivery.address) != delivery.domain:
                outcome.released([delivery], timedelta(0))  # claimed again, within that domain's limits
                continue
            await asyncio.sleep(0)  # composing is slow: let other tasks run in between
            self._send(delivery, outcome)

    def _send(self, delivery: ClaimedDelivery, outcome: Outcome) -> None:
        try:
            with outcome.span(delivery).child("compose") as span:
                content = self._compose(delivery)
                span.note({"messaging.message.body.size": len(content)})
            envelope = Envelope(delivery.id, self._sender(delivery.id), delivery.address, content)
        except (ValueError, KeyError, TypeError) as error:
            log.exception("mail cannot be composed", delivery=delivery.id, job=delivery.job)
            failed, why = DeliveryState.FAILED, str(error)[:200]
            settlement = Settlement(delivery.id, delivery.claim, failed, "compose_error", None, why)
            outcome.settled(delivery, settlement, stored=False)
            return
        outcome.ready(delivery, envelope)

    async def _replace(
        self, outdated: Sequence[ClaimedDelivery], current: DashboardState, outcome: Outcome
    ) -> None:
        """Decide again about mails that do not hold any more; what cannot be decided now is released."""
        if not outdated:
            return
        pause = timedelta(0)
        reasons: dict[int, Any] = {}
        try:
            reasons = await self._replacements.replace_mails([(d.id, d.claim) for d in outdated], current)
        except asyncpg.PostgresError as error:
            log.warning("messages are decided again later", n=len(outdated), error=one_line(error))
            pause = _BUSY_PAUSE
        for delivery in outdated:
            if reason := reasons.get(delivery.id):
                ended = Settlement(delivery.id, delivery.claim, DeliveryState.SKIPPED, str(reason))
                outcome.settled(delivery, ended, stored=True)
        if left := [delivery for delivery in outdated if delivery.id not in reasons]:
            outcome.released(left, pause)
