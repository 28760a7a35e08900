"""Statements of several connections, joined into one while the last is under way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any


class StatementGroup:
    """Joins what connections write while a statement is running into the next statement."""

    def __init__(self, write: Callable[[list[Any]], Awaitable[frozenset[int]]]) -> None:
        self._write = write
        self._waiting: list[tuple[list[Any], asyncio.Future[frozenset[int]]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[Any]) -> frozenset[int]:
        """Write these together with those of others; returns all ids that the database accepted."""
        done: asyncio.Future[frozenset[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(items), done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        return await done

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                accepted = await self._write([item for items, _ in batch for item in items])
            except BaseException as error:  # noqa: BLE001 — every caller must get it
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in batch:
                if not done.done():
                    done.set_result(accepted)
