"""The inbox of a dashboard in MongoDB: the writes that fill it, and what its refusals mean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bson.objectid import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from service.dashboard.notification import Notification, digest, stored_values
from service.dashboard.profiles.shapes import Table
from service.dashboard.source import IN_APP_REMEDY
from service.errors import InboxClosed

_FORBIDDEN = {13, 166, 8000}  # Unauthorized, CommandNotSupportedOnView, the refusal of a hosted MongoDB
_IDS = ("user", "related_id")


@contextmanager
def inbox_writable(inbox: Table) -> Iterator[None]:
    """Raises InboxClosed where we may only read, or where the inbox is a view."""
    try:
        yield
    except OperationFailure as error:
        if error.code not in _FORBIDDEN:
            raise
        raise InboxClosed(
            f"the dashboard's {inbox.name} may not be written to (MongoDB error {error.code}):"
            f" allow find, insert and update there, {IN_APP_REMEDY}"
        ) from error


def upsert_notification(notification: Notification, inbox: Table) -> UpdateOne:
    values = stored_values(notification, inbox)
    document = {path: value for path, value in values.items() if value is not None}
    for path in (path for field in _IDS for path in inbox.fields.get(field, ())):
        if ObjectId.is_valid(document.get(path)):
            document[path] = ObjectId(document[path])
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
