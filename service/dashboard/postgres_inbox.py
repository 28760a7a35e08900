"""The inbox of a dashboard in PostgreSQL: what its table must be, and the statement that fills it."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import asyncpg

from service.dashboard.notification import Notification, digest, stored_values
from service.dashboard.postgres_origin import quoted
from service.dashboard.profiles.shapes import NOTIFICATIONS, Table
from service.dashboard.source import IN_APP_REMEDY
from service.errors import InboxClosed

_REQUIRED = ("id", "user", "title", "message")
_ID_TYPES = {"uuid", "text", "character varying", "character"}
_REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError)


@contextmanager
def inbox_writable(inbox: Table) -> Iterator[None]:
    """Raises InboxClosed where our role may only read, or where the server is a standby."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise InboxClosed(f"{_not_writable(inbox)} ({error})") from error
    except (asyncpg.ReadOnlySQLTransactionError, asyncpg.FeatureNotSupportedError) as error:
        raise InboxClosed(
            f"the dashboard's server is read-only: let DASHBOARD_URL lead to its primary, {IN_APP_REMEDY}"
        ) from error


def inbox_columns(table: asyncpg.Record | None, inbox: Table) -> dict[str, str]:
    """The inbox's columns and their types. Raises InboxClosed naming what is wrong with the table."""
    if table is None:
        raise InboxClosed(f"the dashboard has no table {inbox.name}; create it, {IN_APP_REMEDY}")
    columns: dict[str, str] = table["columns"] or {}
    if missing := [name for name in _required(inbox) if name not in columns]:
        raise InboxClosed(
            f"the dashboard's table {inbox.name} has no column {', '.join(missing)}; add it, {IN_APP_REMEDY}"
        )
    place = f"{inbox.name}.{inbox.id}"
    if columns[inbox.id] not in _ID_TYPES:
        raise InboxClosed(
            f"{place} is {columns[inbox.id]}, which holds no id of ours: make it text or uuid,"
            f" {IN_APP_REMEDY}"
        )
    if not table["id_is_unique"]:
        raise InboxClosed(
            f"{place} is not unique, so one could be written twice: make it the primary key, {IN_APP_REMEDY}"
        )
    if not table["may_insert"]:
        raise InboxClosed(_not_writable(inbox))
    return columns


def _required(inbox: Table) -> list[str]:
    """Columns that must be there: those without which nothing can be shown, and those of a mapping file."""
    usual = NOTIFICATIONS["postgresql"].fields
    return [
        path
        for field, paths in inbox.fields.items()
        for path in paths
        if field in _REQUIRED or usual[field] != paths
    ]


def _not_writable(inbox: Table) -> str:
    name = inbox.name
    return f"the dashboard's {name} may not be written to: GRANT SELECT, INSERT ON {name}, {IN_APP_REMEDY}"


def inbox_row(notification: Notification, inbox: Table, columns: Mapping[str, str]) -> dict[str, Any]:
    key = digest(notification.key)
    id_ = str(uuid.UUID(bytes=key[:16])) if columns[inbox.id] == "uuid" else key[:12].hex()
    row = {inbox.id: id_, **stored_values(notification, inbox)}
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items() if k in columns}


def insert_statement(inbox: Table, columns: Mapping[str, str]) -> str:
    """The statement that inserts rows given as JSON, each value cast to the type of its column."""
    names = [quoted(paths[0]) for paths in inbox.fields.values() if paths[0] in columns]
    columns_sql, values_sql, table = (
        ", ".join(names),
        ", ".join(f"r.{name}" for name in names),
        quoted(inbox.name),
    )
    return (
        f"INSERT INTO {table} ({columns_sql}) SELECT {values_sql}"  # noqa: S608  quoted names
        f" FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb) AS r"
        f" ON CONFLICT ({quoted(inbox.id)}) DO NOTHING"
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
