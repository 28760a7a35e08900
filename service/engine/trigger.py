"""The trigger: decides slots as they come due.

aiocron only wakes the sweep: it reads the wall clock once, fires in every process and forgets what was due
while the process was down. The ledger says what is due, and the sweep also runs at a fixed interval. Without
aiocron the service is late by up to one sweep, never wrong.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import aiocron
import structlog

from service.engine.fault_log import FaultLog
from service.engine.job import CatchUp, Job, TimeMode
from service.engine.ledger import Ledger
from service.engine.loops import first_of
from service.engine.run import PlannedRun, Trigger
from service.engine.schedule import Schedule, Slot, to_instant
from service.engine.useful_hours import useful_hours
from service.zones import zone_of

log = structlog.get_logger()

_EVERY_MINUTE = "* * * * *"
_LATE = timedelta(minutes=2)
_CLOCK_STEP = 1.0
_LOOK_BACK = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a job is due and in which zone; see ``timing_of``. ``hours``: those that people may choose
    instead. Who chose another one gets the usual time."""

    schedule: Schedule
    mode: TimeMode
    hours: frozenset[int] = frozenset()

    def of(self, group: str, service_zone: ZoneInfo) -> tuple[Schedule, ZoneInfo]:
        """The schedule and zone of a slot group: ``Europe/Berlin@7`` is due at seven.

        Only user-local jobs have groups.
        """
        if self.mode is not TimeMode.USER:
            return self.schedule, service_zone if self.mode is TimeMode.SERVICE else ZoneInfo("UTC")
        zone, _, hour = group.partition("@")
        chosen = hour and int(hour) in self.hours
        return self.schedule.at_hour(int(hour)) if chosen else self.schedule, zone_of(zone)


def timing_of(job: Job, schedule: Schedule | None = None, mode: TimeMode | None = None) -> Timing:
    """A job's timing, by its own schedule and clock where no others are given."""
    schedule, mode = schedule or Schedule.parse(job.schedule), mode or job.mode
    hours = useful_hours(job, schedule) if job.own_hours and mode is TimeMode.USER else frozenset[int]()
    return Timing(schedule, mode, hours)


def planned_runs(
    timing: Timing,
    job: Job,
    groups: Sequence[str],
    service_zone: ZoneInfo,
    after: datetime,
    until: datetime,
) -> list[PlannedRun]:
    """What becomes of every slot in (after, until]: pending, or missed with a reason.

    A user-local job gets one run per instant for all ``groups`` whose slot it is (see ``slot_groups``).
    Slots older than 400 days are not enumerated.
    """
    after = max(after, until - _LOOK_BACK)
    if timing.mode is TimeMode.USER:
        return _by_instant(timing, job, groups, service_zone, after, until)
    schedule, zone = timing.of("", service_zone)
    judged = _judge(list(schedule.slots(zone, after, until)), zone, job, until)
    return [_planned(slot, None, reason, deadline, until) for slot, reason, deadline in judged]


def _by_instant(
    timing: Timing,
    job: Job,
    groups: Sequence[str],
    service_zone: ZoneInfo,
    after: datetime,
    until: datetime,
) -> list[PlannedRun]:
    """One run per instant, as the ledger holds one row per (job, instant).

    Zones may share an instant under different wall clocks: an hourly slot, or 09:00 on two dates where zones
    lie 24 hours apart. Zones with a slot to run take precedence over those that missed it.
    """
    by_instant: dict[datetime, list[tuple[str, Slot, str | None, datetime]]] = defaultdict(list)
    for name in sorted(groups):
        schedule, zone = timing.of(name, service_zone)
        for slot, reason, deadline in _judge(list(schedule.slots(zone, after, until)), zone, job, until):
            by_instant[slot.at].append((name, slot, reason, deadline))
    return [_shared(by_instant[at], until) for at in sorted(by_instant)]


def _shared(entries: list[tuple[str, Slot, str | None, datetime]], now: datetime) -> PlannedRun:
    chosen = [entry for entry in entries if entry[2] is None] or entries
    names = tuple(dict.fromkeys(name for name, _, _, _ in chosen))
    deadline = max(end for _, _, _, end in chosen)
    return _planned(min(slot for _, slot, _, _ in chosen), names, chosen[0][2], deadline, now)


def _judge(
    slots: list[Slot], zone: ZoneInfo, job: Job, now: datetime
) -> list[tuple[Slot, str | None, datetime]]:
    """Each slot of one zone with the reason why it is missed (None: it is run) and its deadline."""
    judged = []
    for index, slot in enumerate(slots):
        deadline = to_instant(job.useful_until(slot.local), zone)
        superseded = job.catch_up is CatchUp.LATEST and index < len(slots) - 1
        reason = "too late" if now > deadline else "superseded by a later slot" if superseded else None
        judged.append((slot, reason, deadline))
    return judged


def _planned(
    slot: Slot, zones: tuple[str, ...] | None, reason: str | None, deadline: datetime, now: datetime
) -> PlannedRun:
    missed = reason is not None
    return PlannedRun(slot.at, slot.local, zones, trigger_at(slot.at, now), missed, reason, deadline)


def trigger_at(slot: datetime, now: datetime) -> Trigger:
    """The trigger of a slot that is decided at ``now``: cron, or a catch-up if it is late."""
    return Trigger.CATCHUP if now - slot > _LATE else Trigger.CRON


def slot_groups(places: Iterable[tuple[str, Mapping[str, int]]], own_hours: str | None) -> list[str]:
    """The slot groups of a job: ``Europe/Berlin``, and ``Europe/Berlin@7`` for those who chose seven."""
    chosen = ((zone, None if own_hours is None else hours.get(own_hours)) for zone, hours in places)
    return sorted({zone if hour is None else f"{zone}@{hour}" for zone, hour in chosen})


class TriggerLoop:
    """Decides slots as they come due. ``wake`` is set when there is something to run.

    ``clock_trusted``: asked before each sweep; while it says no, nothing is decided.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: dict[str, Job],
        timings: dict[str, Timing],
        service_zone: ZoneInfo,
        wake: asyncio.Event,
        *,
        sweep: float = 10.0,
        use_crons: bool = True,
        clock_trusted: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._timings = timings
        self._service_zone = service_zone
        self._wake = wake
        self._sweep = sweep
        self._use_crons = use_crons
        self._clock_trusted = clock_trusted
        self._ring = asyncio.Event()
        self._crons: list[aiocron.Cron] = []
        self._anchor = 0.0
        self._closed: frozenset[str] = frozenset()
        self._fault = FaultLog("slots cannot be decided", level="error")

    async def sweep_once(self) -> int:
        """Decide every slot that is due now, for all jobs. Returns the number of ledger rows written."""
        if self._clock_trusted and not await self._clock_trusted():
            return 0
        places = await self._ledger.places()
        count = failed = 0
        for id_, job in self._jobs.items():
            timing = self._timings[id_]
            groups = slot_groups(places, job.own_hours)
            plan = partial(planned_runs, timing, job, groups, self._service_zone)
            try:
                count += await self._ledger.materialise(id_, plan)
            except Exception as error:  # noqa: BLE001 — the slots of other jobs are decided nevertheless
                failed += 1
                self._fault.occurred(error, job=id_)
        if not failed:
            self._fault.over()
        if count:
            log.info("slots decided", runs=count)
        await self._close_schedules()
        self._wake.set()
        return count

    async def _close_schedules(self) -> None:
        closed = frozenset(await self._ledger.close_schedules())
        if new := closed - self._closed:
            log.warning("standing down: other processes have another schedule", jobs=sorted(new))
        self._closed = closed

    async def serve(self, stop: asyncio.Event) -> None:
        """Sweep when a cron fires and every ``sweep`` seconds until ``stop``."""
        self._start_crons()
        try:
            while not stop.is_set():
                self._ring.clear()  # before the sweep: a cron that fires during it causes another
                await self.sweep_once()
                await first_of(self._sweep, stop, self._ring)
                self._restart_crons_if_the_clock_moved()
        finally:
            self._stop_crons()

    def _start_crons(self) -> None:
        loop = asyncio.get_running_loop()
        self._anchor = time.time() - loop.time()
        if not self._use_crons:
            return
        for timing in self._timings.values():
            expression = _EVERY_MINUTE if timing.mode is TimeMode.USER else timing.schedule.expression
            zone = self._service_zone if timing.mode is TimeMode.SERVICE else UTC
            cron = aiocron.Cron(expression, self._ring.set, start=False, loop=loop, tz=zone)
            cron.start()
            self._crons.append(cron)

    def _restart_crons_if_the_clock_moved(self) -> None:
        """aiocron computes its times from one reading of the wall clock; a clock step makes them wrong."""
        moved = time.time() - asyncio.get_running_loop().time() - self._anchor
        if abs(moved) > _CLOCK_STEP:
            log.warning("the clock moved; bells are hung anew", seconds=round(moved, 1))
            self._stop_crons()
            self._start_crons()

    def _stop_crons(self) -> None:
        for cron in self._crons:
            cron.stop()
        self._crons.clear()
