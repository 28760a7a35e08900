"""A fault that lasts is logged when it begins, once a minute, and when it ends; however often it occurs."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from service.clock import SystemClock
from service.engine import supervisor
from service.engine.database import migrate, open_pool
from service.engine.fault_log import FaultLog
from service.engine.heartbeat import Heartbeat
from service.engine.loops import Loop
from service.engine.supervisor import Supervisor
from service.engine.trigger import TriggerLoop
from service.errors import SourceUnavailable
from tests.given import Scripted, World
from tests.postgres_server import server


class Watch:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def _raised(whose: str) -> BaseException:
    future = Future[None]()
    future.set_exception(ValueError(f"no\nDETAIL:  Failing row contains ({whose})"))
    with pytest.raises(ValueError, match="no") as caught:
        future.result()
    return caught.value


def test_it_has_one_line_at_its_begin_one_a_minute_and_one_at_its_end() -> None:
    watch = Watch()
    fault = FaultLog("it broke", clock=watch, loop="a")

    with capture_logs() as logs:
        fault.over()
        for second in range(0, 150, 10):
            watch.seconds = second
            fault.occurred(_raised("Ann"), job="b")
        fault.over()
        fault.over()

    begin, *later, end = logs
    assert begin["exception"].strip().endswith("ValueError: no")
    assert "_raised" in begin["exception"]
    assert {"event": "it broke", "log_level": "warning", "loop": "a", "job": "b"}.items() <= begin.items()
    assert "Ann" not in str(logs)
    assert [(one["times"], one["seconds"], "exception" in one) for one in later] == [
        (7, 60, False),
        (13, 120, False),
    ]
    assert (end["event"], end["log_level"], end["times"], end["seconds"]) == (
        "it broke: over",
        "info",
        15,
        140,
    )


def test_one_that_comes_and_goes_is_not_logged_each_time() -> None:
    watch = Watch()
    fault = FaultLog("it broke", clock=watch)

    with capture_logs() as logs:
        for second in range(120):
            watch.seconds = second
            fault.occurred(SourceUnavailable("away"))
            fault.over()

    assert [one["event"] for one in logs] == ["it broke", "it broke: over"] * 2
    assert "exception" not in logs[0]
    assert sum(one["times"] for one in logs if "times" in one) == 60 + 1


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


async def _no_report() -> dict[str, Any]:
    return {}


async def _nothing() -> None:
    return


async def test_while_our_postgresql_is_away_each_loop_logs_when_that_begins_and_when_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loops that try again at once, at a server that is stopped meanwhile."""
    monkeypatch.setattr(supervisor, "backoff", lambda _failures: 0.01)
    monkeypatch.setattr(supervisor, "_STEADY", 0.5)
    stop = asyncio.Event()
    with server() as postgres, capture_logs() as logs:
        pool = await open_pool(postgres.url())
        await migrate(pool)
        world, clock = World(pool), SystemClock()
        ledger = await world.ledger()
        heartbeat = Heartbeat(ledger, "1", clock, _no_report, _nothing, interval=0.01, retry_after=0.01)
        trigger = TriggerLoop(ledger, {}, {}, ZoneInfo("UTC"), asyncio.Event(), sweep=0.01, use_crons=False)
        loops: dict[str, Loop] = {
            "trigger": trigger.serve,
            "runner": (await world.runner(idle=0.01)).serve,
            "delivery": world.delivery(Scripted(), idle=0.01).serve,
            "presence": heartbeat.serve,
        }
        watching = Supervisor(clock, loops)
        serving = asyncio.create_task(watching.serve(stop))
        await asyncio.to_thread(postgres.stop)
        await _until(lambda: all(watching.watched[name].restarts > 10 for name in list(loops)[:2]))
        await asyncio.to_thread(postgres.start)
        await _until(lambda: sum(one["event"].endswith(": over") for one in logs) == len(loops))
        stop.set()
        await serving
        pool.terminate()

    about = Counter((one["event"], one.get("loop")) for one in logs if one["event"] != "zone data")
    assert about == Counter(
        [
            *(("loop died", name) for name in list(loops)[:2]),
            *(("loop died: over", name) for name in list(loops)[:2]),
            ("mails cannot be claimed", None),
            ("mails cannot be claimed: over", None),
            ("heartbeat failed", None),
            ("heartbeat failed: over", None),
        ]
    )
