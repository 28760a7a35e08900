"""What the PostgreSQL source reads: a table, a view, or a SELECT of the mapping file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from service.dashboard.profiles.shapes import Table
from service.dashboard.source import require_kind
from service.engine import queries
from service.errors import SchemaUnknown

_SQL = queries.load(__file__)
_SOME_TIME = "'infinity'"


def quoted(name: str) -> str:
    """A name for SQL; it may begin with a schema."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def origin(table: Table) -> str:
    """What stands after FROM, without its alias. Raises SchemaUnknown for a pipeline."""
    query = require_kind(table, "postgresql")
    # on lines of its own, because a SELECT may end with a comment
    return f"(\n{query.text}\n)" if query else quoted(table.name)


async def column_types(connection: Any, table: Table) -> dict[str, str]:
    """The columns and their types; empty: there is no such table."""
    if table.query is None:
        return {
            row["name"]: row["type"] for row in await connection.fetch(_SQL["columns"], quoted(table.name))
        }
    async with connection.transaction():
        statement = await connection.prepare(f"SELECT * FROM {origin(table)} t LIMIT 0")  # noqa: S608
        attributes = statement.get_attributes()
        types = await connection.fetch(_SQL["type_names"], [attribute.type.oid for attribute in attributes])
    names = [attribute.name for attribute in attributes]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise SchemaUnknown(f"{table.name} has several columns {', '.join(doubled)}: name them apart with AS")
    return {name: row["type"] for name, row in zip(names, types, strict=True)}


async def scans(connection: Any, table: Table) -> bool:
    """Whether reading changes cannot use an index."""
    condition = f"{quoted(table.updated or '')} >= {_SOME_TIME}::timestamptz"
    async with connection.transaction():
        await connection.execute(_SQL["without_sequential_scans"])
        plan = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {origin(table)} t WHERE {condition}"  # noqa: S608
        )
    return not any(_SOME_TIME in condition for condition in _index_conditions(plan))


def _index_conditions(plan: Any) -> Iterator[str]:
    if isinstance(plan, str):
        plan = json.loads(plan)
    for node in plan if isinstance(plan, list) else [plan.get("Plan"), *plan.get("Plans", ())]:
        if node:
            yield node.get("Index Cond", "")
            yield from _index_conditions(node)


@contextmanager
def accepted(table: Table) -> Iterator[None]:
    """Raises SchemaUnknown where PostgreSQL refuses a SELECT, or cannot finish it for what rows hold."""
    try:
        yield
    except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as error:
        if table.query is None:
            raise
        raise SchemaUnknown(f"{table.name} cannot be read: {error}") from None
