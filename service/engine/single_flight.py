"""One call at a time, shared by all concurrent callers, with a timeout and a short cache."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_ABANDON_AFTER = 30.0
"""Seconds after which a call that has not returned is cancelled and made again."""


class SingleFlight(Generic[T]):
    """Runs ``call`` once for all concurrent callers.

    ``deadline``: seconds that a caller waits; ``ttl``: seconds for which a result is reused. A late call is
    not cancelled at the deadline, because a driver may not give up a connection that hangs.
    """

    def __init__(self, call: Callable[[], Awaitable[T]], *, deadline: float, ttl: float = 0.0) -> None:
        self._call = call
        self._deadline = deadline
        self._ttl = ttl
        self._future: asyncio.Future[T] | None = None
        self._since = 0.0
        self._answered = 0.0

    async def get(self) -> T:
        """The result. Raises what the call raised, or TimeoutError after the deadline."""
        loop = asyncio.get_running_loop()
        future = self._future
        if future is None or self._needs_new(future, loop.time()):
            future = self._future = asyncio.ensure_future(self._call())
            future.add_done_callback(self._on_done)
            self._since = loop.time()
        if not future.done():
            remaining = self._since + self._deadline - loop.time()
            await asyncio.wait({future}, timeout=max(remaining, 0))
        if not future.done():
            raise TimeoutError
        return future.result()

    def forget(self) -> None:
        """Whoever asks from now on gets what a new call returns."""
        self._future = None

    def _needs_new(self, future: "asyncio.Future[T]", now: float) -> bool:
        if future.done():
            return now - self._answered >= self._ttl
        if now - self._since >= _ABANDON_AFTER:
            future.cancel()
            return True
        return False

    def _on_done(self, future: "asyncio.Future[T]") -> None:
        if future is self._future:
            self._answered = asyncio.get_running_loop().time()
        if not future.cancelled():
            future.exception()  # mark it as retrieved: callers within the deadline have raised it
