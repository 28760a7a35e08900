"""What delivery decides about a claimed message: whether it still holds, and what to record of it. Pure."""

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


def refusal(one: ClaimedDelivery, job: Reminder, now: DashboardState) -> Reason | None:
    """Why the recipient may not get this any more, as the dashboard and this service stand now."""
    user = now.users.get(one.user_id)
    if user is None:
        return Reason.REVALIDATED_AWAY
    return eligibility.verdict(user, job.kind, Channel.EMAIL, one.known, one.claimed_at)


def quiet_now(one: ClaimedDelivery, job: Reminder, now: DashboardState) -> Settlement | None:
    """A message that a retry or an outage moved into somebody's quiet hours waits for their end."""
    user = replace(now.users[one.user_id], timezone=one.zone)
    at = eligibility.earliest(user, job.kind, one.known, one.claimed_at, one.expires_at, late=False)
    if isinstance(at, Reason):
        return Settlement(one.id, one.epoch, DeliveryState.SKIPPED, str(at))
    if at > one.claimed_at:
        pause = at - one.claimed_at
        return Settlement(one.id, one.epoch, DeliveryState.PLANNED, "quiet_hours", delay=pause, refund=True)
    return None


def still_true(one: ClaimedDelivery, job: Reminder, now: DashboardState) -> dict[str, Any] | None:
    """The facts that still hold; None when nothing does.

    What was on the wire before is sent whole or not at all, so that the copy is byte-identical.
    """
    if job.revalidate is None:
        return one.facts
    left = job.revalidate(one.facts, now)
    return one.facts if left is not None and one.dot_at is not None else left


def settlement_of(claimed: ClaimedDelivery, result: SendResult, what: Fate, spread: float) -> Settlement:
    """What to record for a result. ``spread`` in [0, 1) keeps retries apart."""
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
    again = delay(claimed.attempt, spread)
    match what:
        case Fate.SENT:
            return replace(base, state=DeliveryState.SENT)
        case Fate.RETRY:
            return replace(
                base,
                state=DeliveryState.PLANNED,
                reason=f"{result.phase}_{result.code or 'lost'}",
                delay=again,
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
    """How long a message that was refused for our sake has waited; none when all of them are."""
    return timedelta() if before_recipient(result.phase) else claimed.claimed_at - claimed.message_date


def mentioned(claimed: Sequence[ClaimedDelivery], what: str) -> list[str]:
    return [id_ for one in claimed for id_ in one.facts.get(what, ())]


def brought_up_to_date(one: ClaimedDelivery, facts: dict[str, Any], now: DashboardState) -> ClaimedDelivery:
    if one.dot_at is not None:
        return one
    user = now.users[one.user_id]
    return replace(one, facts=facts, address=user.email or one.address)


def change_of(one: ClaimedDelivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "epoch": one.epoch,
        "facts": one.facts,
        "address": one.address,
        "name": one.recipient_name,
    }
