"""What a job works with: its tick, its cursor, fenced transactions, and other resources."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

import asyncpg

from service.engine.ledger import Ledger, Run
from service.engine.run import Tick
from service.tracing import UNTRACED, Span, Value

T = TypeVar("T")
_EXAMPLES = 5


class Resources:
    """What jobs may use besides the database: objects, looked up by their type or a base of it."""

    def __init__(self, *objects: object) -> None:
        self._objects = objects

    def __getitem__(self, kind: type[T]) -> T:
        """Raises KeyError, with the type's name, if there is none."""
        resource = self.get(kind)
        if resource is None:
            raise KeyError(f"no {kind.__name__} among the resources of jobs")
        return resource

    def get(self, kind: type[T]) -> T | None:
        """None: there is none."""
        return next((resource for resource in self._objects if isinstance(resource, kind)), None)


class RunContext(Protocol):
    """What a job works with during one run."""

    errors: list[str]
    """Tracebacks of people whose failure did not stop the run; each is also counted as ``user_error``."""

    @property
    def tick(self) -> Tick: ...

    @property
    def resources(self) -> Resources: ...

    @property
    def cursor(self) -> str:
        """How far the run has come; empty at the start. A run that is taken over continues here."""
        ...

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of the current step."""
        ...

    @property
    def remaining_examples(self) -> int:
        """How many more examples a dry run can hold; 0 if this is none."""
        ...

    async def now(self) -> datetime:
        """The database's time, which decides what is due."""
        ...

    def reading(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection for reading outside of the steps' transactions."""
        ...

    def step(self, *, long: bool = True) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """One transaction that is committed only while the run is ours; keep it to a few seconds.

        ``long``: its statements may take as long as a statistic needs.
        """
        ...

    async def advance(
        self,
        connection: asyncpg.Connection,
        cursor: str,
        done: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Record progress within a step: ``done`` more rows processed, ``counts`` added up by name."""
        ...

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes to the span of the current step."""
        ...

    def example(self, effect: dict[str, Any]) -> None:
        """Keep an example of what the run would do."""
        ...


@dataclass(slots=True)
class LedgerContext:
    """A run of the ledger; see ``RunContext``."""

    pool: asyncpg.Pool
    ledger: Ledger
    run: Run
    tick: Tick
    resources: Resources
    cursor: str
    span: Span = UNTRACED
    errors: list[str] = field(default_factory=list)
    _step: Span = UNTRACED

    remaining_examples = 0

    @property
    def traceparent(self) -> str | None:
        return self._step.traceparent

    async def now(self) -> datetime:
        return await self.ledger.now()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.Connection]:
        async with self.pool.acquire() as connection:
            yield cast("asyncpg.Connection", connection)

    @asynccontextmanager
    async def step(self, *, long: bool = True) -> AsyncIterator[asyncpg.Connection]:
        begin = self.ledger.long_step if long else self.ledger.step
        with self.span.child("step") as self._step:
            async with begin(self.run) as connection:
                yield connection

    async def advance(
        self,
        connection: asyncpg.Connection,
        cursor: str,
        done: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        await self.ledger.advance(connection, self.run, cursor, done, counts or {})
        self.cursor = cursor

    def note(self, attributes: Mapping[str, Value]) -> None:
        self._step.note(attributes)

    def example(self, effect: dict[str, Any]) -> None:
        return


@dataclass(slots=True)
class DryContext:
    """A dry run: every step is a savepoint of one transaction that is rolled back; see ``RunContext``."""

    connection: asyncpg.Connection
    ledger: Ledger
    tick: Tick
    resources: Resources
    cursor: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    traceparent = None

    @property
    def remaining_examples(self) -> int:
        return _EXAMPLES - len(self.examples)

    async def now(self) -> datetime:
        return await self.ledger.now()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.Connection]:
        yield self.connection

    @asynccontextmanager
    async def step(self, *, long: bool = True) -> AsyncIterator[asyncpg.Connection]:
        async with self.connection.transaction():
            yield self.connection

    async def advance(
        self,
        _connection: asyncpg.Connection,
        cursor: str,
        _done: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.cursor = cursor
        self.counts += Counter(counts or {})

    def note(self, attributes: Mapping[str, Value]) -> None:
        return

    def example(self, effect: dict[str, Any]) -> None:
        self.examples.append(effect)
