"""The change stream of a MongoDB replica set: which documents were written or deleted."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bson import json_util
from bson.errors import BSONError
from pymongo.errors import OperationFailure, PyMongoError

from service.dashboard import mongo_errors
from service.dashboard.mongo_origin import keeps_ids
from service.dashboard.profiles.shapes import Table
from service.dashboard.profiles.values import identity
from service.dashboard.source import ChangeBatch
from service.errors import ChangeHistoryLost, ChangeStreamUnavailable, ServiceError, SourceUnavailable

_QUIET = 0.25
"""Seconds without a change after which a batch is complete."""
_LONGEST = 1.0
"""Seconds after its first change at which it is complete in any case."""
_MOST = 2000
"""Changes of one batch."""
_UNAUTHORISED = 13
_NOT_OFFERED = frozenset({40573, 40324, 59, 115, 238})
"""No replica set; an unknown stage or command of a server that only speaks MongoDB's protocol."""


class MongoChangeStream:
    """An open change stream of a database. ``collections``: those that are watched, name → UUID."""

    def __init__(self, stream: Any, collections: dict[str, str]) -> None:
        self._stream = stream
        self._collections = collections
        self._reading: asyncio.Future[Any] | None = None

    @property
    def watched(self) -> frozenset[str]:
        """The names of the collections whose changes it tells."""
        return frozenset(self._collections)

    async def next_batch(self) -> ChangeBatch:
        """What changes within about a second; empty if nothing does within a quarter of one.

        Raises ChangeHistoryLost, ChangeStreamUnavailable and SourceUnavailable.
        """
        self._reading = asyncio.ensure_future(_in_thread(lambda: _drain(self._stream), resumed=True))
        events, more = await asyncio.shield(self._reading)
        if any(event["operationType"] == "invalidate" for event in events):
            raise ChangeHistoryLost("the dashboard's database was dropped")
        after = {"collections": self._collections, "after": self._stream.resume_token}
        return _batch(events, self.watched, json_util.dumps(after), more=more)

    async def close(self) -> None:
        """Close it, once a reading under way is over: within two seconds; a dead server is not waited for."""
        reading = [self._reading] if self._reading else []
        closing = asyncio.ensure_future(asyncio.to_thread(self._stream.close))
        await asyncio.wait([*reading, closing], timeout=2 * _LONGEST)


async def watch(database: Any, tables: Sequence[Table], token: str | None) -> MongoChangeStream:
    """Open a stream on those of these tables whose changes it can tell.

    ``token``: of the last batch that was stored; None: from the present operation time on. Raises
    ChangeHistoryLost where the server cannot tell what changed since then, ChangeStreamUnavailable where it
    never can, and SourceUnavailable.
    """
    collections = await _watchable(database, tables)
    stored = json_util.loads(token) if token else {"collections": collections, "after": None}
    if stored["collections"] != collections:
        raise ChangeHistoryLost("collections were made anew, or others are mapped")
    names = sorted(collections)
    pipeline = [
        {
            "$match": {
                "$or": [
                    {"ns.coll": {"$in": names}},
                    {"to.coll": {"$in": names}},
                    {"operationType": "invalidate"},
                ]
            }
        },
        {"$project": {"operationType": 1, "ns": 1, "to": 1, "documentKey": 1}},
    ]
    stream = await _in_thread(
        # The driver's own object: Motor needs a thread for each event, this needs one for a batch.
        lambda: database.delegate.watch(
            pipeline, resume_after=stored["after"], max_await_time_ms=int(_QUIET * 1000)
        ),
        resumed=token is not None,
    )
    return MongoChangeStream(stream, collections)


async def _watchable(database: Any, tables: Sequence[Table]) -> dict[str, str]:
    """The collections behind these tables, with their UUIDs. Raises ChangeStreamUnavailable without any.

    Views have no changes of their own, and a pipeline that makes new ids cannot be asked for the old ones.
    """
    names = sorted({table.stored_as for table in tables if keeps_ids(table)})
    try:
        cursor = await database.list_collections(filter={"name": {"$in": names}, "type": "collection"})
        found = {entry["name"]: entry["info"]["uuid"].hex() for entry in await cursor.to_list(None)}
    except (PyMongoError, BSONError, OSError) as error:
        raise SourceUnavailable(mongo_errors.describe(error)) from error
    if tables and not names:
        raise ChangeStreamUnavailable("the mapping's pipelines make new ids, which no change tells")
    if not found:
        raise ChangeStreamUnavailable("there are no collections, or only views, which have no changes")
    return found


async def _in_thread(call: Callable[[], Any], *, resumed: bool) -> Any:
    """Call the driver. ``resumed``: with a token, so that what the server refuses may be the token."""
    try:
        return await asyncio.to_thread(call)
    except OperationFailure as error:
        raise _refusal(error, resumed=resumed) from error
    except (PyMongoError, BSONError, OSError) as error:
        raise SourceUnavailable(mongo_errors.describe(error)) from error


def _refusal(error: OperationFailure, *, resumed: bool) -> ServiceError:
    if error.code == _UNAUTHORISED:
        return ChangeStreamUnavailable(
            "the user of DASHBOARD_URL may not open one; the role read on the whole database allows it"
        )
    if error.code in _NOT_OFFERED:
        return ChangeStreamUnavailable("DASHBOARD_URL leads to no replica set; only those have one")
    if error.has_error_label("ResumableChangeStreamError"):
        return SourceUnavailable(mongo_errors.describe(error))
    if resumed:
        return ChangeHistoryLost(f"the server does not know what changed since then (code {error.code})")
    return ChangeStreamUnavailable(mongo_errors.describe(error))


def _drain(stream: Any) -> tuple[list[dict[str, Any]], bool]:
    """Events up to a quiet moment (then False), or of a second, or many of them (True)."""
    events: list[dict[str, Any]] = []
    ends = float("inf")
    while len(events) < _MOST and time.monotonic() < ends and stream.alive:
        event = stream.try_next()
        if event is None:
            return events, False
        ends = min(ends, time.monotonic() + _LONGEST)
        events.append(event)
    return events, True


def _batch(
    events: Iterable[dict[str, Any]], watched: frozenset[str], token: str, *, more: bool
) -> ChangeBatch:
    """What events tell: the documents to read again, and the collections that were dropped or renamed."""
    ids: dict[str, set[str]] = {}
    replaced: set[str] = set()
    for event in events:
        name = event.get("ns", {}).get("coll")
        if "documentKey" in event:
            ids.setdefault(name, set()).add(identity(event["documentKey"]["_id"]) or "")
        elif event["operationType"] in {"drop", "rename"}:
            replaced |= {name, event.get("to", {}).get("coll")} & watched
    return ChangeBatch(ids, frozenset(replaced), more, token)
