"""Errors of our PostgreSQL: which are transient, and cleaning up after them.

Runs, heartbeats and the API all use this classification.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from service.engine.fault_log import FaultLog


class PoolExhausted(TimeoutError):
    """Every connection of this process is in use, and none was given back in time. It passes by itself."""


FAILURES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""All errors of the database, transient or not."""
_PERMANENT = ("22", "23", "42")
"""Classes of SQLSTATE that mean a mistake of ours: data and types, constraints, syntax and names."""
_NO_GRANT = "42501"
"""Missing privilege: in the class of syntax errors, but an operator can grant it again."""
_CLEANING_UP = FaultLog("cleaning up failed")


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed: an error of the database or of the connection to it.

    Every error of PostgreSQL counts as transient (shutdown, cancelled statement, timeout, deadlock,
    full disk, read-only after a failover, …), except those that a bug of ours causes.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state == _NO_GRANT or not state.startswith(_PERMANENT)
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # a value that does not fit its column never will
    # InternalClientError: a connection that was terminated while it was idle, or a type that changed.
    return isinstance(error, (OSError, TimeoutError, asyncpg.InternalClientError))


def first_transient(error: BaseException) -> BaseException:
    """The original transient error: rolling back on a broken connection raises others after it."""
    while is_transient(error) and error.__context__ is not None and is_transient(error.__context__):
        error = error.__context__
    return error


@asynccontextmanager
async def undo_at_end(undo: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Call ``undo`` at the end (unlock, roll back) without hiding the original error.

    A broken connection has released its locks and its transaction already, so a transient error of ``undo``
    is only logged; any other is raised unless there is an original error.
    """
    try:
        yield
    except BaseException:
        await _try_undo(undo, always=True)
        raise
    await _try_undo(undo, always=False)


async def _try_undo(undo: Callable[[], Awaitable[Any]], *, always: bool) -> None:
    try:
        await undo()
    except Exception as error:
        if not always and not is_transient(error):
            raise
        _CLEANING_UP.occurred(error)
    else:
        _CLEANING_UP.over()
