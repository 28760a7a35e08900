"""A dashboard in MongoDB. The only module that knows motor and bson."""

import asyncio
import hashlib
import warnings
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import bson
import structlog
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidId
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import DeleteOne, WriteConcern
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from service.dashboard import mongo_changes, mongo_errors
from service.dashboard.mongo_inbox import inbox_writable, refused_messages, upsert_notification
from service.dashboard.mongo_origin import (
    CODEC,
    accepted,
    after_id,
    id_of,
    key_of,
    open_cursor,
    require_ids,
    scans,
    split,
)
from service.dashboard.notification import Notification
from service.dashboard.profiles.shapes import DIGEST, NOTIFICATIONS, Document, Table
from service.dashboard.profiles.values import identity, instant
from service.dashboard.source import (
    IN_APP_REMEDY,
    LONGEST_COMMAND,
    DigestPage,
    SourceDocument,
    SourcePage,
    read_only_obstacle,
    require_writable,
)
from service.errors import (
    CleanupRefused,
    ConfigurationError,
    InboxClosed,
    SchemaUnknown,
    SourceUnavailable,
)
from service.url import describe_error, parameters

log = structlog.get_logger()

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
# Nothing may be lost between BSON and text: dates stay numbers, numbers keep their type.
_EXACT: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_EXACT_JSON = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS, tz_aware=False
)
_DUPLICATE = 11000
_UNAUTHORISED = 13
_BY_ID = [("_id", 1)]
_DURABLE = WriteConcern("majority", wtimeout=10_000)  # acknowledged writes survive a failover
_REFUSALS = (PyMongoError, ValueError, TypeError, OSError)
"""What the driver raises for an invalid URL, or for the files that it names."""


@contextmanager
def _reachable() -> Iterator[None]:
    """Any error of the driver means: cannot be reached. Malformed data is handled elsewhere."""
    try:
        yield
    except (PyMongoError, BSONError, OSError) as error:
        raise SourceUnavailable(mongo_errors.describe(error)) from error


@contextmanager
def _permitted() -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        if error.code != _UNAUTHORISED:
            raise
        raise CleanupRefused("the dashboard's MongoDB does not let us write; grant readWrite") from None


def check_url(url: str) -> None:
    """Raises ConfigurationError for a MongoDB URL that the driver rejects. Uses no network, not even DNS."""
    if not url.startswith("mongodb://"):
        return
    with warnings.catch_warnings(action="ignore"):
        try:
            parse_uri(url, warn=True)  # warnings do not prevent the start
        except _REFUSALS as error:
            raise _refusal(error, url) from None


def _refusal(error: Exception, url: str) -> ConfigurationError:
    return ConfigurationError([f"DASHBOARD_URL: the MongoDB driver refuses it: {describe_error(error, url)}"])


@contextmanager
def _hide_url_values(url: str) -> Iterator[None]:
    """The driver's warnings quote values of the URL; log only the names of their parameters instead."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        yield
    messages = " ".join(str(warning.message).lower() for warning in caught)
    if names := [name for name, _ in parameters(url) if name.lower() in messages]:
        log.warning("the driver cannot use some parameters of DASHBOARD_URL", parameters=names)


class MongoSource:
    """Reads one MongoDB database; only ``notify``, ``remove`` and ``insert`` write.

    ``timeout``: seconds until it counts as unreachable; ``longest``: until a command without an answer is
    given up, where the URL has no socketTimeoutMS. ``ca_file``: the authority of its certificate.
    """

    kind = "mongodb"

    def __init__(
        self,
        url: str,
        *,
        database: str = "",
        timeout: float = 5.0,
        longest: float = LONGEST_COMMAND,
        ca_file: Path | None = None,
    ) -> None:
        self._url = url
        self._name = database
        self._timeout = timeout
        self._more: dict[str, Any] = {"tls": True, "tlsCAFile": str(ca_file)} if ca_file else {}
        if "sockettimeoutms" not in {name.lower() for name, _ in parameters(url)}:
            self._more["socketTimeoutMS"] = int(longest * 1000)
        self._client: Any = None
        self._views: frozenset[str] | None = None

    @property
    def _database(self) -> Any:
        if self._client is None:  # here, because motor binds itself to the running loop
            milliseconds = int(self._timeout * 1000)
            try:
                with _hide_url_values(self._url):
                    self._client = AsyncIOMotorClient(
                        self._url,
                        serverSelectionTimeoutMS=milliseconds,
                        connectTimeoutMS=milliseconds,
                        appname="dashboard-jobs",
                        **self._more,
                    )
            except _REFUSALS as error:
                raise _refusal(error, self._url) from None
        if self._name:
            return self._client.get_database(self._name, codec_options=CODEC)
        return self._client.get_default_database(default="dashboard").with_options(codec_options=CODEC)

    async def _read(self, table: Table, cursor: Any, limit: int | None = None) -> list[Any]:
        """The next documents of a cursor; None: all of them."""
        with _reachable(), accepted(table):
            documents = list(await cursor.to_list(limit))
        require_ids(table, documents)
        return documents

    async def _read_undecoded(self, table: Table, cursor: Any) -> list[bytes]:
        """All documents of a cursor over undecoded batches."""
        with _reachable(), accepted(table):
            return [document async for batch in cursor for document in split(table, batch)]

    async def ping(self) -> None:
        """Raises SourceUnavailable when the database does not answer."""
        with _reachable():
            await self._database.command("ping")

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def table_names(self) -> frozenset[str]:
        """The names of all collections."""
        with _reachable():
            collections = await self._database.list_collections(nameOnly=True)
            types = {entry["name"]: entry.get("type") for entry in await collections.to_list(None)}
        self._views = frozenset(name for name, type_ in types.items() if type_ == "view")
        return frozenset(name for name in types if not name.startswith("system."))

    async def _is_view(self, name: str) -> bool:
        if self._views is None:
            await self.table_names()
        return name in (self._views or ())

    async def exists(self, table: Table) -> bool:
        """Whether there is such a collection, or view. Raises SchemaUnknown for an unusable pipeline."""
        if table.query:
            await self.sample(table, 1)
        return table.stored_as in await self.table_names()

    async def count(self, table: Table) -> int:
        """How many documents a collection (the one behind a pipeline) has, about."""
        with _reachable():
            return int(await self._database[table.stored_as].estimated_document_count())

    async def hides_rows(self, _table: Table) -> bool:
        """Whether the server may hide documents from us: MongoDB does not."""
        return False

    async def sample(self, table: Table, limit: int) -> list[Document]:
        """The newest documents of a collection, whole."""
        return await self._read(
            table, open_cursor(self._database, table, {}, sort=[("_id", -1)], limit=limit), limit
        )

    async def newest_update(self, table: Table) -> datetime | None:
        """The newest update time; None when no document has one."""
        if table.updated is None:
            return None
        order = [(table.updated, -1)]
        cursor = open_cursor(
            self._database, table, {table.updated: {"$type": "date"}}, {table.updated: 1}, sort=order, limit=1
        )
        documents = await self._read(table, cursor, 1)
        return instant(_value_at(documents[0], table.updated)) if documents else None

    async def page(self, table: Table, after: str, limit: int) -> SourcePage:
        """Documents in id order after a position."""
        raw, after = await self._slice(table, {}, after, limit)
        return SourcePage(await _decoded(raw), after)

    async def digests(
        self, table: Table, after: str, limit: int, since: datetime | None = None
    ) -> DigestPage:
        """Ids and digests in id order after a position.

        ``since``: of documents that started then or later.
        """
        started = table.fields.get("started", ())
        condition = {started[0]: {"$gte": since}} if since and started else {}
        raw, after = await self._slice(table, condition, after, limit)
        return DigestPage(await asyncio.to_thread(_ids_and_digests, raw), after)

    async def _slice(
        self, table: Table, condition: dict[str, Any], after: str, limit: int
    ) -> tuple[list[bytes], str]:
        """Documents after a position, undecoded, and the next position.

        ``min`` crosses types: ids may be strings and ObjectIds.
        """
        if table.id != "_id":
            raise SchemaUnknown(f"{table.name}: a record's id must be _id in MongoDB, not {table.id}")
        first_id = json_util.loads(after)["_id"] if after else None
        options: dict[str, Any] = {"sort": _BY_ID, "limit": limit + 1, "batch_size": limit + 1}
        if table.query or await self._is_view(table.name):  # these know neither ``hint`` nor ``min``
            condition = {**condition, **(after_id(first_id) if after else {})}
        else:
            options |= {"hint": _BY_ID, **({"min": {"_id": first_id}} if after else {})}
        projection = _projection(table)
        cursor = open_cursor(self._database, table, condition, projection, undecoded=True, **options)
        documents = await self._read_undecoded(table, cursor)
        if after and documents and id_of(documents[0]) == first_id:
            documents = documents[1:]
        documents = documents[:limit]
        return documents, json_util.dumps({"_id": id_of(documents[-1])}) if documents else after

    async def changes(
        self, table: Table, since: datetime, limit: int
    ) -> AsyncGenerator[list[Document], None]:
        """Batches of documents that were updated at or after ``since``, oldest first."""
        assert table.updated is not None
        options = {"sort": [(table.updated, 1)], "allow_disk_use": True, "batch_size": limit}
        condition = {table.updated: {"$gte": since}}
        cursor = open_cursor(self._database, table, condition, _projection(table), undecoded=True, **options)
        try:
            with _reachable(), accepted(table):
                async for batch in cursor:
                    if documents := split(table, batch):
                        yield await _decoded(documents)
        finally:
            await cursor.close()

    async def watch(self, tables: Sequence[Table], token: str | None) -> mongo_changes.MongoChangeStream:
        """A stream of changes after the position of a token; see ``mongo_changes.watch``."""
        return await mongo_changes.watch(self._database, tables, token)

    async def lacks_index(self, table: Table) -> bool:
        """Whether reading changes has to scan the whole collection, for lack of an index."""
        if table.query or await self._is_view(table.name):
            with _reachable(), accepted(table):
                return await scans(self._database, table)
        with _reachable():
            indexes = await self._database[table.name].index_information()
        leading = {spec["key"][0][0] for spec in indexes.values() if spec["key"]}
        return table.updated not in leading

    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]:
        """The documents with these ids as they are now."""
        condition = {"_id": {"$in": _possible_ids(ids)}}
        cursor = open_cursor(self._database, table, condition, _projection(table), undecoded=True)
        return await _decoded(await self._read_undecoded(table, cursor))

    async def fetch_recent(self, table: Table, user_ids: Sequence[str], since: datetime) -> list[Document]:
        """The sessions of these users that started at or after ``since``, as they are now."""
        started = {table.fields["started"][0]: {"$gte": since}} if table.fields.get("started") else {}
        condition = {table.fields["user"][0]: {"$in": _possible_ids(user_ids)}, **started}
        cursor = open_cursor(self._database, table, condition, _projection(table), undecoded=True)
        return await _decoded(await self._read_undecoded(table, cursor))

    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]:
        """Which of these ids still exist."""
        cursor = open_cursor(self._database, table, {"_id": {"$in": _possible_ids(ids)}}, {"_id": 1})
        return frozenset(key for d in await self._read(table, cursor) if (key := identity(d["_id"])))

    async def notify(
        self, notifications: Sequence[Notification], inbox: Table | None = None
    ) -> dict[str, str]:
        """Insert notifications by their id, leaving existing ones unchanged; see ``Source.notify``."""
        inbox = inbox or NOTIFICATIONS[self.kind]
        if inbox.id != "_id":
            raise InboxClosed(
                f"the mapping file says that {inbox.name} has the id {inbox.id}: it must be _id"
            )
        with _reachable(), inbox_writable(inbox):
            collections = await self._database.list_collection_names(
                filter={"name": inbox.name}, authorizedCollections=True
            )
            if not collections:  # an upsert would create one that the dashboard does not know
                raise InboxClosed(f"the dashboard has no collection {inbox.name}; create it, {IN_APP_REMEDY}")
            if not notifications:
                return {}
            collection = self._database[inbox.name].with_options(write_concern=_DURABLE)
            try:
                await collection.bulk_write(
                    [upsert_notification(note, inbox) for note in notifications], ordered=False
                )
            except BulkWriteError as error:
                return refused_messages(notifications, error)
        return {}

    # ── Archiving ───────────────────────────────────────────────────────────────────────────────────────────

    async def removal_obstacle(self, table: Table) -> str | None:
        """Why documents must not be removed; None: they may be."""
        if obstacle := read_only_obstacle(table):
            return obstacle
        if await self._is_view(table.name):
            return f"{table.name} is a view: its documents can only be read, not removed or restored"
        return None

    async def originals(self, table: Table, ids: Sequence[str]) -> list[SourceDocument]:
        """The complete documents with these ids, and their text (canonical extended JSON)."""
        require_writable(table)
        query = self._database.get_collection(table.name, _RAW).find({"_id": {"$in": _possible_ids(ids)}})
        with _reachable():
            raw_documents = await query.to_list(None)
        return await asyncio.to_thread(lambda: [_source_document(raw.raw) for raw in raw_documents])

    async def remove(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]:
        """Remove these documents (id → text) if they are unchanged; returns the ids that were not removed."""
        require_writable(table)
        deletions = await asyncio.to_thread(lambda: [_delete_if_unchanged(body) for body in bodies.values()])
        with _reachable(), _permitted():
            await self._database[table.name].bulk_write(deletions, ordered=False)
        return await self.existing(table, list(bodies))

    async def insert(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]:
        """Restore documents without overwriting any; returns the ids that exist afterwards."""
        require_writable(table)
        documents = await asyncio.to_thread(lambda: list(map(_document, bodies.values())))
        with _reachable(), _permitted():
            try:
                await self._database[table.name].insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if _other_than_duplicates(error.details["writeErrors"]):
                    raise
        return await self.existing(table, list(bodies))


async def _decoded(undecoded: Sequence[bytes]) -> list[Document]:
    """Documents with their digests; in a thread, because a page takes some milliseconds."""
    with _reachable():
        return await asyncio.to_thread(lambda: list(map(_with_digest, undecoded)))


def _with_digest(raw: bytes) -> Document:
    return {**bson.decode(raw, CODEC), DIGEST: _digest(raw)}


def _ids_and_digests(documents: Sequence[bytes]) -> list[tuple[str, int]]:
    return [(key, _digest(document)) for document in documents if (key := key_of(document))]


def _digest(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big", signed=True)


def _source_document(raw: bytes) -> SourceDocument:
    """A document with its text; without text if the text would not restore exactly the same document."""
    document = bson.decode(raw, CODEC)
    try:
        body = json_util.dumps(bson.decode(raw, _EXACT), json_options=_EXACT_JSON)
        return SourceDocument(document, body if _document(body).raw == raw else None)
    except (BSONError, ValueError, TypeError, OverflowError):
        return SourceDocument(document, None)


def _document(body: str) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(json_util.loads(body, json_options=_EXACT_JSON)))


def _delete_if_unchanged(body: str) -> DeleteOne:
    """Delete by id and all other fields: a document that was edited meanwhile stays."""
    document = _document(body)
    return DeleteOne({"_id": document["_id"], "$expr": {"$eq": ["$$ROOT", {"$literal": document}]}})


def _other_than_duplicates(errors: Iterable[Mapping[str, Any]]) -> bool:
    return any(error["code"] != _DUPLICATE for error in errors)


def _projection(table: Table) -> dict[str, int]:
    """Fetch only mapped fields; whole top-level fields, because paths may overlap."""
    return dict.fromkeys((path.split(".")[0] for paths in table.fields.values() for path in paths), 1)


def _possible_ids(ids: Sequence[str]) -> list[Any]:
    """The ids that these texts may stand for: the dashboard's may be ObjectIds, text or numbers."""
    keys: list[Any] = list(ids)
    for key in ids:
        try:
            keys.append(ObjectId(key))
        except InvalidId:
            if key.isdecimal() and len(key) < 19:
                keys.append(int(key))
    return keys


def _value_at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
