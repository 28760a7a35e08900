"""The database's clock runs away, and comes back: nothing is decided, missed or claimed by the wrong time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service.engine import gates
from service.engine.clock_watch import ClockGuard, ClockWatch, Verdict
from service.engine.ledger import Ledger
from service.engine.run import PlannedRun, Trigger
from service.engine.trigger import TriggerLoop
from tests.engine.test_trigger import ID, World, world

__all__ = ["world"]
EIGHT = datetime(2026, 3, 10, 8, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@dataclass
class HostClock:
    """The clocks of a host, moved by hand."""

    wall: datetime = EIGHT
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def pass_by(self, time: timedelta) -> None:
        self.wall += time
        self.seconds += time.total_seconds()


@dataclass
class Host:
    """A process on a host of its own, and the database's clock relative to true time."""

    world: World
    clock: HostClock
    watch: ClockWatch
    ledger: Ledger
    trigger: TriggerLoop

    async def later(self, time: timedelta, database_ahead: timedelta = timedelta(0)) -> int:
        """Let time pass, and sweep."""
        self.clock.pass_by(time)
        return await self.sweep(database_ahead)

    async def sweep(self, database_ahead: timedelta = timedelta(0)) -> int:
        await self.world.at((self.clock.wall + database_ahead).isoformat())
        return await self.trigger.sweep_once()


async def _host(world: World, name: str = "a", clock: HostClock | None = None) -> Host:
    clock = clock or HostClock()
    watch = ClockWatch(clock)
    ledger, trigger = await world.replica(name)
    ledger._latest = watch.latest
    guard = ClockGuard(world.pool, watch, clock, name, ledger.now, ledger.turn_back)
    trigger._clock_trusted = guard.check
    return Host(world, clock, watch, ledger, trigger)


@pytest.fixture
async def host(world: World) -> Host:
    """One process; users live in Berlin, Paris, New York and at UTC: the next slots are at 8, 9 and 13."""
    await world.at((EIGHT - SECOND).isoformat())
    host = await _host(world)
    host.clock.wall = EIGHT - SECOND
    assert await host.sweep() == 0
    return host


async def _shut(pool: asyncpg.Pool) -> list[str]:
    return [f"{gate.scope} {gate.cause}" for gate in await gates.current(pool)]


@pytest.mark.parametrize("ahead", [30 * DAY, timedelta(hours=2), timedelta(minutes=3), -timedelta(hours=2)])
async def test_nothing_is_decided_while_the_clock_is_wrong(host: Host, ahead: timedelta) -> None:
    world = host.world
    assert await host.later(10 * SECOND, ahead) == 0
    assert await world.rows() == []
    assert await _shut(world.pool) == ["clock clock"]

    assert await host.later(10 * SECOND) == 0, "one look that agrees is not enough"
    assert await host.later(10 * SECOND, ahead) == 0, "it is wrong again"
    assert await host.later(10 * SECOND) == 0
    assert await host.later(31 * SECOND) == 1
    assert await _shut(world.pool) == []
    assert await world.rows() == [("10 08:00", "cron pending", ("Europe/Berlin", "Europe/Paris"))]


async def test_nothing_is_claimed_or_missed_between_two_sweeps(host: Host) -> None:
    await host.later(10 * SECOND)
    assert len(await host.world.rows()) == 1

    await host.world.at((EIGHT + DAY).isoformat())
    assert await host.ledger.claim() is None
    await host.world.at((EIGHT + 11 * SECOND).isoformat())
    run = await host.ledger.claim()
    assert run is not None

    await host.world.at((EIGHT + DAY).isoformat())
    assert await host.ledger.claim() is None, "its lease is not over"


def _one(_after: datetime, until: datetime) -> list[PlannedRun]:
    local = until.replace(tzinfo=None)
    return [PlannedRun(until, local, None, Trigger.CRON, missed=False, reason=None, deadline_at=None)]


async def test_no_slot_is_decided_between_the_look_and_the_clocks_step(host: Host) -> None:
    await host.world.at((EIGHT + DAY).isoformat())
    assert await host.ledger.materialise(ID, _one) == 0


async def test_the_last_attempt_is_not_over_by_a_wrong_clock(host: Host) -> None:
    await host.later(10 * SECOND)
    run = await host.ledger.claim()
    assert run is not None
    await host.world.pool.execute("UPDATE service.job_run SET attempt = 99")
    await host.world.at((EIGHT + DAY).isoformat())
    assert await host.ledger.claim() is None
    assert [row[1] for row in await host.world.rows()] == ["cron running"]


async def test_nothing_that_is_due_later_is_claimed_now(host: Host) -> None:
    await host.ledger.request(ID, Trigger.ONCE, delay=timedelta(hours=5))
    await host.world.at((EIGHT + timedelta(hours=6)).isoformat())
    assert await host.ledger.claim() is None
    by_hand = await host.ledger.request(ID, Trigger.MANUAL)
    assert await host.ledger.claim_requested(by_hand) is None


async def test_other_processes_wait_too_and_a_new_one_believes_its_host(host: Host) -> None:
    other = await _host(host.world, "b", host.clock)
    await other.sweep()
    await host.later(10 * SECOND, DAY)
    new = await _host(host.world, "c", host.clock)
    for process in (other, new):
        assert await process.later(40 * SECOND, DAY) == 0
        assert await process.ledger.claim() is None
    assert await host.world.rows() == []

    assert await new.later(SECOND) == 0
    assert await new.later(31 * SECOND) == 1
    assert await _shut(host.world.pool) == []


async def test_a_host_that_slept_believes_the_clock(host: Host) -> None:
    host.clock.wall += timedelta(hours=2)  # its monotonic clock stood still
    assert await host.sweep() == 2
    assert await _shut(host.world.pool) == []


async def test_a_person_may_say_that_the_clock_is_right(host: Host) -> None:
    await host.later(10 * SECOND, timedelta(hours=2))
    (gate,) = await gates.current(host.world.pool)
    assert {"database", "host"} <= gate.details.keys()
    async with host.world.pool.acquire() as connection, connection.transaction():
        assert await gates.open_by_hand(connection, gate.id, "ann", "the host is wrong")
    assert await host.later(10 * SECOND, timedelta(hours=2)) == 2
    assert await host.later(10 * SECOND, timedelta(hours=2)) == 0
    assert await _shut(host.world.pool) == []


async def test_what_a_process_decided_that_started_with_a_wrong_clock_is_undone(host: Host) -> None:
    """All processes were started while the clock was 30 days ahead: they had nothing to compare it with."""
    world = host.world
    await host.ledger.request(ID, Trigger.ONCE)
    await world.at((EIGHT + 30 * DAY).isoformat())
    started = await _host(world, "new", HostClock(EIGHT + 10 * SECOND))
    assert await started.sweep(30 * DAY) > 60
    claimed = await started.ledger.claim()
    assert claimed is not None
    assert claimed.trigger is Trigger.ONCE

    assert await host.later(11 * SECOND) == 1
    assert [row[:2] for row in await world.rows()] == [
        ("10 07:59", "once running"),
        ("10 08:00", "cron pending"),
    ]
    assert await host.later(timedelta(hours=1)) == 1, "the next slot comes at its time"


async def test_runs_that_were_given_up_by_a_wrong_clock_wait_again(host: Host) -> None:
    await host.later(2 * SECOND)
    await host.world.at((EIGHT + 30 * DAY).isoformat())
    new = await _host(host.world, "new", HostClock(EIGHT + 10 * SECOND))
    assert await new.ledger.claim() is None
    await new.sweep(30 * DAY)
    assert ("10 08:00", "cron missed", ("Europe/Berlin", "Europe/Paris")) in await host.world.rows()

    await host.later(11 * SECOND)
    assert await host.world.rows() == [("10 08:00", "cron pending", ("Europe/Berlin", "Europe/Paris"))]


def _judged(clock: HostClock, *steps: tuple[float, float, float]) -> list[Verdict]:
    """Verdicts after these moves, in seconds: of the database's clock, the host's, the monotonic one."""
    watch, database = ClockWatch(clock), clock.wall
    found = [watch.judge(database, stopped=False)]
    for of_database, of_wall, of_monotonic in steps:
        database += timedelta(seconds=of_database)
        clock.wall += timedelta(seconds=of_wall)
        clock.seconds += of_monotonic
        found.append(watch.judge(database, stopped=found[-1] is not Verdict.RIGHT))
        if found[-1] is Verdict.WRONG:
            watch.note_stop()
    return found


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([(130, 10, 10)], Verdict.RIGHT),
        ([(131, 10, 10)], Verdict.WRONG),
        ([(-3600, 10, 10)], Verdict.WRONG),
        ([(10, 3600, 10)], Verdict.RIGHT),
        ([(10, 3600, 10), (3600, 10, 10)], Verdict.RIGHT),
        ([(3600, 10, 10), (10, 10, 10)], Verdict.WRONG),
        ([(3600, 10, 10), (-3580, 10, 10), (29, 29, 29)], Verdict.UNSURE),
        ([(3600, 10, 10), (-3580, 10, 10), (31, 31, 31)], Verdict.RIGHT),
    ],
)
def test_verdicts(steps: list[tuple[float, float, float]], last: Verdict) -> None:
    assert _judged(HostClock(), *steps)[-1] is last


def test_nothing_is_known_at_the_start() -> None:
    clock = HostClock()
    watch: Callable[[], datetime | None] = ClockWatch(clock).latest
    assert watch() is None
