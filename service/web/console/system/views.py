"""/console/system: processes, mail, dashboard, statistics, versions, migrations and settings.

Here operators have the whole dashboard read again, and confirm that it lost rows on purpose.
"""

import platform
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from service.analytics import figures
from service.dashboard import reconciliation
from service.dashboard.profiles.shapes import Collection
from service.engine import queries
from service.web import audit, params
from service.web.api.sync import confirm_loss, request_full
from service.web.auth import HttpRefusal
from service.web.console.analytics.labels import WORDS, moment
from service.web.console.pages import health_of, page, see_other
from service.web.deps import DEPS

_SQL = queries.load(__file__)

NO_VITALS = dict.fromkeys(
    (
        *("rssBytes", "cpuPercent", "loopLagMs", "poolBusy", "poolSize", "postgresPingMs", "dashboardPingMs"),
        *("requests", "errors"),
    )
)
"""The vitals of a process that has not reported any yet."""

_MAX_REASON = 500

routes = web.RouteTableDef()


@routes.get("/console/system")
async def system(request: web.Request) -> web.Response:
    """The system page. Mail, loops and schema are those of the process that answers the request."""
    deps = request.app[DEPS]
    health = await health_of(request)
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
        losses=await reconciliation.open_losses(deps.pool),
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


# ── The copy of the dashboard ───────────────────────────────────────────────────────────────────────────────


@routes.post("/console/system/full-sync")
async def read_again(request: web.Request) -> web.Response:
    """Have every row of the dashboard read again."""
    actor, reason = _who_and_why(request, await params.form(request))
    async with audit.transaction(request) as connection:
        await request_full(connection, actor, reason)
    return _back(request)


@routes.post("/console/system/confirm-loss")
async def confirm(request: web.Request) -> web.Response:
    """Confirm that the rows which a table misses, as many as the page showed, were deleted on purpose."""
    form = await params.form(request)
    actor, reason = _who_and_why(request, form)
    table, rows = form.get("table", ""), form.get("rows", "")
    if table not in set(Collection) or not (rows.isascii() and rows.isdigit() and len(rows) < 19):
        raise HttpRefusal(400, "The form does not say which rows are gone; open the page again")
    async with audit.transaction(request) as connection:
        await confirm_loss(connection, table, actor, reason, int(rows))
    return _back(request)


def _who_and_why(request: web.Request, form: Mapping[str, str]) -> tuple[str, str]:
    """The actor for the audit log, and the reason. Raises HttpRefusal if one is missing."""
    name, reason = form.get("who", "").strip()[:100], form.get("reason", "").strip()[:_MAX_REASON]
    if not name or not reason:
        raise HttpRefusal(400, "Say who does it and why: others will ask")
    return audit.actor(request, name), reason


def _back(request: web.Request) -> web.Response:
    request.app[DEPS].wake_sync()
    return see_other("/console/system#dashboard")


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────


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
