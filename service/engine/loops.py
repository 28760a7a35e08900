"""Waiting, as every loop of the service does it: for an event, or for the time."""

import asyncio


async def first_of(seconds: float | None, *events: asyncio.Event) -> None:
    """Wait until one of the events is set, at most ``seconds``; None: without a limit."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
