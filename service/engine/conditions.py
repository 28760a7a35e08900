"""Conditions: what is wrong now, in one small table that health, metrics, alerts and the console read.

Each process looks every few seconds and records what it finds. A condition that is not seen any more is over:
at once when a process looks and does not find it, else when its time to live ends.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import asyncpg

from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
TIME_TO_LIVE = timedelta(seconds=45)
"""How long a condition lasts that nobody sees again."""


class ConditionSeverity(StrEnum):
    """PROBLEM: somebody has to do something; health is red. WARNING: it may be a mistake."""

    PROBLEM = "problem"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong.

    ``key``: what, e.g. ``run_without_progress``. ``subject``: of what: a job, a table, a process; empty where
    the key says it all. ``people``: about how many it concerns; None: unknown. ``details``: facts for the
    sentence, as JSON. ``since``: when it was first seen, aware; None: it has not been recorded.
    """

    key: str
    subject: str = ""
    severity: ConditionSeverity = ConditionSeverity.PROBLEM
    people: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None


async def record(
    executor: Connection | asyncpg.Pool,
    result: Sequence[Condition],
    looked_at: Collection[tuple[str, str | None]],
) -> None:
    """Record what one look found.

    ``result``: what it found. ``looked_at``: keys, each with a subject or None for all of its subjects. The
    look would have found every condition of these: one that it did not find is over.
    """
    unique = list({(c.key, c.subject): c for c in result}.values())
    await executor.execute(
        _SQL["record"],
        [c.key for c in unique],
        [c.subject for c in unique],
        [c.severity for c in unique],
        [c.people for c in unique],
        [dict(c.details) for c in unique],
        TIME_TO_LIVE,
        [key for key, _ in looked_at],
        [subject for _, subject in looked_at],
    )
    await executor.execute(_SQL["forget"])


async def current(executor: Connection | asyncpg.Pool) -> list[Condition]:
    """What is wrong now; problems first, the oldest first."""
    rows = await executor.fetch(_SQL["current"])
    return [Condition(**{**dict(row), "severity": ConditionSeverity(row["severity"])}) for row in rows]
