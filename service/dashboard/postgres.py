"""A dashboard in PostgreSQL. Names come from a profile, and are quoted.

Transactions are read-only, except those that write notifications and that remove or restore archived rows.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import asyncpg
import structlog

from service.dashboard.notification import Notification
from service.dashboard.postgres_inbox import (
    inbox_columns,
    inbox_row,
    inbox_writable,
    insert_rows,
    insert_statement,
)
from service.dashboard.postgres_origin import accepted, column_types, origin, scans
from service.dashboard.postgres_origin import quoted as _quoted
from service.dashboard.profiles.shapes import DIGEST, NOTIFICATIONS, Document, Table
from service.dashboard.profiles.values import identity, instant
from service.dashboard.source import (
    LONGEST_COMMAND,
    ChangeStream,
    DigestPage,
    SourceDocument,
    SourcePage,
    read_only_obstacle,
    require_writable,
)
from service.engine import postgres_errors, postgres_url, queries
from service.engine.database_errors import FAILURES
from service.engine.postgres_errors import Server
from service.engine.postgres_url import Pooler
from service.engine.session import BoundedConnection
from service.errors import ChangeStreamUnavailable, CleanupRefused, SchemaUnknown, SourceUnavailable

log = structlog.get_logger()
_SQL = queries.load(__file__)


@contextmanager
def _reachable() -> Iterator[None]:
    """A missing table or column is a wrong schema; any other error means that it cannot be reached."""
    try:
        yield
    except (
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedColumnError,
        asyncpg.UndefinedFunctionError,
    ) as error:
        raise SchemaUnknown(f"the dashboard's tables changed: {error}") from error
    except FAILURES as error:
        raise SourceUnavailable(postgres_errors.describe(error, Server("DASHBOARD"))) from error


_SESSION = {"timezone": "UTC", "default_transaction_read_only": "on", "application_name": "dashboard-jobs"}
_ROW_ALIAS = '"the row"'
"""An alias that is not the name of a column."""
_BODY_ALIAS = "the row as text"


class PostgresSource:
    """Reads one PostgreSQL database; only ``notify``, ``remove`` and ``insert`` write.

    ``timeout``: seconds until it counts as unreachable; ``longest``: until a statement without an answer is
    given up. ``pooler`` and ``ca_file``: see ``postgres_url``.
    """

    kind = "postgresql"

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        longest: float = LONGEST_COMMAND,
        connections: int = 3,
        pooler: Pooler = "auto",
        ca_file: Path | None = None,
    ) -> None:
        self._url = url
        self._target = postgres_url.read(url, pooler, ca_file)
        self._timeout = timeout
        self._longest = longest
        self._connections = connections
        self._pool: asyncpg.Pool | None = None
        self._column_types: dict[str, dict[str, str]] = {}

    async def _open(self) -> asyncpg.Pool:
        if self._pool is None:
            for warning in self._target.warnings:
                log.warning("DASHBOARD_URL", warning=warning)
            self._pool = await asyncpg.create_pool(
                self._target.url,
                min_size=0,
                max_size=min(self._connections, self._target.connections or self._connections),
                timeout=self._timeout,
                command_timeout=self._longest,
                connect=self._connect,
                connection_class=BoundedConnection,
                init=_begin,
                **self._target.pool_options(_SESSION),
            )
        return self._pool

    async def _connect(self, *arguments: Any, **values: Any) -> asyncpg.Connection:
        """A connection for the pool. Raises SourceUnavailable, which says where and why it failed."""
        try:
            return await asyncpg.connect(*arguments, **values)
        except FAILURES as error:
            server = Server("DASHBOARD", self._url)
            raise SourceUnavailable(postgres_errors.describe(error, server)) from error

    async def ping(self) -> None:
        """Raises SourceUnavailable when the database does not answer."""
        with _reachable():
            await (await self._open()).fetchval("SELECT 1")

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def table_names(self) -> frozenset[str]:
        """The names of all visible tables and views."""
        self._column_types = {}
        with _reachable():
            rows = await (await self._open()).fetch(_SQL["tables"])
        return frozenset(row["name"] for row in rows)

    async def exists(self, table: Table) -> bool:
        """Whether there is such a table or view; the name may begin with a schema.

        Raises SchemaUnknown for an unusable SELECT.
        """
        return bool(await self._columns(table))

    async def count(self, table: Table) -> int:
        """How many rows of a table we see."""
        return int((await self._rows(table, "count(*) AS n", ""))[0]["n"])

    async def hides_rows(self, table: Table) -> bool:
        """Whether row level security of a table may hide rows from us; False for a SELECT, which may join."""
        if table.query:
            return False
        with _reachable():
            return bool(await (await self._open()).fetchval(_SQL["hides_rows"], _quoted(table.name)))

    async def sample(self, table: Table, limit: int) -> list[Document]:
        """The newest complete rows of a table by its id; none when there is no such table."""
        columns = await self._columns(table)
        if not columns:
            return []
        candidates = (*table.fields.get("id", ()), "id", *columns)
        order = next(name for name in candidates if name in columns)
        return await self._rows(table, "t.*", f"ORDER BY t.{_quoted(order)} DESC LIMIT $1", limit)

    async def newest_update(self, table: Table) -> datetime | None:
        """The newest update time; None when no row has one."""
        if not await self._has(table, table.updated):
            return None
        column = _quoted(table.updated or "")
        tail = f"WHERE {column} IS NOT NULL ORDER BY {column} DESC LIMIT 1"
        rows = await self._rows(table, f"{column} AS at", tail)
        return instant(rows[0]["at"]) if rows else None

    async def page(self, table: Table, after: str, limit: int) -> SourcePage:
        """Rows in id order after a position."""
        columns = await self._columns(table)
        if not columns:
            return SourcePage([], after)
        key = _quoted(table.id)
        select = await self._select(table)
        where = f"{key} > $2::text::{columns[table.id]}" if after else f"{key} IS NOT NULL"
        tail = f"WHERE {where} ORDER BY {key} LIMIT $1"
        rows = await self._rows(table, select, tail, limit, *([after] if after else []))
        return SourcePage(rows, str(rows[-1][table.id]) if rows else after)

    async def digests(
        self, table: Table, after: str, limit: int, since: datetime | None = None
    ) -> DigestPage:
        """Ids and digests in id order after a position. ``since``: of rows that started then or later."""
        columns = await self._columns(table)
        if not columns:
            return DigestPage([], after)
        key = _quoted(table.id)
        arguments: list[Any] = [limit]
        conditions = [f"{key} IS NOT NULL"]
        if after:
            arguments.append(after)
            conditions.append(f"{key} > $2::text::{columns.get(table.id, 'text')}")
        started = next((path for path in table.fields.get("started", ()) if path in columns), None)
        if since and started:
            arguments.append(since)
            conditions.append(f"{_quoted(started)} >= ${len(arguments)}::timestamptz")
        select = f"{key} AS id, {await self._digest(table)} AS digest"
        tail = f"WHERE {' AND '.join(conditions)} ORDER BY {key} LIMIT $1"
        rows = await self._records(table, select, tail, *arguments)
        digests = [(id_, row["digest"]) for row in rows if (id_ := identity(row["id"]))]
        return DigestPage(digests, str(rows[-1]["id"]) if rows else after)

    async def changes(
        self, table: Table, since: datetime, limit: int
    ) -> AsyncGenerator[list[Document], None]:
        """Batches of rows that were updated at or after ``since``, oldest first."""
        if not await self._has(table, table.updated):
            return
        columns = await self._columns(table)
        updated, key = _quoted(table.updated or ""), _quoted(table.id)
        first = f"{updated} >= $2::timestamptz"
        later = f"({updated}, {key}) > ($2::timestamptz, $3::text::{columns[table.id]})"
        position: list[Any] = [since]
        while True:
            condition = later if len(position) == 2 else first
            tail = f"WHERE {condition} ORDER BY {updated}, {key} LIMIT $1"
            rows = await self._rows(table, await self._select(table), tail, limit, *position)
            if rows:
                yield rows
            last = instant(rows[-1][table.updated or ""]) if rows else None
            if len(rows) < limit or last is None:
                return
            position = [last, str(rows[-1][table.id])]

    async def watch(self, _tables: Sequence[Table], _token: str | None) -> ChangeStream:
        """Raises ChangeStreamUnavailable: it takes rights and settings that we do not ask for."""
        raise ChangeStreamUnavailable("PostgreSQL has none")

    async def lacks_index(self, table: Table) -> bool:
        """Whether reading changes has to scan the whole table, for lack of an index."""
        if not await self._has(table, table.updated):
            return True
        with _reachable(), accepted(table):
            async with (await self._open()).acquire() as connection:
                return await scans(connection, table)

    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]:
        """The rows with these ids as they are now."""
        if not await self._columns(table):
            return []
        select, tail = await self._select(table), await self._by_id(table)
        return await self._rows(table, select, tail, *await self._keys(table, ids))

    async def fetch_recent(self, table: Table, user_ids: Sequence[str], since: datetime) -> list[Document]:
        """The sessions of these users that started at or after ``since``, as they are now."""
        columns = await self._columns(table)
        if not columns:
            return []
        column, *path = table.fields["user"][0].split(".")
        if path:
            condition = f"{_quoted(column)}::jsonb #>> $2::text[] = ANY ($1::text[])"
            arguments: list[Any] = [list(user_ids), path]
        else:
            condition = f"{_quoted(column)} = ANY ($1::text[]::{columns.get(column, 'text')}[])"
            arguments = [_possible_ids(columns.get(column, "text"), user_ids)]
        if started := next((path for path in table.fields.get("started", ()) if path in columns), None):
            arguments.append(since)
            condition += f" AND {_quoted(started)} >= ${len(arguments)}::timestamptz"
        return await self._rows(table, await self._select(table), f"WHERE {condition}", *arguments)

    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]:
        """Which of these ids still exist."""
        if not await self._columns(table):
            return frozenset()
        column = f"{_quoted(table.id)} AS id"
        rows = await self._rows(table, column, await self._by_id(table), *await self._keys(table, ids))
        return frozenset(key for row in rows if (key := identity(row["id"])))

    async def notify(
        self, notifications: Sequence[Notification], inbox: Table | None = None
    ) -> dict[str, str]:
        """Insert notifications by their id, leaving existing ones unchanged; see ``Source.notify``."""
        inbox = inbox or NOTIFICATIONS[self.kind]
        with _reachable(), inbox_writable(inbox):
            async with (await self._open()).acquire() as connection:
                found = await connection.fetchrow(_SQL["inbox"], _quoted(inbox.name), inbox.id)
                columns = inbox_columns(found, inbox)
                rows = {note.key: inbox_row(note, inbox, columns) for note in notifications}
                if not rows:
                    return {}
                async with connection.transaction():
                    await connection.execute("SET TRANSACTION READ WRITE; SET CONSTRAINTS ALL IMMEDIATE")
                    return await insert_rows(connection, insert_statement(inbox, columns), rows)

    # ── Archiving ───────────────────────────────────────────────────────────────────────────────────────────

    async def removal_obstacle(self, table: Table) -> str | None:
        """Why rows must not be removed: this would affect rows of other tables. None: they may be."""
        if obstacle := read_only_obstacle(table):
            return obstacle
        with _reachable():
            pool = await self._open()
            if await pool.fetchval(_SQL["is_view"], _quoted(table.name)):
                return f"{table.name} is a view: other tables may refer to the rows behind it"
            rows = await pool.fetch(_SQL["referring_tables"], _quoted(table.name))
        if not rows:
            return None
        others = ", ".join(row["name"] for row in rows)
        return f"other tables refer to {table.name} ({others}); their rows would not be archived with it"

    async def originals(self, table: Table, ids: Sequence[str]) -> list[SourceDocument]:
        """The rows with these ids, and their text (JSON); None where it would not restore the same row."""
        require_writable(table)
        if not await self._columns(table):
            return []
        name, body = _quoted(table.name), f"to_jsonb({_ROW_ALIAS})"
        again = f"jsonb_populate_record(NULL::{name}, {body})::text IS NOT DISTINCT FROM {_ROW_ALIAS}::text"
        select = (
            f"{await self._select(table)}, CASE WHEN {again} THEN {body}::text END AS {_quoted(_BODY_ALIAS)}"
        )
        tail, keys = await self._by_id(table), await self._keys(table, ids)
        rows = [dict(row) for row in await self._rows(table, select, tail, *keys, alias=_ROW_ALIAS)]
        return [SourceDocument(row, row.pop(_BODY_ALIAS)) for row in rows]

    async def remove(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]:
        """Remove these rows (id → text) if they are unchanged; returns the ids that were not removed."""
        require_writable(table)
        name, key = _quoted(table.name), _quoted(table.id)
        kind = (await self._columns(table))[table.id]
        async with self._write_transaction() as connection:
            await connection.execute(
                f"DELETE FROM {name} AS {_ROW_ALIAS}"  # noqa: S608
                f" USING unnest($1::text[]::{kind}[], $2::text[]) AS archived (id, body)"
                f" WHERE {_ROW_ALIAS}.{key} = archived.id AND to_jsonb({_ROW_ALIAS}) = archived.body::jsonb",
                list(bodies), list(bodies.values()),
            )  # fmt: skip
        return await self.existing(table, list(bodies))

    async def insert(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]:
        """Restore rows without overwriting any; returns the ids that exist afterwards.

        A row that the dashboard refuses (its user was deleted) does not prevent the others.
        """
        require_writable(table)
        with _reachable():
            writable = await (await self._open()).fetch(_SQL["writable_columns"], _quoted(table.name))
        columns = ", ".join(_quoted(row["name"]) for row in writable)
        sql = (
            f"INSERT INTO {_quoted(table.name)} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns}"  # noqa: S608
            f" FROM jsonb_populate_recordset(NULL::{_quoted(table.name)}, $1::text::jsonb)"
            " ON CONFLICT DO NOTHING"
        )
        async with self._write_transaction() as connection:
            if not await _try_insert(connection, sql, bodies.values()):
                for body in bodies.values():
                    await _try_insert(connection, sql, [body])
        return await self.existing(table, list(bodies))

    @asynccontextmanager
    async def _write_transaction(self) -> AsyncIterator[asyncpg.Connection]:
        with _reachable():
            pool = await self._open()
            try:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("SET TRANSACTION READ WRITE")
                    yield cast("asyncpg.Connection", connection)
            except asyncpg.InsufficientPrivilegeError as error:
                raise CleanupRefused(f"the dashboard does not let us write: {error}; grant it") from None

    async def _by_id(self, table: Table) -> str:
        kind = (await self._columns(table))[table.id]
        return f"WHERE {_quoted(table.id)} = ANY ($1::text[]::{kind}[])"

    async def _keys(self, table: Table, ids: Sequence[str]) -> tuple[list[str]]:
        return (_possible_ids((await self._columns(table)).get(table.id, "text"), ids),)

    async def _columns(self, table: Table) -> dict[str, str]:
        known = self._column_types  # another task may forget all of it meanwhile
        if table.name not in known:
            with _reachable(), accepted(table):
                async with (await self._open()).acquire() as connection:
                    known[table.name] = await column_types(connection, table)
        return known[table.name]

    async def _has(self, table: Table, column: str | None) -> bool:
        return column is not None and column in await self._columns(table)

    async def _select(self, table: Table) -> str:
        """Select only columns that are mapped and that exist, and their digest."""
        columns = ", ".join(await self._mapped_columns(table))
        return f"{columns}, {await self._digest(table)} AS {_quoted(DIGEST)}"

    async def _digest(self, table: Table) -> str:
        """The digest of a row, computed by the dashboard's server; times are written in UTC."""
        return f"hashtextextended(ROW({', '.join(await self._mapped_columns(table))})::text, 0)"

    async def _mapped_columns(self, table: Table) -> list[str]:
        columns = await self._columns(table)
        mapped = {path.split(".")[0] for paths in table.fields.values() for path in paths}
        if table.id not in columns:
            raise SchemaUnknown(f"{table.name} has no column {table.id}")
        return [_quoted(column) for column in columns if column in mapped]

    async def _rows(
        self, table: Table, select: str, tail: str, *arguments: Any, alias: str = "t"
    ) -> list[Document]:
        return [dict(row) for row in await self._records(table, select, tail, *arguments, alias=alias)]

    async def _records(
        self, table: Table, select: str, tail: str, *arguments: Any, alias: str = "t"
    ) -> Sequence[asyncpg.Record | Document]:
        sql = f"SELECT {select} FROM {origin(table)} {alias} {tail}"  # noqa: S608  quoted names
        with _reachable(), accepted(table):
            pool = await self._open()
            try:
                return await pool.fetch(sql, *arguments)
            except (ValueError, OverflowError):
                # A date that Python cannot represent (44 BC) becomes text here, and is counted as malformed.
                rows = await pool.fetch(f"SELECT to_jsonb(x) AS x FROM ({sql}) x", *arguments)  # noqa: S608
                return [row["x"] for row in rows]


def _possible_ids(column_type: str, ids: Sequence[str]) -> list[str]:
    """The ids that the type of a column allows; others cannot exist."""
    if column_type in {"integer", "bigint", "smallint"}:
        return [key for key in ids if key.lstrip("-").isdecimal()]
    if column_type == "uuid":
        return [key for key in ids if len(key) == 36]
    return list(ids)


async def _try_insert(connection: asyncpg.Connection, sql: str, bodies: Iterable[str]) -> bool:
    """Insert rows; returns whether they were accepted. As text, so that numbers keep all their digits."""
    try:
        async with connection.transaction():
            await connection.execute(sql, f"[{','.join(bodies)}]")
    except asyncpg.IntegrityConstraintViolationError:
        return False
    return True


async def _begin(connection: asyncpg.Connection) -> None:
    cast("BoundedConnection", connection).enable_keepalive()
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
