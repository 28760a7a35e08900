"""Waiting, as every loop of the service does it: for an event, or for the time."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

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
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    gets_on()
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        gets_on()
    finally:
        for waiter in waiters:
            waiter.cancel()
