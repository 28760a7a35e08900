"""A scenario: a fault over a load, and how it is played."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.checks import Outcome, check, check_resources, copy_differs
from tests.chaos.servers import Servers
from tests.chaos.stage import SLOTS, Load, Stage
from tests.chaos.watch import Watch

Fault = Callable[[Stage], Awaitable[None]]
"""Breaks something, waits as long as that is to last, and mends it. Counts itself in ``stage.faults``."""
GREEN_WITHIN = 60.0
_DRAINED_WITHIN = 180.0
_COPIED_WITHIN = 60.0
_BACK_WITHIN = 30.0
_BEFORE = 8.0
_WAITING = """
SELECT job AS what, state, reason, count(*) AS n FROM service.job_run
WHERE (job = $1 OR trigger = 'manual') AND state IN ('pending', 'running') GROUP BY 1, 2, 3
UNION ALL
SELECT 'mails', state, reason, count(*) FROM service.delivery_with_state
WHERE channel = 'email' AND state IN ('planned', 'claimed', 'sending') GROUP BY 2, 3
"""
_HURRY = [
    f"UPDATE service.{table} SET not_before = service.now() WHERE state = $1 AND not_before > service.now()"
    for table in ("job_run", "delivery_state")
]
"""What waits for its next attempt need not be waited for: the pauses are tested elsewhere."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``red``: whether health must turn red while the fault lasts. ``held``: so many mails may be held, and
    four more (the connections) for each kill. ``every``: minutes from slot to slot that must be there.
    ``public``: the throughput must be back within 30 seconds. ``long``: part of the long form of the tests.
    ``expected``: why it fails, where that is known.
    """

    name: str
    fault: Fault
    load: Load = field(default_factory=Load)
    red: bool = False
    held: int = 0
    every: int = 1
    public: bool = False
    long: bool = True
    expected: str | None = None


async def play(servers: Servers, scenario: Scenario, seed: int, folder: Path) -> Outcome:
    """Play it, wait until all is done and green, and look at what came of it."""
    stage = Stage(servers, scenario.load, seed, folder)
    outcome = Outcome(scenario.name)
    now = asyncio.get_running_loop().time
    async with stage.begun(), Watch(stage).watching() as watch:
        if await watch.until_green(now(), GREEN_WITHIN) is None:
            outcome.problems.append(f"never green before the fault: {stage.trouble}")
            return outcome
        held = {replica.url: await replica.held() for replica in stage.replicas}
        async with stage.feeding():
            if scenario.public:
                await asyncio.sleep(_BEFORE)
            started = now()
            await scenario.fault(stage)
            ended = now()
            if scenario.public:
                await _until_back(watch, outcome, started, ended)
        outcome.faults, outcome.problems = stage.faults, stage.problems
        outcome.red = watch.red_after(started)
        outcome.green = await watch.until_green(ended, GREEN_WITHIN)
        await drain(stage, outcome)
        await _until_copied(stage, outcome)
        await stage.run_figures()
        await drain(stage, outcome)
        await check(stage, outcome, every=scenario.every)
        await check_resources(stage, outcome, held)
    if outcome.green is None:
        outcome.problems.append(f"not green within {GREEN_WITHIN:.0f} s: {stage.trouble}")
    if scenario.red and outcome.red is None:
        outcome.problems.append("never red")
    if outcome.held > scenario.held + 4 * stage.kills:
        outcome.problems.append(f"{outcome.held} mails are held, {scenario.held + 4 * stage.kills} may be")
    return outcome


async def _until_back(watch: Watch, outcome: Outcome, started: float, ended: float) -> None:
    """Wait until half of the throughput of before is back."""
    before = outcome.rate = round(watch.rate(started - _BEFORE, started), 1)
    now = asyncio.get_running_loop().time
    if not before:
        outcome.problems.append("nothing was done before the fault")
    while now() < ended + _BACK_WITHIN:
        await asyncio.sleep(0.5)
        if now() >= ended + 6 and watch.rate(now() - 6, now()) >= before / 2:
            outcome.back = round(now() - ended)
            return
    outcome.problems.append(f"throughput ({before:.1f}/s) not back within {_BACK_WITHIN:.0f} s")


async def _until_copied(stage: Stage, outcome: Outcome) -> None:
    """Wait until the copy holds the dashboard's sessions."""
    deadline = asyncio.get_running_loop().time() + _COPIED_WITHIN
    while n := await copy_differs(stage):
        if asyncio.get_running_loop().time() > deadline:
            outcome.problems.append(f"after {_COPIED_WITHIN:.0f} s {n} sessions differ from the copy")
            return
        await asyncio.sleep(0.5)


async def drain(stage: Stage, outcome: Outcome) -> None:
    """Wait until nothing is due and nothing under way."""
    deadline = asyncio.get_running_loop().time() + _DRAINED_WITHIN
    while waiting := await stage.sql(_WAITING, SLOTS):
        if asyncio.get_running_loop().time() > deadline:
            left = ", ".join(f"{n} {what} {state} ({reason})" for what, state, reason, n in waiting)
            outcome.problems.append(f"after {_DRAINED_WITHIN:.0f} s still {left}")
            return
        for hurry, state in zip(_HURRY, ("pending", "planned"), strict=True):
            await stage.sql(hurry, state)
        await asyncio.sleep(0.5)
