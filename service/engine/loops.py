"""Waiting, as every loop of the service does it: for an event, or for the time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
Loop = Callable[[asyncio.Event], Awaitable[None]]
"""A loop runs until its event is set."""
_GLANCE = 60.0
"""Seconds between two notes that a loop which waits gets on."""
_AGAIN = 1.5
"""Seconds after which a task that was cancelled is cancelled again."""
_note: ContextVar[Callable[[], None] | None] = ContextVar("note", default=None)


def watch(note: Callable[[], None]) -> None:
    """Let the loop that is started in this task, and what it starts, call ``note`` whenever it gets on."""
    _note.set(note)


def gets_on() -> None:
    """Note that the loop in which this is called gets on."""
    if note := _note.get():
        note()


async def first_of(seconds: float | None, *events: asyncio.Event) -> None:
    """Wait until one of the events is set, at most ``seconds``; None: without a limit."""
    clock = asyncio.get_running_loop().time
    end = None if seconds is None else clock() + seconds
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done = False
        while not done:
            gets_on()  # a wait that may be long is no standstill
            left = _GLANCE if end is None else min(_GLANCE, max(0.0, end - clock()))
            ready, _ = await asyncio.wait(waiters, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            done = bool(ready) or (end is not None and clock() >= end)
        gets_on()
    finally:
        for waiter in waiters:
            waiter.cancel()


async def until_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """The result of ``work``, which is cancelled once ``stop`` is set: then None, whatever it raises."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        stopping.cancel()
        while not task.done():  # once more where cleaning up hangs: a driver may wait for a host that is gone
            task.cancel()
            await asyncio.wait({task}, timeout=_AGAIN)
    if not task.cancelled():
        task.exception()  # nobody asks
    return None


def cancelled_at_stop(loop: Loop) -> Loop:
    """A loop that does not wait for its work at a stop: what it has not committed is undone."""

    async def serve(stop: asyncio.Event) -> None:
        await until_stopped(_awaited(loop(stop)), stop)

    return serve


async def _awaited(work: Awaitable[T]) -> T:
    return await work
