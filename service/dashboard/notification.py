"""A notification as the dashboard's own inbox stores it: the Notification document of profile A. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.dashboard.profiles.shapes import Table
from service.text import shorten

TYPES = frozenset(
    {"goal_reminder", "goal_deadline", "goal_completed", "timer_completed", "achievement_unlocked"}
    | {"weekly_report", "system_update"}
)
PRIORITIES = frozenset({"low", "medium", "high", "urgent"})
TITLE, MESSAGE, BUTTON = 100, 500, 30
"""Maximum lengths in UTF-16 code units, which is how Mongoose counts."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification for one user. ``key``: the dedupe key, which decides its id. Times in UTC.

    ``action``: ``{type, url, buttonText}``; the url is relative to the dashboard. ``visible_from``: when it
    was due. ``sent_at``: when it is written. ``read_at``: when it was read in this service's own inbox.
    """

    key: str
    user_id: str
    type: str
    title: str
    message: str
    data: Mapping[str, Any]
    priority: str
    action: Mapping[str, Any] | None
    visible_from: datetime
    expires_at: datetime
    sent_at: datetime
    read_at: datetime | None = None


def digest(key: str) -> bytes:
    """32 bytes that depend on the dedupe key alone; ids are the first of them."""
    return hashlib.sha256(key.encode()).digest()


def notification_record(notification: Notification) -> dict[str, Any]:
    """The notification under canonical field names, without its id.

    Only the in-app channel is set, so that a dashboard that sends mails does not send this one again.
    """
    related_id, related_model = related_object(notification.data)
    return {
        "user": notification.user_id,
        "type": notification.type if notification.type in TYPES else "system_update",
        "title": truncate(notification.title, TITLE),
        "message": truncate(notification.message, MESSAGE),
        "data": dict(notification.data),
        "related_id": related_id,
        "related_model": related_model,
        "priority": notification.priority if notification.priority in PRIORITIES else "medium",
        "channels": {"inApp": True, "email": False, "push": False},
        "status": "read" if notification.read_at else "sent",
        "scheduled": notification.visible_from,
        "sent": notification.sent_at,
        "read": notification.read_at,
        "action": _action(notification.action),
        "expires": notification.expires_at,
        "created": notification.visible_from,
        "updated": notification.sent_at,
    }


def stored_values(notification: Notification, inbox: Table) -> dict[str, Any]:
    """The notification under the inbox's own field names, without its id."""
    record = notification_record(notification)
    return {paths[0]: record[field] for field, paths in inbox.fields.items() if field != "id"}


def related_object(data: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The id and model of what a notification is about, if that is a single object."""
    goals = list(data.get("goalIds") or [])
    if len(goals) == 1:
        return goals[0], "Goal"
    session = data.get("sessionId")
    return (session, "TimerSession") if session else (None, None)


def truncate(text: str, limit: int) -> str:
    """At most ``limit`` UTF-16 code units. An emoji is two of them, and is never cut in half."""
    text = shorten(text, limit)
    while len(text.encode("utf-16-le", "surrogatepass")) // 2 > limit:
        text = shorten(text, len(text) - 1)
    return text


def navigate(url: str, button: str) -> dict[str, Any]:
    """The action of a notification that opens a page of the dashboard."""
    return {"type": "navigate", "url": url, "buttonText": button}


def _action(action: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if action is None:
        return None
    return {**action, "buttonText": truncate(action.get("buttonText") or "", BUTTON)}
