"""Which errors of our PostgreSQL pass by themselves, and which error is told where cleaning up fails too."""

import asyncio
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions
from structlog.testing import capture_logs

from service.engine import database_errors
from service.engine.database_errors import first_transient, is_transient, undo_at_end
from service.engine.fault_log import FaultLog, one_line

MISTAKES = {"22", "23", "42"}
PASSING = (
    "57014", "57P01", "57P02", "57P03", "57P04", "57P05", "40001", "40P01", "53000", "53100", "53200",
    "53300", "55P03", "55006", "25006", "25P02", "25P03", "08000", "08003", "08006", "08P01", "58000",
    "58030", "XX000", "XX001", "28P01", "3D000", "0A000", "42501",
)  # fmt: skip
LASTING = ("42601", "42P01", "42703", "42883", "42804", "23502", "23503", "23505", "23514", "22001", "22003",
           "22012", "22023", "22P02")  # fmt: skip


def _of(state: str) -> asyncpg.PostgresError:
    """As the driver raises it."""
    return asyncpg.PostgresError.new({"S": "ERROR", "C": state, "M": "something", "D": "of ann@example.org"})


@pytest.mark.parametrize("state", PASSING)
def test_what_postgresql_refuses_passes(state: str) -> None:
    assert is_transient(_of(state))


@pytest.mark.parametrize("state", LASTING)
def test_a_mistake_of_ours_does_not(state: str) -> None:
    assert not is_transient(_of(state))


def test_every_error_that_the_driver_knows_is_judged_by_its_class() -> None:
    known = [
        one for one in vars(exceptions).values()
        if isinstance(one, type) and issubclass(one, asyncpg.PostgresError) and one.sqlstate
    ]  # fmt: skip
    lasting = {one for one in known if not is_transient(one("x"))}

    assert len(known) > 200
    assert {one.sqlstate[:2] for one in lasting} == MISTAKES
    assert {one for one in known if one.sqlstate[:2] in MISTAKES} - lasting == {
        asyncpg.InsufficientPrivilegeError
    }


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError("no route"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InternalClientError("cannot switch to state 15"), True),
        (TypeError("x"), False),
        (ValueError("x"), False),
        (LookupError("x"), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_the_way_to_the_database_passes_and_the_rest_is_a_mistake(error: BaseException, passes: bool) -> None:
    assert is_transient(error) == passes


async def test_a_value_that_does_not_fit_is_a_mistake_that_the_driver_finds(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.DataError) as caught:
        await pool.execute("SELECT $1::int", "text")
    assert not is_transient(caught.value)


async def test_what_broke_a_connection_is_told_not_what_came_of_it(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.InterfaceError) as caught:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert isinstance(first_transient(caught.value), asyncpg.ConnectionDoesNotExistError)
    assert "administrator command" in one_line(first_transient(caught.value))


def _raised(inner: Exception, outer: Exception) -> Exception:
    try:
        try:
            raise inner
        except type(inner):
            raise outer  # noqa: B904 — the context is the point
    except type(outer) as error:
        return error


def test_what_does_not_pass_is_left_where_it_stands() -> None:
    away, mistake = asyncpg.InterfaceError("connection is closed"), TypeError("x")

    assert first_transient(_raised(away, mistake)) is mistake
    assert first_transient(_raised(KeyError("a"), asyncpg.InterfaceError("b"))).args == ("b",)


def test_the_log_gets_one_line_without_what_postgresql_adds() -> None:
    assert one_line(_of("23505")) == "asyncpg.exceptions.UniqueViolationError: something"
    assert one_line(ValueError()) == "ValueError"


# ── Cleaning up ─────────────────────────────────────────────────────────────────────────────────────────────


async def _fails(error: Exception) -> None:
    raise error


async def test_an_error_of_cleaning_up_does_not_hide_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for second in (asyncpg.InterfaceError("connection is closed"), TypeError("x")):
        monkeypatch.setattr(database_errors, "_CLEANING_UP", FaultLog("cleaning up failed"))
        with capture_logs() as logs, pytest.raises(KeyError):
            async with undo_at_end(lambda error=second: _fails(error)):  # type: ignore[misc]
                raise KeyError("first")
        assert [one["event"] for one in logs] == ["cleaning up failed"]


async def test_where_nothing_went_wrong_before_only_mistakes_are_raised() -> None:
    async with undo_at_end(lambda: _fails(asyncpg.InterfaceError("connection is closed"))):
        pass
    with pytest.raises(TypeError):
        async with undo_at_end(lambda: _fails(TypeError("x"))):
            pass


async def test_it_is_undone_once_whatever_happens() -> None:
    done: list[Any] = []

    async def undo() -> None:
        done.append(1)

    async with undo_at_end(undo):
        pass
    with pytest.raises(asyncio.CancelledError):
        async with undo_at_end(undo):
            raise asyncio.CancelledError
    assert done == [1, 1]
