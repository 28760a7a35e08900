"""/console: the overview: what is wrong and what to do, or that all is well."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from service.engine import queries
from service.web.console.jobs.calendar import JobClock, NextSlot, next_slot
from service.web.console.jobs.views import clocks, job_ids
from service.web.console.overview.troubles import problems_of, spark, streak
from service.web.console.pages import database_now, fetch, health_of, page
from service.web.deps import DEPS

_SQL = queries.load(__file__)
_REFRESH = 15
"""Seconds between two refreshes."""
_REFRESH_WITHOUT_SCRIPT = 60
"""Seconds between two reloads of the whole page in a browser without scripts."""

routes = web.RouteTableDef()


@routes.get("/console")
async def overview(request: web.Request) -> web.Response:
    """The overview, which refreshes itself."""
    deps = request.app[DEPS]
    health = await health_of(request)
    now = await database_now(request)
    rows = await fetch(request, _SQL["jobs"], list(job_ids(deps.manager)))
    clocks_ = await clocks(deps, rows)
    next_slots = await asyncio.to_thread(_next_slots, clocks_, now)
    replicas = await deps.manager.replicas()
    alerts, anomalies = await fetch(request, _SQL["alerts"]), await fetch(request, _SQL["anomalies"])
    unconfirmed = await deps.pool.fetchval(_SQL["unconfirmed"])
    return page(
        request,
        "overview.html",
        watch=_REFRESH_WITHOUT_SCRIPT,
        every=_REFRESH,
        now=now,
        problems=problems_of(health, replicas, alerts, anomalies, unconfirmed),
        jobs=[
            _job_card(row, clocks_[row["job"]], next_slots[row["job"]])
            for row in _ordered(deps.manager, rows)
        ],
        channels=_by_channel(await fetch(request, _SQL["today"], str(deps.service_zone))),
        oldest=min((row["oldest"] for row in rows if row["oldest"]), default=None),
        through=min((row["materialized_through"] for row in rows), default=None),
        replicas=replicas,
        leases={row["owner"]: row["n"] for row in await fetch(request, _SQL["leases"])},
        alerts=alerts,
        anomalies=anomalies,
    )


def _next_slots(clocks_: Mapping[str, JobClock], now: datetime) -> dict[str, NextSlot | None]:
    return {job: next_slot(clock, now) for job, clock in clocks_.items()}


def _ordered(manager: Any, rows: Sequence[Any]) -> list[Any]:
    order = list(job_ids(manager))
    return sorted(rows, key=lambda row: order.index(row["job"]))


def _job_card(row: Mapping[str, Any], clock: JobClock, next_slot_: NextSlot | None) -> dict[str, Any]:
    job_type, _, name = row["job"].partition(".")
    return {
        **row,
        "type": job_type,
        "name": name,
        "schedule": clock.description,
        "next": next_slot_,
        "streak": streak(row["states"]),
        "spark": spark(row["seconds"]),
    }


def _by_channel(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {"email": {}, "in_app": {}}
    for row in rows:
        counts[row["channel"]][row["state"]] = row["n"]
    return counts
