"""Gates: what is stopped, by whom and why. While a gate is shut, what it covers waits; nothing is lost.

All processes see them in the database: a slot is not decided, a run or delivery not claimed, and no final dot
granted while a gate that covers it is shut. The statements that do so read ``service.shut_gate`` themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg

from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)


class Scope(StrEnum):
    """What a gate covers."""

    ALL = "all"
    """Every run and every message."""
    JOB = "job"
    """The runs of a job, and its messages."""
    KIND = "kind"
    """The messages of a kind."""
    DOMAIN = "domain"
    """The messages to recipients of a domain."""
    RELAY = "relay"
    """The messages that go through a mail server, named ``host:port``."""
    TABLE = "table"
    """What needs a table of the dashboard, or a field of it (``users.email``)."""
    CLOCK = "clock"
    """Whatever the time decides: slots, claims, leases, expiry."""
    SCHEMA = "schema"


class Cause(StrEnum):
    """Why a gate is shut."""

    OPERATOR = "operator"
    ABSENCE = "absence"
    FIELD = "field"
    BREAKER = "breaker"
    BASE_RATE = "base_rate"
    CLOCK = "clock"
    VERSION = "version"
    COMPLAINTS = "complaints"
    """Too many people reported mails of that kind as spam; see ``messages.complaint_rate``."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that is shut. ``name``: which job, kind, …; ``until``: it opens by itself then (None: never).

    ``probes``: how often in a row was tried whether it must stay shut; ``probe_at``: when that may be tried
    again (None: never).
    """

    id: int
    scope: Scope
    name: str
    cause: Cause
    since: datetime
    until: datetime | None
    by: str
    details: Mapping[str, Any] = field(default_factory=dict)
    probes: int = 0
    probe_at: datetime | None = None


def _gate(row: asyncpg.Record) -> Gate:
    return Gate(**{**dict(row), "scope": Scope(row["scope"]), "cause": Cause(row["cause"])})


async def current(executor: Connection | asyncpg.Pool) -> list[Gate]:
    """The gates that are shut now, the oldest first."""
    return [_gate(row) for row in await executor.fetch(_SQL["current"])]


async def shut(
    executor: Connection | asyncpg.Pool,
    scope: Scope,
    cause: Cause,
    name: str = "",
    *,
    by: str,
    details: Mapping[str, Any] | None = None,
    until: datetime | None = None,
) -> tuple[int, bool]:
    """Shut a gate; returns its id, and False if it was shut already."""
    row = await executor.fetchrow(_SQL["shut"], scope, name, cause, by, dict(details or {}), until)
    assert row
    return row["id"], row["is_new"]


async def open_gate(executor: Connection | asyncpg.Pool, id_: int, by: str) -> bool:
    """Open a gate. False: it is open, or there is none."""
    return await executor.fetchrow(_SQL["open"], id_, by) is not None


async def open_others(
    executor: Connection | asyncpg.Pool, scope: Scope, cause: Cause, names: Sequence[str], by: str
) -> None:
    """Open the gates of a scope and cause, but for these names."""
    await executor.execute(_SQL["open_others"], scope, cause, names, by)


# ── By an operator ──────────────────────────────────────────────────────────────────────────────────────────


async def shut_by_hand(
    connection: Connection,
    scope: Scope,
    name: str,
    actor: str,
    reason: str,
    until: datetime | None = None,
) -> int:
    """Shut a gate with an audit entry; returns its id."""
    id_, _ = await shut(
        connection, scope, Cause.OPERATOR, name, by=actor, details={"reason": reason}, until=until
    )
    await connection.execute(_SQL["audit"], actor, "shut-gate", id_, scope, name, reason)
    return id_


async def open_by_hand(connection: Connection, id_: int, actor: str, reason: str = "") -> bool:
    """Open a gate of any cause with an audit entry. False: it is open, or there is none."""
    row = await connection.fetchrow(_SQL["open"], id_, actor)
    if row is None:
        return False
    await connection.execute(_SQL["audit"], actor, "open-gate", id_, row["scope"], row["name"], reason)
    return True
