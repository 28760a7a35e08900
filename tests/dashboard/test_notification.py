"""Notes fit into the dashboard's document, whatever they are about."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dashboard.notification import Notification, digest, notification_record, related_object, truncate

_AT = datetime(2026, 3, 10, 8, tzinfo=UTC)


def note(**changes: Any) -> Notification:
    values: dict[str, Any] = {
        "key": "goalDeadlines:ann:2026-03-10", "user_id": "ann", "type": "goal_deadline",
        "title": "Due tomorrow", "message": "Read", "data": {}, "priority": "high",
        "action": {"type": "navigate", "url": "/goals", "buttonText": "Open goals"},
        "visible_from": _AT, "sent_at": _AT + timedelta(minutes=1), "expires_at": _AT + timedelta(days=30),
    }  # fmt: skip
    return Notification(**{**values, **changes})


def test_a_record_has_every_field_of_the_dashboards_document() -> None:
    assert notification_record(note(data={"goalIds": ["g1"]})) == {
        "user": "ann", "type": "goal_deadline", "title": "Due tomorrow", "message": "Read",
        "data": {"goalIds": ["g1"]}, "related_id": "g1", "related_model": "Goal", "priority": "high",
        "channels": {"inApp": True, "email": False, "push": False}, "status": "sent",
        "scheduled": _AT, "sent": _AT + timedelta(minutes=1), "read": None,
        "action": {"type": "navigate", "url": "/goals", "buttonText": "Open goals"},
        "expires": _AT + timedelta(days=30), "created": _AT, "updated": _AT + timedelta(minutes=1),
    }  # fmt: skip


def test_what_was_read_here_is_read_there_and_unknown_words_become_known_ones() -> None:
    told = notification_record(note(read_at=_AT, type="gossip", priority="panic", action=None))
    assert (told["status"], told["read"]) == ("read", _AT)
    assert (told["type"], told["priority"], told["action"]) == ("system_update", "medium", None)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"goalIds": ["g1"]}, ("g1", "Goal")),
        ({"goalIds": ["g1", "g2"]}, (None, None)),
        ({"sessionId": "s1"}, ("s1", "TimerSession")),
        ({"streak": 3}, (None, None)),
    ],
)
def test_a_note_is_related_to_one_thing_or_to_none(data: dict[str, Any], found: tuple[str, str]) -> None:
    assert related_object(data) == found


@given(st.text(max_size=300), st.integers(1, 120))
def test_a_text_fits_as_the_dashboard_counts(text: str, limit: int) -> None:
    fitted = truncate(text, limit)
    assert len(fitted.encode("utf-16-le", "surrogatepass")) // 2 <= limit
    assert len(text.encode("utf-16-le", "surrogatepass")) // 2 > limit or fitted == text


def test_an_emoji_counts_twice_and_is_not_cut_in_half() -> None:
    assert truncate("🎯" * 100, 100) == "🎯" * 49 + "…"


def test_ids_never_change() -> None:
    assert digest("goalDeadlines:ann:2026-03-10")[:12].hex() == "eb0bfb0678db9c8ac7089b4a"
