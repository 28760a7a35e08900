"""How the statistics are kept: take in what changed, fill what is missing, derive again what is stale.

Every loop is a row of short steps under the run's fence; stopped between any two, it goes on where it was.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from service.analytics import rollups, user_profiles
from service.analytics.anomaly import series
from service.analytics.anomaly.series import SeriesFamily
from service.analytics.statistic import CALENDARS, Statistic
from service.engine.context import RunContext
from service.errors import NotYet

_PEOPLE = 250


@dataclass(frozen=True, slots=True)
class AnalyticsSettings:
    """``service_zone``: the IANA zone of service days. ``dashboard_metrics``: the counters of the dashboard's
    own answers (requests, seconds, errors), or the ``reason`` why there are none; None: it was not said where
    they are.
    """

    service_zone: str = "UTC"
    dashboard_metrics: Callable[[], Awaitable[dict[str, Any]]] | None = None


def _service_zone(context: RunContext) -> str:
    return context.resources[AnalyticsSettings].service_zone


def last_period(context: RunContext, statistic: Statistic) -> datetime:
    """The last period that is over at the tick, by the statistic's clock."""
    zone = UTC if statistic is Statistic.BEHAVIOUR else context.tick.zone_of(_service_zone(context))
    return CALENDARS[statistic].before(context.tick.as_of.astimezone(zone).replace(tzinfo=None))


async def absorb(context: RunContext) -> None:
    """Rebuild every stale (user, local day)."""
    days = rollups.STALE_DAYS_A_STEP
    while days == rollups.STALE_DAYS_A_STEP:
        async with context.step() as connection:
            found = await rollups.absorb(connection)
            counts = {"staleDays": found.days, "changedDays": found.changed}
            await context.advance(connection, context.cursor, found.days, counts)
        days = found.days


async def fill(context: RunContext, statistic: Statistic) -> None:
    """Derive every missing period up to the last that is over, oldest first; one that is there, again."""
    target = last_period(context, statistic)
    async with context.step() as connection:
        await rollups.again(connection, statistic, target)
        missing = await rollups.begin(connection, statistic, target)
    while missing:
        async with context.step() as connection:
            found = await rollups.fill(connection, statistic, target, _service_zone(context))
            await context.advance(connection, context.cursor, found.periods, {f"{statistic}New": found.new})
        async with context.step() as connection:
            missing = await rollups.begin(connection, statistic, target)


async def revise(context: RunContext, statistics: Iterable[Statistic] = Statistic) -> None:
    """Derive again what late, edited or deleted data touched, and what was provisional until now."""
    for statistic in statistics:
        periods = 1
        while periods:
            async with context.step() as connection:
                found = await rollups.revise(connection, statistic, _service_zone(context))
                await context.advance(
                    connection, context.cursor, found.periods, {f"{statistic}Revised": found.revised}
                )
            periods = found.periods


async def require_daily(context: RunContext, last: datetime) -> None:
    """Raise NotYet unless dailyAnalytics has been through the date of ``last`` (naive)."""
    async with context.step() as connection:
        through = await rollups.watermark(connection, Statistic.DAILY)
    wanted = datetime.combine(last.date(), time())
    if through is None or through < wanted:
        raise NotYet(f"waits for dailyAnalytics of {wanted.date().isoformat()}")


async def watch(context: RunContext, family: SeriesFamily, until: datetime) -> None:
    """Let the detector judge what came to each series of a family, up to ``until`` (aware, exclusive)."""
    for column in family.measures:
        async with context.step() as connection:
            found = await series.watch(connection, family, column, until)
            counts = {"points": found.points, "anomalies": found.opened}
            await context.advance(connection, context.cursor, found.points, counts)


async def profiles(context: RunContext) -> None:
    """Make the profiles of whoever was active lately, in user order; the cursor is the last of them."""
    as_of = context.tick.as_of.astimezone(UTC).date()
    while True:
        async with context.step() as connection:
            users = await user_profiles.due(connection, as_of, context.cursor, _PEOPLE)
            if not users:
                return
            changed = await user_profiles.make_profiles(connection, users, as_of)
            await context.advance(connection, users[-1], len(users), {"profiles": changed})


async def portraits(context: RunContext, month: date) -> None:
    """Everybody's insights of a local month and of those before that have none, and the churn models."""
    async with context.step() as connection:
        months = await user_profiles.months_to_portray(connection, month)
    for one in months:
        await _portrait(context, one)


async def _portrait(context: RunContext, month: date) -> None:
    period = datetime.combine(month, time())
    last = CALENDARS[Statistic.MONTHLY].following(period).date() - timedelta(days=1)
    async with context.step() as connection:
        found = await user_profiles.everybodys_insights(connection, month)
        await rollups.put(connection, "insights", {period: found})
        await rollups.put(connection, "churnModel", {period: await user_profiles.fit_churn(connection, last)})
        await context.advance(connection, context.cursor, 1, {"insights": len(found["insights"])})


async def keep(context: RunContext, statistic: Statistic) -> None:
    """The whole turn of a weekly or monthly statistic."""
    await require_daily(
        context, CALENDARS[statistic].following(last_period(context, statistic)) - timedelta(days=1)
    )
    await absorb(context)
    await fill(context, statistic)
    await revise(context, [statistic])
