"""/console/system: processes, mail, dashboard, statistics, versions, migrations and settings."""

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
"""The vitals of a process that has not reported any yet."""

routes = web.RouteTableDef()


@routes.get("/console/system")
async def system(request: web.Request) -> web.Response:
    """The system page. Mail, loops and schema are those of the process that answers the request."""
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
    """The details of a health check; None: this process does not have it."""
    details: Mapping[str, Any] | None = checks.get(name, {}).get("details")
    return details


def setting_text(value: Any) -> str:
    """A setting as text; of a secret only whether it is set."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {item}" for name, item in value.items()) or "not set"
    if value in ("", None):
        return "not set"
    return "set" if value == "(set)" else str(value)
