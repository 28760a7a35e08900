"""The inbox of a dashboard in MongoDB: the writes that fill it, and what its refusals mean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson.objectid import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from service.dashboard.notification import Notification, digest, notification_record
from service.dashboard.source import IN_APP_REMEDY, INBOX
from service.errors import InboxClosed

_FORBIDDEN = {13, 166, 8000}  # Unauthorized, CommandNotSupportedOnView, the refusal of a hosted MongoDB


@contextmanager
def inbox_writable() -> Iterator[None]:
    """Raises InboxClosed where we may only read, or where the inbox is a view."""
    try:
        yield
    except OperationFailure as error:
        if error.code not in _FORBIDDEN:
            raise
        raise InboxClosed(
            f"the dashboard's {INBOX} may not be written to (MongoDB error {error.code}):"
            f" allow find, insert and update there, {IN_APP_REMEDY}"
        ) from error


def upsert_notification(notification: Notification) -> UpdateOne:
    document = {
        _camel(name): value for name, value in notification_record(notification).items() if value is not None
    }
    for name in ("userId", "relatedId"):
        if ObjectId.is_valid(document.get(name)):
            document[name] = ObjectId(document[name])
    return UpdateOne(
        {"_id": ObjectId(digest(notification.key)[:12])}, {"$setOnInsert": document}, upsert=True
    )


def refused_messages(notifications: Sequence[Notification], error: BulkWriteError) -> dict[str, str]:
    """The messages for documents that the dashboard's validation rejects, by key; duplicates do not count."""
    details: Mapping[str, Any] = error.details
    if details.get("writeConcernErrors"):  # some may be lost: write all of them again
        raise error
    write_errors = [
        write_error
        for write_error in details["writeErrors"]
        if "_id" not in write_error.get("keyPattern", {})
    ]
    if forbidden := next(
        (write_error for write_error in write_errors if write_error["code"] in _FORBIDDEN), None
    ):
        raise OperationFailure(forbidden["errmsg"], forbidden["code"])
    return {
        notifications[write_error["index"]].key: f"{write_error['errmsg']} ({write_error['code']})"
        for write_error in write_errors
    }


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)
