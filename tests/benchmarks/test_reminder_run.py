"""The parts of the benchmark of reminders still fit the service; what they measure is not looked at."""

import asyncio
import inspect
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from benchmarks.reminder_people import fill_postgres
from benchmarks.reminder_report import Figures, as_json, as_text
from benchmarks.service_run import Case, Place, measure
from benchmarks.stages import COROUTINES, FUNCTIONS, MARKS, WRITE, Stopwatch
from tests.conftest import with_database

_PEOPLE = 30


@pytest.mark.long(only=True)
async def test_a_run_of_one_replica_is_measured(postgres: str, template: str, tmp_path: Path) -> None:
    case = Case(dashboard="postgresql", stages=True)
    dashboard = f"dashboard_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {dashboard}")
    try:
        await fill_postgres(with_database(postgres, dashboard), _PEOPLE, datetime.now(UTC), every=1)
        place = Place(tmp_path, postgres, template, with_database(postgres, dashboard))

        measured = await measure(place, case)
    finally:
        await connection.execute(f"DROP DATABASE {dashboard} WITH (FORCE)")
        await connection.close()

    assert measured["mails"] == _PEOPLE
    assert all(measured[f"{stage}_us"] > 0 for stage in (WRITE, MARKS))
    figures = Figures(_PEOPLE, _PEOPLE)
    figures.add(case.name, measured)
    assert case.name in as_text(figures, [case])
    assert json.loads(as_json(figures))["medians"][case.name]["mails"] == _PEOPLE


def test_what_is_measured_is_there() -> None:
    assert all(inspect.iscoroutinefunction(getattr(owner, name, None)) for owner, name, _ in COROUTINES)
    functions = [getattr(owner, name, None) for owner, name, _ in FUNCTIONS]
    assert all(callable(one) and not inspect.iscoroutinefunction(one) for one in functions)


async def test_each_stretch_of_time_belongs_to_the_innermost_stage_that_runs() -> None:
    ticks = iter(range(100))
    watch = Stopwatch(lambda: float(next(ticks)))

    inner = watch.function(lambda: None, "inner")

    async def work() -> str:
        inner()
        await asyncio.sleep(0)
        return "done"

    outer = watch.coroutine(work, "outer")

    assert await outer() == "done"
    assert dict(watch.seconds) == {"outer": 3.0, "inner": 1.0}
