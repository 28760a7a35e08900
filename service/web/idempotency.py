"""Acts that are carried out once, however often a client sends them.

With an ``Idempotency-Key`` header the same request sent again gets the same answer, and nothing happens a
second time. Keys are kept for a day. An act is one of three kinds:

- ``once``: one transaction. Key, act, trace in the audit log and answer are there together or not at all.
- ``run_once``: a run. Key, trace and run are one transaction; the ledger brings it to its end, whoever dies.
- ``in_steps``: what is done elsewhere. The key is taken first; a lock tells whether anybody is at it.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import asyncpg
from aiohttp import web

from service.engine import queries
from service.engine.database_errors import undone
from service.web.audit import transaction
from service.web.auth import HttpRefusal, error, failure
from service.web.deps import DEPS

_SQL = queries.load(__file__)
_MAX_LENGTH = 200
_IN_PROGRESS = "The act of this Idempotency-Key is still being carried out; ask again"
_ABANDONED = (
    "Whoever carried this out is gone, and nobody knows how far it came;"
    " see whether it happened, and use a new Idempotency-Key to do it again"
)

GATE: web.AppKey[asyncio.Semaphore] = web.AppKey("gate", asyncio.Semaphore)
"""Acts in steps hold a connection while they need another: together they must not hold all there are."""

Answer = tuple[int, dict[str, Any]]
"""Status and body."""
Act = Callable[[asyncpg.Connection], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client made up for one request, and the hash of that request."""

    text: str
    request: str


class StartedRun(Protocol):
    """A run that was asked for."""

    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How far a run has come. ``answer``: as its caller is told; ``over``: and it stays like that."""

    answer: Answer
    ended: bool


async def once(
    request: web.Request,
    act: Act,
    *,
    content: bytes | None = None,
    after_commit: Callable[[Answer], Awaitable[Answer]] | None = None,
) -> web.Response:
    """Carry out ``act`` in a transaction, once per key; Refused takes back what it did and is remembered too.

    ``content``: the body, where the handler has read it itself. ``then``: after the transaction, what may
    also be left to later; it amends the answer.
    Raises Refused: 400 for an unusable key, 409 for a key that was used for another request.
    """
    key, pool = await _key(request, content), request.app[DEPS].pool
    async with transaction(request) as connection:
        if key is None:
            answer = await act(connection)
        else:
            if stored := await _claim_key(connection, key):
                return _replay(stored)
            answer = await _in_savepoint(connection, act)
            await _store_answer(connection, key, answer)
    if after_commit is not None and answer[0] < 400:
        try:
            answer = await after_commit(answer)
        except Exception as problem:  # noqa: BLE001 - the act holds: what is kept tells how the rest ended
            answer = _failure_answer(request, problem)
        await _store_answer(pool, key, answer)
    return _response(answer)


async def run_once(
    request: web.Request,
    begin: Callable[[asyncpg.Connection], Awaitable[StartedRun]],
    carry_out: Callable[[Any], Awaitable[RunOutcome]],
    outcome_of: Callable[[int], Awaitable[RunOutcome]],
) -> web.Response:
    """Ask for a run and see it through, once per key.

    ``begin`` asks for it in a transaction, ``carry_out`` waits for its end, ``told`` looks how far it is. Who
    repeats the request is told its end, or 409 and its state for now. Raises Refused as ``once`` does; what
    ``begin`` raises leaves the key free.
    """
    key, pool = await _key(request), request.app[DEPS].pool
    async with transaction(request) as connection:
        stored = await _claim_key(connection, key) if key else None
        run = None if stored else await begin(connection)
        if run and key:
            await connection.execute(_SQL["set_run"], key.text, run.id)
    if stored and stored["status"] is not None:
        return _replay(stored)
    outcome = await outcome_of(stored["run_id"]) if stored else await carry_out(run)
    if stored and not outcome.ended:
        return error(409, _IN_PROGRESS, **{name: outcome.answer[1][name] for name in ("runId", "state")})
    if outcome.ended:
        await _store_answer(pool, key, outcome.answer)
    return _response(outcome.answer, replayed=stored is not None)


async def once_with_lock(
    request: web.Request, act: Callable[[], Awaitable[Answer]], *, repeatable: bool
) -> web.Response:
    """Carry out what is no transaction, once per key; meanwhile the same key gets 409.

    ``repeatable``: where whoever was at it is gone, doing it again does no harm; otherwise the key gets 409
    until it is forgotten. A refusal (4xx, 503) did nothing and leaves the key free.
    """
    key = await _key(request)
    if key is None:
        return _response(await act())
    async with request.app[GATE], request.app[DEPS].pool.acquire() as proxy:
        connection = cast("asyncpg.Connection", proxy)
        if not await connection.fetchval(_SQL["lock"], key.text):
            raise HttpRefusal(409, _IN_PROGRESS)
        async with undone(lambda: connection.execute(_SQL["unlock"], key.text)):
            stored = await _claim_key(connection, key)
            if stored and stored["status"] is not None:
                return _replay(stored)
            if stored and not repeatable:
                raise HttpRefusal(409, _ABANDONED)
            answer = await _attempt(request, connection, key, act)
            await _store_answer(connection, key, answer)
            return _response(answer)


async def _attempt(
    request: web.Request,
    connection: asyncpg.Connection,
    key: IdempotencyKey,
    act: Callable[[], Awaitable[Answer]],
) -> Answer:
    try:
        return await act()
    except Exception as problem:
        answer = _failure_answer(request, problem)
        if answer[0] < 500 or answer[0] == 503:
            async with undone(lambda: connection.execute(_SQL["release"], key.text)):
                raise
        return answer


def _failure_answer(request: web.Request, problem: Exception) -> Answer:
    status, text = failure(request, problem)
    return status, {"success": False, "error": text}


async def _in_savepoint(connection: asyncpg.Connection, act: Act) -> Answer:
    try:
        async with connection.transaction():
            return await act(connection)
    except HttpRefusal as refused:
        return refused.status, {"success": False, "error": str(refused)}


async def _claim_key(connection: asyncpg.Connection, key: IdempotencyKey) -> asyncpg.Record | None:
    """What is known of a key. None: it was new, and is ours now. Raises Refused."""
    await connection.execute(_SQL["forget"])
    if await connection.fetchval(_SQL["claim"], key.text, key.request) is not None:
        return None
    stored = await connection.fetchrow(_SQL["find"], key.text)
    if stored is None or stored["request"] != key.request:
        raise HttpRefusal(409, "This Idempotency-Key was used for another request; choose a new one")
    return stored


async def _store_answer(
    executor: asyncpg.Connection | asyncpg.Pool, key: IdempotencyKey | None, answer: Answer
) -> None:
    if key is not None:
        await executor.execute(_SQL["store_answer"], key.text, answer[0], json.dumps(answer[1]))


def _replay(stored: asyncpg.Record) -> web.Response:
    return _response((stored["status"], json.loads(stored["answer"])), replayed=True)


def _response(answer: Answer, *, replayed: bool = False) -> web.Response:
    status, body = answer
    response = web.json_response(body, status=status)
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


async def _key(request: web.Request, content: bytes | None = None) -> IdempotencyKey | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= _MAX_LENGTH):
        raise HttpRefusal(400, f"Idempotency-Key must be 1 to {_MAX_LENGTH} printable ASCII characters")
    body = await request.read() if content is None else content
    return IdempotencyKey(
        key, hashlib.sha256(f"{request.method} {request.path_qs}\n".encode() + body).hexdigest()
    )
