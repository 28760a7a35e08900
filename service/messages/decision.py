"""What a job may decide: a message, or a reason for sending none. Pure values; the planner stores them."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from service.messages.kind import Channel, MessageKind
from service.messages.reason import Reason


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one user about one period, on one or more channels.

    ``dedupe_key``: unique per channel; job, user, period (``goalDeadlines:{user}:{date}``).
    ``stages``: further unique keys consumed together with it, each with the channels' message
    (``goalDeadlines:{goal}:{due}:{stage}``).
    ``facts``: the JSON values that templates show, without words of any language; stored in the outbox.
    ``goal_ids`` and ``session_ids`` in them are revalidated before sending.
    ``expires_at``: the instant (UTC) from which it is useless and will not be sent.
    ``in_app``: priority, data and url of the in-app notification, and ``facts`` for its template.
    ``in_app_life``: how long it is worth showing.
    """

    user_id: str
    kind: MessageKind
    dedupe_key: str
    zone: str
    local_date: date
    facts: dict[str, Any]
    expires_at: datetime
    stages: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = (Channel.EMAIL, Channel.IN_APP)
    in_app: dict[str, Any] = field(default_factory=dict)
    in_app_life: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Skip:
    """Why this user gets nothing now. ``detail``: one sentence for operators."""

    user_id: str
    reason: Reason
    detail: str = ""


Decision = Message | Skip
