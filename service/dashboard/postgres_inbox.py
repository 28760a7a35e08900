"""The inbox of a dashboard in PostgreSQL: what its table must be, and the statement that fills it."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import asyncpg

from service.dashboard.notification import Notification, digest, notification_record
from service.dashboard.postgres_origin import quoted
from service.dashboard.source import IN_APP_REMEDY, INBOX
from service.errors import InboxClosed

_REQUIRED_COLUMNS = ("id", "user_id", "title", "message")
_INBOX_COLUMNS = (
    *_REQUIRED_COLUMNS, "type", "data", "related_id", "related_model", "priority", "channels", "status",
    "action", "scheduled_for", "sent_at", "read_at", "expires_at", "created_at", "updated_at",
)  # fmt: skip
_ID_TYPES = {"uuid", "text", "character varying", "character"}
_NOT_WRITABLE = (
    f"the dashboard's {INBOX} may not be written to: GRANT SELECT, INSERT ON {INBOX}, {IN_APP_REMEDY}"
)
_REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError)


@contextmanager
def inbox_writable() -> Iterator[None]:
    """Raises InboxClosed where our role may only read, or where the server is a standby."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise InboxClosed(f"{_NOT_WRITABLE} ({error})") from error
    except (asyncpg.ReadOnlySQLTransactionError, asyncpg.FeatureNotSupportedError) as error:
        raise InboxClosed(
            f"the dashboard's server is read-only: let DASHBOARD_URL lead to its primary, {IN_APP_REMEDY}"
        ) from error


def inbox_columns(inbox: asyncpg.Record | None) -> dict[str, str]:
    """The inbox's columns and their types. Raises InboxClosed naming what is wrong with the table."""
    if inbox is None:
        raise InboxClosed(f"the dashboard has no table {INBOX}; create it, {IN_APP_REMEDY}")
    columns: dict[str, str] = inbox["columns"] or {}
    missing = [name for name in _REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise InboxClosed(
            f"the dashboard's table {INBOX} has no column {', '.join(missing)}; add it, {IN_APP_REMEDY}"
        )
    if columns["id"] not in _ID_TYPES:
        raise InboxClosed(
            f"{INBOX}.id is {columns['id']}, which holds no id of ours: make it text or uuid, {IN_APP_REMEDY}"
        )
    if not inbox["id_is_unique"]:
        raise InboxClosed(
            f"{INBOX}.id is not unique, so one could be written twice: make it the primary key,"
            f" {IN_APP_REMEDY}"
        )
    if not inbox["may_insert"]:
        raise InboxClosed(_NOT_WRITABLE)
    return columns


def inbox_row(notification: Notification, columns: Mapping[str, str]) -> dict[str, Any]:
    key = digest(notification.key)
    id_ = str(uuid.UUID(bytes=key[:16])) if columns["id"] == "uuid" else key[:12].hex()
    row = {"id": id_, **notification_record(notification)}
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items() if k in columns}


def insert_statement(columns: Mapping[str, str]) -> str:
    """The statement that inserts rows given as JSON, each value cast to the type of its column."""
    names = [quoted(name) for name in _INBOX_COLUMNS if name in columns]
    columns_sql, values_sql, table = (
        ", ".join(names),
        ", ".join(f"r.{name}" for name in names),
        quoted(INBOX),
    )
    return (
        f"INSERT INTO {table} ({columns_sql}) SELECT {values_sql}"  # noqa: S608  quoted names
        f" FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb) AS r ON CONFLICT (id) DO NOTHING"
    )


async def insert_rows(connection: Any, insertion: str, rows: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Insert all at once, or one by one if the table rejects some. Returns the error messages of these."""
    try:
        async with connection.transaction():
            await connection.execute(insertion, list(rows.values()))
    except _REFUSALS:
        refused: dict[str, str] = {}
        for key, row in rows.items():
            try:
                async with connection.transaction():
                    await connection.execute(insertion, [row])
            except _REFUSALS as error:
                refused[key] = f"{error} ({error.sqlstate})"
        return refused
    return {}
