"""Decisions about a claimed delivery: whether it is still valid, and what to record after sending. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from service.dashboard.dashboard_state import DashboardState
from service.engine.retry import delay, pause_after_refusal
from service.messages import eligibility
from service.messages.delivery_state import DeliveryState
from service.messages.kind import Channel
from service.messages.mail.smtp_reply import Fate, before_recipient
from service.messages.mail.transport import SendResult, SmtpPhase
from service.messages.outbox import ClaimedDelivery, Settlement
from service.messages.reason import Reason
from service.messages.reminder import Reminder


def reason_to_skip(delivery: ClaimedDelivery, job: Reminder, current: DashboardState) -> Reason | None:
    """Why the recipient may no longer get this, by the current state; None: they may."""
    user = current.users.get(delivery.user_id)
    if user is None:
        return Reason.REVALIDATED_AWAY
    return eligibility.contact_refusal(user, job.kind, Channel.EMAIL, delivery.history, delivery.claimed_at)


def quiet_hours_delay(delivery: ClaimedDelivery, job: Reminder, current: DashboardState) -> Settlement | None:
    """Postpones or skips a message that a retry or an outage moved into quiet hours; None: it may go."""
    user = replace(current.users[delivery.user_id], timezone=delivery.zone)
    at = eligibility.earliest_time(
        user, job.kind, delivery.history, delivery.claimed_at, delivery.expires_at, late=False
    )
    if isinstance(at, Reason):
        return Settlement(delivery.id, delivery.epoch, DeliveryState.SKIPPED, str(at))
    if at > delivery.claimed_at:
        pause = at - delivery.claimed_at
        return Settlement(
            delivery.id, delivery.epoch, DeliveryState.PLANNED, "quiet_hours", delay=pause, refund=True
        )
    return None


def valid_facts(delivery: ClaimedDelivery, job: Reminder, current: DashboardState) -> dict[str, Any] | None:
    """The facts that are still true; None when none are.

    A message that may have been sent before keeps all its facts, so that a second copy has the same bytes.
    """
    if job.revalidate is None:
        return delivery.facts
    valid = job.revalidate(delivery.facts, current)
    return delivery.facts if valid is not None and delivery.dot_at is not None else valid


def settlement_of(claimed: ClaimedDelivery, result: SendResult, fate: Fate, spread: float) -> Settlement:
    """What to record for a result. ``spread`` in [0, 1): random, so that retries do not coincide."""
    base = Settlement(
        claimed.id,
        claimed.epoch,
        DeliveryState.FAILED,
        None,
        result.code,
        result.reply,
        unwritten=result.phase is not SmtpPhase.DOT,
        dot_at=claimed.dot_at,
    )
    retry_in = delay(claimed.attempt, spread)
    match fate:
        case Fate.SENT:
            return replace(base, state=DeliveryState.SENT)
        case Fate.RETRY:
            return replace(
                base,
                state=DeliveryState.PLANNED,
                reason=f"{result.phase}_{result.code or 'lost'}",
                delay=retry_in,
            )
        case Fate.OURS:
            pause = pause_after_refusal(_age(claimed, result))
            return replace(base, state=DeliveryState.PLANNED, reason="our_fault", delay=pause, refund=True)
        case Fate.UNCONFIRMED:
            return replace(
                base,
                state=DeliveryState.UNCONFIRMED,
                reason="no answer after the dot",
                delay=timedelta(minutes=15),
            )
        case Fate.CONTENT:
            return replace(base, reason="content_refused")
    return replace(base, reason="hard_bounce")


def _age(claimed: ClaimedDelivery, result: SendResult) -> timedelta:
    """How long a message that the server refuses because of us has waited; 0 if it refuses all messages."""
    return timedelta() if before_recipient(result.phase) else claimed.claimed_at - claimed.message_date


def ids_in_facts(deliveries: Sequence[ClaimedDelivery], key: str) -> list[str]:
    return [id_ for delivery in deliveries for id_ in delivery.facts.get(key, ())]


def with_current_data(
    delivery: ClaimedDelivery, facts: dict[str, Any], current: DashboardState
) -> ClaimedDelivery:
    if delivery.dot_at is not None:
        return delivery
    user = current.users[delivery.user_id]
    return replace(delivery, facts=facts, address=user.email or delivery.address)


def changed_columns(delivery: ClaimedDelivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "epoch": delivery.epoch,
        "facts": delivery.facts,
        "address": delivery.address,
        "name": delivery.recipient_name,
    }
