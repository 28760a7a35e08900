"""What it takes to ask why: an explainer on a world, its slots, and what people chose and got before."""

import asyncio
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from service.engine.job import TimeMode
from service.engine.runner import Runner
from service.engine.trigger import Timing, TriggerLoop, timing_of
from service.messages.explain import Explainer
from service.messages.kind import MessageKind
from tests.given import World


def timings(world: World, mode: TimeMode) -> dict[str, Timing]:
    return {id_: timing_of(job, mode=mode) for id_, job in world.jobs.items()}


@dataclass
class Asking:
    """The slots of a world, a runner that carries out their runs, and an explainer, on the same clock."""

    runner: Runner
    trigger: TriggerLoop
    explainer: Explainer

    @classmethod
    async def of(
        cls, world: World, mode: TimeMode = TimeMode.USER, zone: str = "UTC", **changes: Any
    ) -> "Asking":
        """``changes``: of the runner."""
        ledger, clocks = await world.ledger(), timings(world, mode)
        runner = await world.runner(clock_zone=zone if mode is TimeMode.SERVICE else None, **changes)
        return cls(
            runner,
            TriggerLoop(ledger, world.jobs, clocks, ZoneInfo(zone), asyncio.Event()),
            Explainer(world.pool, runner, world.jobs, clocks, ZoneInfo(zone), world.planning(**changes)),
        )

    async def sweep(self) -> None:
        """Decide the slots that are due now, and carry out their runs."""
        await self.trigger.sweep_once()
        while await self.runner.run_one():
            continue


async def set_for(world: World, who: str, **values: Any) -> None:
    """What somebody chose on the preference page."""
    await world.pool.execute(
        f"INSERT INTO service.recipient_setting (user_id, {', '.join(values)})"
        f" VALUES ($1, {', '.join(f'${n}' for n in range(2, len(values) + 2))})",
        who,
        *values.values(),
    )


async def planned_before(
    world: World, who: str, kind: MessageKind, day: str, channel: str = "email", key: str | None = None
) -> None:
    """A message that was sent to somebody on a local date."""
    await world.pool.execute(
        "INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template,"
        " locale, facts, message_id, message_date, token, not_before, expires_at, state)"
        " VALUES ($1, $2, 'reminder.other', $3, $4, 'UTC', $5::text::date, 'x', 'en', '{}', $1,"
        " service.now(), $1 || $2, service.now(), service.now() + interval '1 day', 'sent')",
        key or f"other:{who}:{kind}:{day}",
        channel,
        str(kind),
        who,
        day,
    )
