"""Sentences that the insights of a month told once and no longer tell: when they were withdrawn, and why.

They follow from the revisions, at each reading.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from service.engine import queries

_SQL = queries.load(__file__)
Row = dict[str, Any]


async def add_withdrawn(pool: asyncpg.Pool, rows: Sequence[asyncpg.Record], page_rows: Sequence[Row]) -> None:
    """Add ``withdrawn`` to the insights of these periods."""
    earlier: dict[Any, list[Any]] = {row["period"]: [] for row in rows}
    for revision in await pool.fetch(_SQL["earlier_insights"], list(earlier)):
        earlier[revision["period"]].append(revision)
    for row, shown_row in zip(rows, page_rows, strict=True):
        shown_row["withdrawn"] = withdrawn(row["figures"], earlier[row["period"]])


def withdrawn(current: Row, earlier: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What ``earlier`` revisions (newest first) told and the ``current`` figures do not, the latest first.

    Each with rule, text, evidence, withdrawnAt (aware) and why. A sentence of which only the counts changed
    is still told.
    """
    told = {_claim(insight) for insight in current["insights"]}
    found: list[Row] = []
    successor = current
    for revision in earlier:
        figures = revision["figures"]
        for insight in figures["insights"]:
            if _claim(insight) not in told:
                told.add(_claim(insight))
                sentence = {name: insight[name] for name in ("rule", "text", "evidence")}
                why = _why(insight, figures, successor)
                found.append(sentence | {"withdrawnAt": revision["replaced_at"], "why": why})
        successor = figures
    return found


def _claim(insight: Row) -> str:
    """The sentence without its counts, which follow a colon."""
    return str(insight["text"]).partition(": ")[0]


def _why(insight: Row, before: Row, after: Row) -> str:
    if before.get("rules", 1) != after.get("rules", 1):
        return "the rules have changed, and by the present ones it is not significant"
    instead = [other["text"] for other in after["insights"] if other["rule"] == insight["rule"]]
    if instead:
        return f"late, edited or deleted data now say: {instead[0]}"
    why = "by late, edited or deleted data it is no longer significant"
    if "sessions" in before and "sessions" in after:
        why += f": {after['sessions']:,} sessions ended, {before['sessions']:,} were known before"
    return why
