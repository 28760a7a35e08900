"""The supervisor: a loop that dies comes back, everybody can see it, and the others never notice."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from service.engine import supervisor as module
from service.engine.loops import Loop
from service.engine.supervisor import Supervisor

_START = datetime(2026, 3, 10, 8, tzinfo=UTC)


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return _START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Pauses:
    """Instead of waiting: writes down how long, moves the clock on, and lets the others run."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.taken: list[float] = []
        self.seen: list[dict[str, object]] = []
        self.look: Callable[[], dict[str, object]] = dict

    async def __call__(self, seconds: float, _stop: asyncio.Event) -> None:
        self.taken.append(seconds)
        self.seen.append(self.look())
        self.clock.seconds += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def pauses(clock: Hands, monkeypatch: pytest.MonkeyPatch) -> Pauses:
    recorder = Pauses(clock)
    monkeypatch.setattr(module, "first_of", recorder)
    return recorder


def dying(times: int, then: Callable[[], None], alive: Callable[[], None] = lambda: None) -> Loop:
    """A loop that dies so many times, doing ``alive`` before each death, and then lives on."""
    left = times

    async def loop(stop: asyncio.Event) -> None:
        nonlocal left
        if left:
            left -= 1
            alive()
            raise ConnectionError(f"death with {left} to come")
        then()
        await stop.wait()

    return loop


async def faithful(stop: asyncio.Event) -> None:
    await stop.wait()


async def served(supervisor: Supervisor, stop: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await supervisor.serve(stop)


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await event.wait()


async def test_a_loop_that_dies_is_started_again_after_pauses_that_double_up_to_a_minute(
    clock: Hands, pauses: Pauses
) -> None:
    stop = asyncio.Event()
    supervisor = Supervisor(clock, {"frail": dying(9, stop.set)})

    await served(supervisor, stop)

    assert pauses.taken == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert supervisor.watched["frail"].restarts == 9


async def test_a_loop_that_lived_for_a_minute_begins_anew_with_a_second(clock: Hands, pauses: Pauses) -> None:
    stop = asyncio.Event()
    lives = iter([0.0, 0.0, 59.9, 60.0, 0.0])

    def live() -> None:
        clock.seconds += next(lives)

    await served(Supervisor(clock, {"frail": dying(5, stop.set, live)}), stop)

    assert pauses.taken == [1, 2, 4, 1, 2]


async def test_a_death_is_visible_while_it_lasts_and_remembered_afterwards(
    clock: Hands, pauses: Pauses
) -> None:
    stop, back = asyncio.Event(), asyncio.Event()
    supervisor = Supervisor(clock, {"sound": faithful, "frail": dying(1, back.set)})
    pauses.look = lambda: {"healthy": supervisor.healthy, **supervisor.report()["frail"]}

    serving = asyncio.create_task(served(supervisor, stop))
    await until(back)

    death = "ConnectionError: death with 0 to come"
    assert pauses.seen == [
        {
            "healthy": False,
            "state": "restarting",
            "restarts": 1,
            "lastError": death,
            "since": "2026-03-10T08:00:00+00:00",
        }
    ]
    assert supervisor.healthy
    assert supervisor.report() == {
        "frail": {
            "state": "running",
            "restarts": 1,
            "lastError": death,
            "since": "2026-03-10T08:00:01+00:00",
        },
        "sound": {
            "state": "running",
            "restarts": 0,
            "lastError": None,
            "since": "2026-03-10T08:00:00+00:00",
        },
    }
    stop.set()
    await serving


async def test_before_it_serves_every_loop_is_shown_as_stopped(clock: Hands) -> None:
    supervisor = Supervisor(clock, {"one": faithful})

    assert supervisor.report() == {
        "one": {"state": "stopped", "restarts": 0, "lastError": None, "since": None}
    }
    assert supervisor.healthy


async def test_one_dying_loop_does_not_stop_the_others(clock: Hands, pauses: Pauses) -> None:
    stop = asyncio.Event()
    work = 0
    begun = 0

    async def steady(stop: asyncio.Event) -> None:
        nonlocal begun, work
        begun += 1
        while not stop.is_set():
            work += 1
            await asyncio.sleep(0)

    def enough() -> None:
        if work > 12:
            stop.set()

    async def frail(_stop: asyncio.Event) -> None:
        enough()
        raise ZeroDivisionError

    supervisor = Supervisor(clock, {"frail": frail, "steady": steady})

    await served(supervisor, stop)

    assert (begun, supervisor.watched["steady"].restarts) == (1, 0)
    assert supervisor.watched["frail"].restarts > 3
    assert len(pauses.taken) == supervisor.watched["frail"].restarts


async def test_stop_ends_every_loop(clock: Hands) -> None:
    stop = asyncio.Event()
    ended: list[str] = []
    started = asyncio.Event()

    def named(name: str) -> Loop:
        async def loop(stop: asyncio.Event) -> None:
            if name == "c":
                started.set()
            await stop.wait()
            ended.append(name)

        return loop

    supervisor = Supervisor(clock, {name: named(name) for name in "abc"})
    serving = asyncio.create_task(served(supervisor, stop))
    await until(started)

    stop.set()
    await serving

    assert sorted(ended) == ["a", "b", "c"]
    assert {w.state for w in supervisor.watched.values()} == {"stopped"}
    assert supervisor.healthy


async def test_stop_does_not_wait_for_a_pause_to_end(clock: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff", lambda _failures: 3600.0)
    stop, died = asyncio.Event(), asyncio.Event()
    supervisor = Supervisor(clock, {"frail": dying(2, lambda: None, died.set)})
    serving = asyncio.create_task(served(supervisor, stop))
    await until(died)

    stop.set()
    await serving

    assert (supervisor.watched["frail"].state, supervisor.watched["frail"].restarts) == ("stopped", 1)


async def test_a_pause_ends_by_itself(monkeypatch: pytest.MonkeyPatch, clock: Hands) -> None:
    monkeypatch.setattr(module, "backoff", lambda _failures: 0.001)
    stop = asyncio.Event()
    supervisor = Supervisor(clock, {"frail": dying(3, stop.set)})

    await served(supervisor, stop)

    assert supervisor.watched["frail"].restarts == 3


async def test_whoever_cancels_the_supervisor_cancels_every_loop(clock: Hands) -> None:
    ended: list[str] = []
    started = asyncio.Event()

    async def stubborn(_stop: asyncio.Event) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stubborn")

    serving = asyncio.create_task(Supervisor(clock, {"s": stubborn}).serve(asyncio.Event()))
    await until(started)

    serving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await serving
    assert ended == ["stubborn"]


async def _nothing(_stop: asyncio.Event) -> None:
    return


async def _a_moment(_stop: asyncio.Event) -> None:
    await asyncio.sleep(0)


async def _cancelled(_stop: asyncio.Event) -> None:
    """A loop that waited for something which somebody else cancelled."""
    nobody = asyncio.get_running_loop().create_future()
    nobody.cancel()
    await nobody


@pytest.mark.parametrize("end", [_nothing, _a_moment, _cancelled])
async def test_a_loop_that_ends_quietly_before_its_time_is_as_good_as_dead(
    clock: Hands, pauses: Pauses, end: Callable[[asyncio.Event], Awaitable[None]]
) -> None:
    """It is seen, and started again, and only after a pause: else it would take the processor for itself."""
    stop = asyncio.Event()
    begun = 0

    async def quiet(stop: asyncio.Event) -> None:
        nonlocal begun
        begun += 1
        if begun == 4:
            stop.set()
            return
        await end(stop)

    async def doctor(stop: asyncio.Event) -> None:
        for _ in range(200):
            await asyncio.sleep(0)
        stop.set()  # the patient did not come back

    supervisor = Supervisor(clock, {"quiet": quiet, "doctor": doctor})

    await served(supervisor, stop)

    assert begun == 4
    assert pauses.taken == [1, 2, 4]
    assert supervisor.watched["quiet"].restarts == 3
    assert supervisor.watched["quiet"].last_error is not None
    assert supervisor.watched["doctor"].restarts == 0
