"""Acts that are carried out once, however often a client sends them.

With an ``Idempotency-Key`` header the act, its trace in the audit log and its answer are one transaction: the
same request sent again gets the same answer, and nothing happens a second time. Keys are kept for a day.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import asyncpg
from aiohttp import web

from service.admin.access import Refused
from service.admin.deps import DEPS, ROLE
from service.store import queries

_SQL = queries.load(__file__)
_LONGEST = 200

Answer = tuple[int, dict[str, Any]]
"""Status and body."""
Act = Callable[[asyncpg.Connection], Awaitable[Answer]]


async def once(request: web.Request, act: Act) -> web.Response:
    """Carry out ``act`` in a transaction, once per key; Refused takes back what it did and is remembered too.

    Raises Refused: 400 for an unusable key, 409 for a key that was used for another request.
    """
    key = _key(request)
    async with request.app[DEPS].pool.acquire() as lent, lent.transaction():
        connection = cast("asyncpg.Connection", lent)
        if key is None:
            return _response(await act(connection))
        await connection.execute(_SQL["forget"])
        asked = await _hash(request)
        if await connection.fetchval(_SQL["take"], key, asked) is None:
            return _again(await connection.fetchrow(_SQL["known"], key), asked)
        answer = await _tried(connection, act)
        await connection.execute(_SQL["keep"], key, answer[0], json.dumps(answer[1]))
        return _response(answer)


async def remark(
    request: web.Request, connection: asyncpg.Connection, act: str, what: Mapping[str, Any]
) -> None:
    """Leave a trace in the audit log, in the transaction of the act."""
    await connection.execute(_SQL["remark"], str(request[ROLE]), act, dict(what))


async def note(request: web.Request, act: str, what: Mapping[str, Any]) -> None:
    """The same for an act that was not one transaction: after it."""
    await request.app[DEPS].pool.execute(_SQL["remark"], str(request[ROLE]), act, dict(what))


async def _tried(connection: asyncpg.Connection, act: Act) -> Answer:
    try:
        async with connection.transaction():
            return await act(connection)
    except Refused as refused:
        return refused.status, {"success": False, "error": str(refused)}


def _again(known: asyncpg.Record | None, asked: str) -> web.Response:
    if known is None or known["request"] != asked:
        raise Refused(409, "This Idempotency-Key was used for another request; choose a new one")
    answer = _response((known["status"], json.loads(known["answer"])))
    answer.headers["Idempotent-Replayed"] = "true"
    return answer


def _response(answer: Answer) -> web.Response:
    status, body = answer
    return web.json_response(body, status=status)


def _key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= _LONGEST):
        raise Refused(400, f"Idempotency-Key must be 1 to {_LONGEST} printable ASCII characters")
    return key


async def _hash(request: web.Request) -> str:
    body = await request.read()
    return hashlib.sha256(f"{request.method} {request.path}\n".encode() + body).hexdigest()
