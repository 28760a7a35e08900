"""What the MongoDB source reads: a collection, a view, or a pipeline of the mapping file."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from service.dashboard.profiles.shapes import Document, Table
from service.dashboard.profiles.values import identity
from service.dashboard.source import require_kind
from service.errors import SchemaUnknown

_QUERY_ERRORS = frozenset({2, 9, 14, 16, 17, 40, 168, 241})
"""BadValue, FailedToParse, TypeMismatch, … InvalidPipelineOperator, ConversionFailure."""
_FIRST_LOCATION = 15_000
"""Errors of single stages and operators; the server's own states have numbers below."""

_OBJECT_ID = b"\x07_id\0"
"""How a document begins, after its length, whose id is an ObjectId."""
# Years beyond 9999 and invalid text become values that can be counted, not an exception.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)
_LENGTH = struct.Struct("<i")
_IN_ORDER = frozenset({"$match", "$set", "$addFields", "$project", "$unset", "$lookup"})
_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def open_cursor(
    database: Any,
    table: Table,
    condition: Document,
    projection: Mapping[str, int] | None = None,
    *,
    undecoded: bool = False,
    **options: Any,
) -> Any:
    """A cursor over the documents that fulfil a condition. ``options``: of ``find`` (sort, limit, …).

    ``undecoded``: it yields batches of bytes (see ``split``), as the server sent them.

    Raises SchemaUnknown for a SELECT.
    """
    query = require_kind(table, "mongodb")
    if query is None:
        collection = database[table.name]
        find = collection.find_raw_batches if undecoded else collection.find
        return find(condition, projection, **options)
    batch = {"batchSize": options["batch_size"]} if "batch_size" in options else {}
    pipeline = _pipeline(table)
    if dict(options.get("sort", ())).keys() == {"_id"} and all(map(_keeps_order, pipeline)):
        # Sorted first, by the index, a page ends with its limit; sorted last, all that follows is read.
        pipeline.insert(0, {"$sort": dict(options.pop("sort"))})
    stages = [*pipeline, *_stages(condition, projection, options)]
    collection = database[query.collection]
    aggregate = collection.aggregate_raw_batches if undecoded else collection.aggregate
    return aggregate(stages, allowDiskUse=True, **batch)


def split(table: Table, batch: bytes) -> list[bytes]:
    """The documents of an undecoded batch: each begins with its length. Raises SchemaUnknown without ids."""
    documents, start = [], 0
    while start < len(batch):
        end = start + _LENGTH.unpack_from(batch, start)[0]
        documents.append(batch[start:end])
        start = end
    if table.query:
        require_ids(table, map(RawBSONDocument, documents))
    return documents


def key_of(raw: bytes) -> str | None:
    """The id of an undecoded document, as text."""
    return raw[9:21].hex() if raw[4:9] == _OBJECT_ID else identity(id_of(raw))


def id_of(raw: bytes) -> Any:
    """The id of an undecoded document; MongoDB stores it first."""
    if raw[4:9] == _OBJECT_ID:
        return ObjectId(raw[9:21])
    if raw[4:9] == b"\x02_id\0":
        size = int.from_bytes(raw[9:13], "little")
        return raw[13 : 12 + size].decode("utf-8", "replace")
    return bson.decode(raw, CODEC)["_id"]


def after_id(id_: Any) -> Document:
    """The condition of documents after an id, whatever its type: ids may be strings and ObjectIds."""
    return {"$expr": {"$gt": ["$_id", {"$literal": id_}]}}


def keeps_ids(table: Table) -> bool:
    """Whether the ids of a table are those of the collection behind it."""
    return require_kind(table, "mongodb") is None or all(map(_keeps_order, _pipeline(table)))


async def scans(database: Any, table: Table) -> bool:
    """Whether reading the changes of a view or a pipeline scans a whole collection."""
    stages = [*_pipeline(table), {"$match": {table.updated: {"$gte": _SOME_TIME}}}]
    command = {"aggregate": table.stored_as, "pipeline": stages, "cursor": {}}
    return "'COLLSCAN'" in str(await database.command("explain", command, verbosity="queryPlanner"))


@contextmanager
def accepted(table: Table) -> Iterator[None]:
    """Raises SchemaUnknown where MongoDB refuses a pipeline, or cannot finish it for what documents hold."""
    try:
        yield
    except OperationFailure as error:
        code = error.code or 0
        if table.query is None or not (code in _QUERY_ERRORS or code >= _FIRST_LOCATION):
            raise
        reason = str((error.details or {}).get("errmsg", code))[:300]
        raise SchemaUnknown(f"{table.name} cannot be read: {reason}") from None


def require_ids(table: Table, documents: Iterable[Mapping[str, Any]]) -> None:
    """Raises SchemaUnknown where a pipeline has lost the ids."""
    if table.query and not all("_id" in document for document in documents):
        raise SchemaUnknown(f"{table.name} gives documents without _id, which identifies a record")


def _pipeline(table: Table) -> list[dict[str, Any]]:
    try:
        stages: list[dict[str, Any]] = json_util.loads(table.query.text) if table.query else []
    except (BSONError, ValueError, TypeError) as error:
        raise SchemaUnknown(f"{table.name} is no pipeline: {error}") from None
    return stages


def _keeps_order(stage: Mapping[str, Any]) -> bool:
    """Whether a stage leaves ids, and the order of documents, as they are."""
    ((name, value),) = stage.items()
    if name not in _IN_ORDER or name == "$match":
        return name == "$match"
    if isinstance(value, Mapping):
        own = value.get("_id")
        return (own is None or (name == "$project" and own == 1)) and value.get("as") != "_id"
    return "_id" not in ([value] if isinstance(value, str) else value)


def _stages(
    condition: Document, projection: Mapping[str, int] | None, options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The stages of an aggregation that do what ``find`` does with these arguments."""
    if condition:
        yield {"$match": condition}
    if "sort" in options:
        yield {"$sort": dict(options["sort"])}
    if "limit" in options:
        yield {"$limit": options["limit"]}
    if projection:
        yield {"$project": projection}
