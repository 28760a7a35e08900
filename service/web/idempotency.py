"""Idempotency keys: a request is carried out once, however often a client sends it.

With an ``Idempotency-Key`` header, a retry of the same request gets the same answer and changes nothing.
Keys are kept for 24 hours. There are three ways to carry out a request:

- ``once``: in one transaction, which writes key, effect, audit entry and answer together or not at all.
- ``run_once``: starts a run. Key, audit entry and run are one transaction; the ledger finishes the run.
- ``once_with_lease``: for effects outside the database. The key is stored first; a lease is held meanwhile.
"""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from aiohttp import web

from service.engine import queries
from service.engine.database_errors import undo_at_end
from service.engine.lease import REQUEST, Lease
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

Answer = tuple[int, dict[str, Any]]
"""Status and body."""
Act = Callable[[asyncpg.Connection], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key that a client chose for a request, and the hash of that request."""

    text: str
    request: str


class StartedRun(Protocol):
    """A run that was requested."""

    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The state of a run: the ``answer`` to its caller, and whether the run has ``ended``."""

    answer: Answer
    ended: bool


async def once(
    request: web.Request,
    act: Act,
    *,
    content: bytes | None = None,
    after_commit: Callable[[Answer], Awaitable[Answer]] | None = None,
) -> web.Response:
    """Carry out ``act`` in a transaction, once per key. If it raises HttpRefusal, its effects are rolled back
    and the refusal is stored as the answer.

    ``content``: the body, if the handler has read it already. ``after_commit``: work that may also be done
    later; it returns the amended answer.
    Raises HttpRefusal: 400 for an invalid key, 409 for a key that was used for another request.
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
        except Exception as problem:  # noqa: BLE001 - the act is committed: store how the rest ended
            answer = _failure_answer(request, problem)
        await _store_answer(pool, key, answer)
    return _response(answer)


async def run_once(
    request: web.Request,
    begin: Callable[[asyncpg.Connection], Awaitable[StartedRun]],
    carry_out: Callable[[Any], Awaitable[RunOutcome]],
    outcome_of: Callable[[int], Awaitable[RunOutcome]],
) -> web.Response:
    """Request a run and wait for its end, once per key.

    ``begin`` requests it in a transaction, ``carry_out`` waits for its end, ``outcome_of`` reads its state. A
    repeated request gets the result, or 409 with the current state. Raises HttpRefusal as ``once`` does; an
    exception from ``begin`` leaves the key unused.
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


async def once_with_lease(
    request: web.Request, act: Callable[[], Awaitable[Answer]], *, repeatable: bool
) -> web.Response:
    """Carry out an action with effects outside the database, once per key; meanwhile the same key gets 409.

    ``repeatable``: the action is safe to repeat if the process died during it (half a minute later); if it is
    not, the key gets 409 until it expires. An action that refuses (4xx, 503) did nothing, and leaves the key
    unused.
    """
    key = await _key(request)
    if key is None:
        return _response(await act())
    pool = request.app[DEPS].pool
    if (stored := await _find(pool, key)) and stored["status"] is not None:
        return _replay(stored)
    async with Lease(pool, f"{REQUEST}{key.text}", secrets.token_hex(8)).hold() as lease:
        if lease is None:
            raise HttpRefusal(409, _IN_PROGRESS)
        stored = await _claim_key(pool, key)
        if stored and stored["status"] is not None:
            return _replay(stored)
        if stored and not repeatable:
            raise HttpRefusal(409, _ABANDONED)
        answer = await _attempt(request, key, act)
        await _store_answer(pool, key, answer)
        return _response(answer)


async def _attempt(request: web.Request, key: IdempotencyKey, act: Callable[[], Awaitable[Answer]]) -> Answer:
    try:
        return await act()
    except Exception as problem:
        answer = _failure_answer(request, problem)
        if answer[0] < 500 or answer[0] == 503:
            async with undo_at_end(lambda: request.app[DEPS].pool.execute(_SQL["release"], key.text)):
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


async def _claim_key(
    connection: asyncpg.Connection | asyncpg.Pool, key: IdempotencyKey
) -> asyncpg.Record | None:
    """Store a new key and return None, or return its stored row. Raises HttpRefusal."""
    await connection.execute(_SQL["forget"])
    await connection.execute(_SQL["forget_leases"], REQUEST)
    if await connection.fetchval(_SQL["claim"], key.text, key.request) is not None:
        return None
    stored = await _find(connection, key)
    if stored is None:
        raise HttpRefusal(409, _IN_PROGRESS)  # it was released this very moment
    return stored


async def _find(connection: asyncpg.Connection | asyncpg.Pool, key: IdempotencyKey) -> asyncpg.Record | None:
    """The stored row of a key; None: there is none. Raises HttpRefusal."""
    stored = await connection.fetchrow(_SQL["find"], key.text)
    if stored and stored["request"] != key.request:
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
