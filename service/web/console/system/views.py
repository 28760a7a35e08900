"""/console/system: the processes, what they rest on, how far they have come, and how they are configured."""

import platform
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from service.analytics import figures
from service.engine import queries
from service.web.console.analytics.labels import WORDS, moment
from service.web.console.pages import page
from service.web.deps import DEPS

_SQL = queries.load(__file__)

NO_VITALS = dict.fromkeys(
    (
        *("rssBytes", "cpuPercent", "loopLagMs", "poolBusy", "poolSize", "postgresPingMs", "dashboardPingMs"),
        *("requests", "errors"),
    )
)
"""Vital signs of a process that told none yet."""

routes = web.RouteTableDef()


@routes.get("/console/system")
async def system(request: web.Request) -> web.Response:
    """Everything on one page. What one process alone knows (mail, loops, schema) is told by the one asked."""
    deps = request.app[DEPS]
    health = await deps.manager.health_check()
    rows: dict[str, Any] = {name: await deps.pool.fetch(_SQL[name]) for name in _SQL}
    [versions] = rows.pop("versions")
    rows["replicas"] = [dict(row) | {"vitals": NO_VITALS | row["vitals"]} for row in rows["replicas"]]
    checks = health["checks"]
    return page(
        request,
        "system.html",
        health=health,
        checks=checks,
        mail=_details(checks, "mail"),
        dashboard=_details(checks, "dashboard"),
        loops=_details(checks, "loops") or {},
        watermarks=await figures.watermarks(deps.pool),
        settings={name.upper(): setting_text(value) for name, value in deps.settings.items()},
        versions={
            "Service": deps.version,
            "Python": platform.python_version(),
            "PostgreSQL": versions["postgres"],
            "Size of our database": versions["size"],
        },
        now=versions["now"],
        instant=lambda text: moment(datetime.fromisoformat(text) if text else None),
        **(rows | WORDS),
    )


def _details(checks: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """What a check tells; None: it is not among those of this process."""
    details: Mapping[str, Any] | None = checks.get(name, {}).get("details")
    return details


def setting_text(value: Any) -> str:
    """A setting as people read it; what is empty, and a secret's value, is only said to be (not) set."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {item}" for name, item in value.items()) or "not set"
    if value in ("", None):
        return "not set"
    return "set" if value == "(set)" else str(value)
