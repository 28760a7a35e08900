"""Errors of our PostgreSQL: which of them pass by themselves, and cleaning up after them.

The one place that judges it, for runs, heartbeats and answers of the API alike.
"""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog

log = structlog.get_logger()

FAILURES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""Every way in which the database fails to answer a question, passing or not."""
_PERMANENT = ("22", "23", "42")
"""Classes of SQLSTATE that mean a mistake of ours: data and types, constraints, syntax and names."""
_NO_GRANT = "42501"
"""Of a class with the mistakes in syntax, but somebody else's: a grant comes back."""
_LONGEST = 500


def is_transient(error: BaseException) -> bool:
    """Whether the same may succeed when it is tried again: an error of the database or of the way to it.

    Everything that PostgreSQL refuses is taken for passing (shutdown, cancelled statement, time limit,
    deadlock, full disk, read only after a failover, …), except what a mistake of ours is answered with.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state == _NO_GRANT or not state.startswith(_PERMANENT)
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # a value that does not fit its column is no matter of time
    # The driver's own confusion: a connection that was terminated while it was idle, a changed type.
    return isinstance(error, (OSError, TimeoutError, asyncpg.InternalClientError))


def first_transient(error: BaseException) -> BaseException:
    """The passing error that came first: rolling back on a broken connection raises others over it."""
    while is_transient(error) and error.__context__ is not None and is_transient(error.__context__):
        error = error.__context__
    return error


def one_line(error: BaseException) -> str:
    """An error in one line, for the log: no DETAIL of PostgreSQL, which may hold people's data."""
    line = traceback.format_exception_only(error)[0].strip().splitlines()
    return line[0][:_LONGEST] if line else type(error).__name__


@asynccontextmanager
async def undo_at_end(undo: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Undo something at the end (unlock, roll back) without hiding the error that led there.

    A connection that breaks meanwhile has let go of its locks and its transaction by itself, so a passing
    error of ``undo`` is only logged; any other one is raised where nothing else is.
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
        log.warning("cleaning up failed", error=one_line(error))
