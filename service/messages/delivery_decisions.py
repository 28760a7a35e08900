"""Decisions about a claimed delivery: whether it is still valid, and what to record after sending. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from service.dashboard.dashboard_state import DashboardState, Question, StateQuery
from service.dashboard.model import User
from service.engine.retry import delay, pause_after_refusal
from service.mail_address import mail_address
from service.messages import eligibility
from service.messages.delivery_state import DeliveryState
from service.messages.kind import Channel
from service.messages.mail.smtp_reply import Fate, before_recipient, throttles
from service.messages.mail.transport import SendResult, SmtpPhase
from service.messages.outbox import ClaimedDelivery, Settlement
from service.messages.reason import Reason
from service.messages.reminder import Reminder, Revalidated
from service.zones import zone_of

ROWS_MISSING = "rows_missing"
"""A message waits: nobody knows yet whether what it is about was deleted at the dashboard."""
THROTTLED = "throttled"
"""A message waits: its recipient's domain asked us to send more slowly."""
ABOUT_MAILBOX = "about_mailbox"
"""A message waits, or failed: its recipient's mailbox is full or switched off."""
_FAILED = {
    Fate.CONTENT: "content_refused",
    Fate.NEEDS_SMTPUTF8: str(Reason.ADDRESS_NEEDS_SMTPUTF8),
}
UNCLEAR_PAUSE = timedelta(seconds=30)


def before_sending(
    delivery: ClaimedDelivery, job: Reminder, current: DashboardState, *, follow_zones: bool
) -> ClaimedDelivery | Settlement | Revalidated:
    """The message as it is to be sent, or what to record because it is not, or that it is decided again.

    It is the same object if nothing has changed. A message that may have been sent before keeps its facts, so
    that a second copy has the same bytes.
    ``follow_zones``: see ``facts_now``.
    """
    if obstacle := _obstacle(delivery, job, current):
        return obstacle
    facts = facts_now(delivery, job, current, follow_zones=follow_zones)
    if delivery.dot_at is not None:
        told_before = isinstance(facts, dict)
        return delivery if told_before else _skipped(delivery, Reason.REVALIDATED_AWAY)
    if facts is None:
        return _skipped(delivery, Reason.REVALIDATED_AWAY)
    if isinstance(facts, Revalidated):
        return facts
    address = mail_address(current.users[delivery.user_id].email) or delivery.address
    if facts == delivery.facts and address == delivery.address:
        return delivery
    return replace(delivery, facts=facts, address=address)


class PendingMessage(Protocol):
    """A message about which the dashboard is asked before it is sent or shown."""

    @property
    def user_id(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def own_zone(self) -> str | None: ...
    @property
    def facts(self) -> dict[str, Any]: ...
    @property
    def message_date(self) -> datetime: ...
    @property
    def claimed_at(self) -> datetime: ...


def state_query(messages: Sequence[PendingMessage], jobs: Mapping[str, Reminder]) -> StateQuery:
    """What to ask the dashboard about these messages."""
    recent: dict[str, datetime] = {}
    for message in messages:
        if (span := jobs[message.job].recent) is not None:
            since = message.message_date - span
            recent[message.user_id] = min(since, recent.get(message.user_id, since))
    return StateQuery(
        users=[message.user_id for message in messages],
        goals=[id_ for message in messages for id_ in message.facts.get("goal_ids", ())],
        sessions=[id_ for message in messages for id_ in message.facts.get("session_ids", ())],
        recent=recent,
        due_dates=any("goals.due" in jobs[message.job].needs for message in messages),
    )


def facts_now(
    message: PendingMessage, job: Reminder, current: DashboardState, *, follow_zones: bool
) -> dict[str, Any] | Revalidated | None:
    """The facts of a message as they are now; None: nothing is left to say; DECIDE_AGAIN: see ``Revalidate``.

    ``follow_zones``: slots are those of people's own zones, so it is decided again also where the slot is not
    that of the zone in which the recipient is now.
    """
    if follow_zones and job.kind.postponable and not same_slot(message, current.users[message.user_id]):
        return Revalidated.DECIDE_AGAIN
    if job.revalidate is None:
        return message.facts
    question = Question(message.user_id, zone_of(message.zone), message.message_date, message.claimed_at)
    return job.revalidate(message.facts, replace(current, question=question))


def same_slot(message: PendingMessage, user: User) -> bool:
    """Whether the clocks of the recipient's present zone showed the same at the slot as those of the
    message's zone. A zone that the dashboard does not know any more is no move."""
    if message.own_zone is None and not user.timezone_valid:
        return True
    slot = message.message_date
    present, former = zone_of(message.own_zone or user.timezone), zone_of(message.zone)
    return slot.astimezone(present).utcoffset() == slot.astimezone(former).utcoffset()


def _obstacle(delivery: ClaimedDelivery, job: Reminder, current: DashboardState) -> Settlement | None:
    """Why the recipient may not get this (now), by the current state; None: they may."""
    if current.is_unclear(delivery.user_id, delivery.facts):
        return Settlement(
            delivery.id, delivery.claim, DeliveryState.PLANNED, ROWS_MISSING, delay=UNCLEAR_PAUSE, refund=True
        )
    if reason := _reason_to_skip(delivery, job, current):
        return _skipped(delivery, reason)
    return _quiet_hours_delay(delivery, job, current)


def _reason_to_skip(delivery: ClaimedDelivery, job: Reminder, current: DashboardState) -> Reason | None:
    """Why the recipient may no longer get this, by the current state; None: they may."""
    user = current.users.get(delivery.user_id)
    if user is None:
        return Reason.REVALIDATED_AWAY
    return eligibility.contact_refusal(user, job.kind, Channel.EMAIL, delivery.history, delivery.claimed_at)


def _quiet_hours_delay(
    delivery: ClaimedDelivery, job: Reminder, current: DashboardState
) -> Settlement | None:
    """Postpones or skips a message that a retry or an outage moved into quiet hours; None: it may go."""
    user = current.users[delivery.user_id]
    if user.timezone != delivery.zone:
        user = replace(user, timezone=delivery.zone)
    at = eligibility.earliest_time(
        user, job.kind, delivery.history, delivery.claimed_at, delivery.expires_at, late=False
    )
    if isinstance(at, Reason):
        return _skipped(delivery, at)
    if at > delivery.claimed_at:
        pause = at - delivery.claimed_at
        return Settlement(
            delivery.id, delivery.claim, DeliveryState.PLANNED, "quiet_hours", delay=pause, refund=True
        )
    return None


def _skipped(delivery: ClaimedDelivery, reason: Reason) -> Settlement:
    return Settlement(delivery.id, delivery.claim, DeliveryState.SKIPPED, str(reason))


def settlement_of(claimed: ClaimedDelivery, result: SendResult, fate: Fate, spread: float) -> Settlement:
    """What to record for a result. ``spread`` in [0, 1): random, so that retries do not coincide."""
    base = Settlement(
        claimed.id,
        claimed.claim,
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
            reason = THROTTLED if throttles(result) else f"{result.phase}_{result.code or 'lost'}"
            return replace(base, state=DeliveryState.PLANNED, reason=reason, delay=retry_in)
        case Fate.MAILBOX:
            return replace(base, state=DeliveryState.PLANNED, reason=ABOUT_MAILBOX, delay=retry_in)
        case Fate.OURS:
            refuses_all = before_recipient(result.phase)
            pause = pause_after_refusal(
                timedelta() if refuses_all else claimed.claimed_at - claimed.message_date
            )
            reason = "relay_refused" if refuses_all else "our_fault"
            return replace(base, state=DeliveryState.PLANNED, reason=reason, delay=pause, refund=True)
        case Fate.UNCONFIRMED:
            return replace(
                base,
                state=DeliveryState.UNCONFIRMED,
                reason="no answer after the dot",
                delay=timedelta(minutes=15),
            )
    return replace(base, reason=_FAILED.get(fate, "hard_bounce"))


def changed_columns(delivery: ClaimedDelivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "claim": delivery.claim,
        "facts": delivery.facts,
        "address": delivery.address,
        "name": delivery.recipient_name,
    }
