"""Stores who was looked at and got nothing, and why, in few bytes: there are many of them.

A reason with its sentence is stored once (``service.refusal_cause``), and has a number. A sentence about one
person alone stays in their own row, so that it goes when they are erased. Rows lie in a table for each month
of their local dates; whoever needs one that is missing makes it. ``service.refusal_in_words`` reads them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import asyncpg

from service.engine import queries

_SQL = queries.load(__file__)
_LONGEST_SHARED = 200
"""Characters of a sentence that is stored once; PostgreSQL indexes no long texts."""

_OBJECT_ID = re.compile("[0-9a-f]{24}")
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Cause = tuple[str, str]
"""A reason, and a sentence that several people share, or none."""


@dataclass(frozen=True, slots=True)
class RefusedPerson:
    """Why a user gets nothing on a local date."""

    user_id: str
    local_date: date
    reason: str
    detail: str


async def record(
    connection: asyncpg.Connection, run_id: int | None, job: str, refusals: Sequence[RefusedPerson]
) -> None:
    """Store why users got nothing; in the transaction in which the run's cursor passes them."""
    if not refusals:
        return
    causes = causes_of(refusals)
    numbers = await _numbers(connection, job, set(causes))
    dates = {refusal.local_date for refusal in refusals}
    await connection.execute(_SQL["make_months"], min(dates), max(dates))
    for day in sorted(dates):
        rows = [
            (packed_id(refusal.user_id), numbers[cause], own_detail(refusal, cause))
            for refusal, cause in zip(refusals, causes, strict=True)
            if refusal.local_date == day
        ]
        people, of, details = map(list, zip(*rows, strict=True))
        own = details if any(details) else None
        await connection.execute(_SQL["record"], run_id, day, people, of, own)


async def _numbers(connection: asyncpg.Connection, job: str, causes: set[Cause]) -> dict[Cause, int]:
    """The number of each cause; those that are new get one."""
    numbers = await _known(connection, job, causes)
    if missing := causes - numbers.keys():
        await connection.execute(_SQL["add_causes"], job, *_columns(missing))
        numbers |= await _known(connection, job, missing)
    return numbers


async def _known(connection: asyncpg.Connection, job: str, causes: Iterable[Cause]) -> dict[Cause, int]:
    rows = await connection.fetch(_SQL["causes"], job, *_columns(causes))
    return {(row["reason"], row["detail"]): row["number"] for row in rows}


def _columns(causes: Iterable[Cause]) -> tuple[list[str], list[str]]:
    pairs = list(causes)
    return [reason for reason, _ in pairs], [detail for _, detail in pairs]


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def packed_id(user_id: str) -> bytes:
    """The id in few bytes; ``service.unpacked_id`` of the database makes the id of it again."""
    if _OBJECT_ID.fullmatch(user_id):
        return b"\x01" + bytes.fromhex(user_id)
    if _UUID.fullmatch(user_id):
        return b"\x02" + bytes.fromhex(user_id.replace("-", ""))
    return b"\x00" + user_id.encode()


def causes_of(refusals: Sequence[RefusedPerson]) -> list[Cause]:
    """The cause of each: with its sentence if another one has the same, without it otherwise."""
    times = Counter((refusal.reason, refusal.detail) for refusal in refusals)
    shared = {cause for cause, n in times.items() if n > 1 and len(cause[1]) <= _LONGEST_SHARED}
    return [(one.reason, one.detail if (one.reason, one.detail) in shared else "") for one in refusals]


def own_detail(refusal: RefusedPerson, cause: Cause) -> str | None:
    """The sentence that is stored with the person; None: the cause says it."""
    return None if refusal.detail == cause[1] else refusal.detail
