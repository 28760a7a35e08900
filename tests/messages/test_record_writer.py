"""Dots and answers in groups: who shares a statement, and what happens while PostgreSQL takes none."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from service.messages.outbox import Recorded, Settlement
from service.messages.record_writer import RecordWriter
from tests.given import claimed_delivery


class Database:
    """Takes what is written, fails as it is told, and can be kept waiting."""

    def __init__(self) -> None:
        self.groups: list[tuple[list[int], list[tuple[int, str]]]] = []
        self.failures: list[BaseException] = []
        self.refused: set[int] = set()
        self.poison: int | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def record(self, dots: Sequence[tuple[int, int]], settlements: Sequence[Settlement]) -> Recorded:
        self.asked.set()
        await self.open.wait()
        if self.poison in {one.id for one in settlements}:
            raise asyncpg.CheckViolationError("no such state")
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(([id_ for id_, _ in dots], [(one.id, one.state) for one in settlements]))
        return Recorded(
            frozenset(id_ for id_, _ in dots if id_ not in self.refused),
            frozenset(one.id for one in settlements if one.id not in self.refused),
        )


@asynccontextmanager
async def _writing(database: Database, connections: int = 10) -> AsyncIterator[RecordWriter]:
    writer = RecordWriter(database.record, connections)
    task = asyncio.ensure_future(writer.serve())
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.wait({task})


def _dot(writer: RecordWriter, id_: int, granted: list[tuple[int, bool]]) -> None:
    def note(is_granted: bool) -> None:
        granted.append((id_, is_granted))

    writer.request_dot(claimed_delivery(id=id_), note)


def _sent(id_: int) -> Settlement:
    return Settlement(id_, 1, "sent")


async def test_what_comes_while_a_statement_runs_is_the_next_one() -> None:
    database, granted = Database(), list[tuple[int, bool]]()
    async with _writing(database) as writer:
        database.open.clear()
        _dot(writer, 1, granted)
        await database.asked.wait()
        for id_ in (2, 3):
            _dot(writer, id_, granted)
        writer.settle(_sent(9))
        database.open.set()
        assert await writer.written(10)

    assert database.groups == [([1], []), ([2, 3], [(9, "sent")])]
    assert granted == [(1, True), (2, True), (3, True)]


async def test_connections_whose_dots_were_granted_share_the_next_statement() -> None:
    """Else one half of the connections would be written while the other half gathers, for ever."""
    database, answered = Database(), asyncio.Event()
    loop = asyncio.get_running_loop()
    async with _writing(database) as writer:
        database.open.clear()

        def asks_again(id_: int) -> None:
            writer.settle(_sent(id_))
            if id_ < 100:
                writer.request_dot(claimed_delivery(id=id_ + 100), lambda _: answered.set())

        def connection(id_: int) -> None:
            def granted(_: bool) -> None:
                loop.call_soon(asks_again, id_)

            writer.request_dot(claimed_delivery(id=id_), granted)

        for id_ in range(4):
            connection(id_)
        await database.asked.wait()
        for id_ in range(4, 10):
            connection(id_)
        database.open.set()
        await answered.wait()

    assert [len(dots) for dots, _ in database.groups[:2]] == [4, 10]


async def test_a_dot_that_is_not_ours_is_not_granted() -> None:
    database, granted, ours = Database(), list[tuple[int, bool]](), list[bool | None]()
    database.refused = {1, 9}
    async with _writing(database) as writer:
        _dot(writer, 1, granted)
        _dot(writer, 2, granted)
        writer.settle(_sent(9), ours.append)
        assert await writer.written(10)

    assert granted == [(1, False), (2, True)]
    assert ours == [False]


@pytest.mark.parametrize(
    "failure",
    [ConnectionResetError("gone"), asyncpg.DiskFullError("full"), asyncpg.ReadOnlySQLTransactionError("no")],
    ids=lambda one: type(one).__name__,
)
async def test_answers_are_kept_and_dots_taken_back_while_nothing_can_be_written(failure: Exception) -> None:
    database, granted, written = Database(), list[tuple[int, bool]](), list[bool | None]()
    database.failures = [failure, failure]
    async with _writing(database) as writer:
        _dot(writer, 1, granted)
        writer.settle(_sent(9), written.append)
        while not writer.away:
            await asyncio.sleep(0)
        assert granted == [(1, False)]
        assert await writer.written(30)
        assert not writer.away

    assert written == [True]
    assert database.groups == [([], [(9, "sent"), (1, "planned")])]


async def test_a_result_that_cannot_be_stored_holds_up_no_other() -> None:
    database, written = Database(), list[tuple[int, bool | None]]()
    database.poison = 5

    def note(id_: int) -> Callable[[bool | None], None]:
        return lambda ours: written.append((id_, ours))

    async with _writing(database) as writer:
        for id_ in (4, 5, 6):
            writer.settle(_sent(id_), note(id_))
        assert await writer.written(30)

    assert written == [(4, True), (5, None), (6, True)]


async def test_a_stop_in_the_middle_of_a_statement_keeps_its_answers() -> None:
    database = Database()
    database.open.clear()
    async with _writing(database) as writer:
        writer.settle(_sent(1))
        await database.asked.wait()
    assert writer.pending == 1

    database.open.set()
    task = asyncio.ensure_future(writer.serve())
    assert await writer.written(10)
    task.cancel()
    assert database.groups == [([], [(1, "sent")])]


async def test_two_answers_about_one_mail_are_two_statements() -> None:
    """One UPDATE would take either of them."""
    database = Database()
    async with _writing(database) as writer:
        for settlement in (Settlement(1, 1, "failed"), _sent(2), Settlement(1, 1, "planned"), _sent(3)):
            writer.settle(settlement)
        assert await writer.written(10)

    assert database.groups == [
        ([], [(1, "failed"), (2, "sent")]),
        ([], [(1, "planned"), (3, "sent")]),
    ]


async def test_what_cannot_be_written_in_time_is_said() -> None:
    database = Database()
    database.open.clear()
    async with _writing(database) as writer:
        writer.settle(_sent(1))

        assert not await writer.written(0.01)
