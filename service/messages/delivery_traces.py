"""The trace attributes of a delivery; never an address, a name or an id of a person."""

from service.messages.delivery_state import DeliveryState
from service.messages.mail.transport import SendResult
from service.messages.outbox import ClaimedDelivery, Settlement
from service.tracing import Span, Value


def attempt_attributes(delivery: ClaimedDelivery) -> dict[str, Value]:
    """The attributes of an attempt, without its recipient."""
    return {
        "messaging.system": "outbox",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": delivery.job,
        "jobs.delivery.id": delivery.id,
        "jobs.delivery.attempt": delivery.attempt,
    }


def record_answer(span: Span, result: SendResult) -> None:
    """Record the server's answer, and end the span."""
    span.note({"jobs.smtp.phase": str(result.phase)})
    if result.code is not None:
        span.note({"jobs.smtp.code": result.code})
    span.end(None if result.accepted else str(result.code or "lost"))


def record_settlement(span: Span, settlement: Settlement) -> None:
    span.note({"jobs.delivery.state": settlement.state})
    if settlement.reason:
        span.note({"jobs.delivery.reason": settlement.reason})
    span.end("failed" if settlement.state == DeliveryState.FAILED else None)
