"""Keeps the statistics up to date: rebuilds stale days, derives missing periods and stale ones.

Every loop consists of short steps under the run's fence; if it is stopped between two, it continues there.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

from service.analytics import rollups, user_profiles
from service.analytics.anomaly import series
from service.analytics.anomaly.series import SeriesFamily
from service.analytics.anomaly.verdict import Cadence
from service.analytics.statistic import CALENDARS, WITH_MONTHS, Statistic
from service.engine.context import RunContext
from service.errors import NotYet

_PROFILES_PER_STEP = 250


@dataclass(frozen=True, slots=True)
class AnalyticsSettings:
    """``service_zone``: the IANA zone of service days. ``dashboard_metrics``: reads the dashboard's counters
    (requests, seconds, errors), or the ``reason`` for having none; None: no URL is configured.
    """

    service_zone: str = "UTC"
    dashboard_metrics: Callable[[], Awaitable[dict[str, Any]]] | None = None


def _service_zone(context: RunContext) -> str:
    return context.resources[AnalyticsSettings].service_zone


def last_period(context: RunContext, statistic: Statistic) -> datetime:
    """The last period that is over at the tick, in the statistic's zone."""
    zone = UTC if statistic is Statistic.BEHAVIOUR else context.tick.zone_of(_service_zone(context))
    return CALENDARS[statistic].before(context.tick.as_of.astimezone(zone).replace(tzinfo=None))


async def rebuild_stale_days(context: RunContext) -> None:
    """Rebuild every stale (user, local day)."""
    days, changed = rollups.STALE_DAYS_PER_STEP, 0
    while days == rollups.STALE_DAYS_PER_STEP:
        async with context.step() as connection:
            rebuilt = await rollups.rebuild_stale_days(connection)
            counts = {"staleDays": rebuilt.days, "changedDays": rebuilt.changed}
            await context.advance(connection, context.cursor, rebuilt.days, counts)
        days, changed = rebuilt.days, changed + rebuilt.changed
    if changed > rollups.STALE_DAYS_PER_STEP:
        async with context.step() as connection:
            await rollups.analyze_days(connection)


async def derive_missing(context: RunContext, statistic: Statistic) -> None:
    """Derive all missing periods up to the last one that is over, oldest first."""
    target = last_period(context, statistic)
    async with context.step() as connection:
        missing = await rollups.begin_batch(connection, statistic, target)
    while missing:
        async with context.step() as connection:
            derived = await rollups.derive_missing(connection, statistic, target, _service_zone(context))
            await context.advance(
                connection, context.cursor, derived.periods, {f"{statistic}New": derived.new}
            )
        async with context.step() as connection:
            missing = await rollups.begin_batch(connection, statistic, target)


async def derive_stale(context: RunContext, statistics: Iterable[Statistic] = Statistic) -> None:
    """Derive again the periods with late, edited or deleted data, and those that have become final."""
    for statistic in statistics:
        periods = 1
        while periods:
            async with context.step() as connection:
                derived = await rollups.derive_stale(connection, statistic, _service_zone(context))
                await context.advance(
                    connection, context.cursor, derived.periods, {f"{statistic}Revised": derived.revised}
                )
            periods = derived.periods


async def require_daily(context: RunContext, last: datetime) -> None:
    """Raise NotYet unless dailyAnalytics has derived the date of ``last`` (naive)."""
    async with context.step() as connection:
        through = await rollups.watermark(connection, Statistic.DAILY)
    required = datetime.combine(last.date(), time())
    if through is None or through < required:
        raise NotYet(f"waits for dailyAnalytics of {required.date().isoformat()}")


async def detect_anomalies(context: RunContext, family: SeriesFamily, until: datetime) -> None:
    """Judge the new and changed points of a family's series, up to ``until`` (aware, exclusive).

    What the copy of the dashboard does not have yet is unknown, and waits for a later run.
    """
    async with context.step() as connection:
        if family.copied:
            synced = await series.synced_through(connection, family)
            if synced is None:
                return
            until = min(until, _whole(synced, family.cadence, context.tick.zone_of(_service_zone(context))))
        judged = await series.detect(connection, family, until)
        counts = {"points": judged.points, "anomalies": judged.opened}
        await context.advance(connection, context.cursor, judged.points, counts)


def _whole(instant: datetime, cadence: Cadence, zone: tzinfo) -> datetime:
    """The end of the last hour, or date of the service, that was over then; dates are labelled in UTC."""
    if cadence is Cadence.HOUR:
        return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return datetime.combine(instant.astimezone(zone).date(), time(), UTC)


async def update_profiles(context: RunContext) -> None:
    """Compute the stale profiles and those of recently active users, by id; the cursor is the last id."""
    as_of = context.tick.as_of.astimezone(UTC).date()
    while True:
        async with context.step() as connection:
            await rollups.lock(connection)  # else a day rebuilt meanwhile would not mark a new profile
            users = await user_profiles.users_due(connection, as_of, context.cursor, _PROFILES_PER_STEP)
            if not users:
                return
            changed = await user_profiles.make_profiles(connection, users, as_of)
            await context.advance(connection, users[-1], len(users), {"profiles": changed})


async def update_statistic(context: RunContext, statistic: Statistic) -> None:
    """Bring a weekly or monthly statistic up to date. Raises NotYet while dailyAnalytics is behind."""
    await require_daily(
        context, CALENDARS[statistic].following(last_period(context, statistic)) - timedelta(days=1)
    )
    await rebuild_stale_days(context)
    await derive_missing(context, statistic)
    await derive_stale(context, [statistic])


async def update_months(context: RunContext) -> None:
    """Bring months up to date: figures, insights, churn models. Raises NotYet like ``update_statistic``."""
    await update_statistic(context, Statistic.MONTHLY)
    for statistic in WITH_MONTHS:
        await derive_missing(context, statistic)
    await derive_stale(context, WITH_MONTHS)
