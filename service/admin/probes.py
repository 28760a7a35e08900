"""/livez, /readyz, /startupz, /metrics and the contract: for machines, without authentication."""

from pathlib import Path

import asyncpg
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from service.admin.access import error
from service.admin.deps import DEPS
from service.store import queries

_SQL = queries.load(__file__)

CONTRACT = Path(__file__).parents[2] / "openapi.yaml"

routes = web.RouteTableDef()


@routes.get("/livez")
async def livez(_request: web.Request) -> web.Response:
    """The event loop turns. Asks nobody, so that a slow database does not get the process killed."""
    return web.json_response({"success": True})


@routes.get("/startupz")
async def startupz(request: web.Request) -> web.Response:
    """The start is over."""
    return web.json_response({"success": True}) if request.app[DEPS].started() else error(503, "starting")


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Work can be done now."""
    deps = request.app[DEPS]
    if not deps.started():
        return error(503, "starting")
    await deps.pool.fetchval("SELECT 1", timeout=2)
    problem = await deps.ready() if deps.ready else None
    return error(503, problem) if problem else web.json_response({"success": True})


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Prometheus text."""
    deps = request.app[DEPS]
    text = generate_latest(deps.registry) + generate_latest(await _measured(deps.pool))
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _measured(pool: asyncpg.Pool) -> CollectorRegistry:
    """The ledger as it stands; without the database only ``jobs_database_up 0``."""
    registry = CollectorRegistry()
    up = Gauge("jobs_database_up", "Whether the database answered this scrape", registry=registry)
    names = ["what", "job", "state"]
    backlog = Gauge(
        "jobs_backlog", "Runs and deliveries that wait or are under way", names, registry=registry
    )
    age = Gauge("jobs_last_success_age_seconds", "Since a job last succeeded", ["job"], registry=registry)
    try:
        for row in await pool.fetch(_SQL["backlog"], timeout=5):
            backlog.labels(row["what"], row["job"], row["state"]).set(row["n"])
        for row in await pool.fetch(_SQL["successes"], timeout=5):
            age.labels(row["job"]).set(row["age"])
        up.set(1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        up.set(0)
    return registry


@routes.get("/api/openapi.yaml")
async def openapi(_request: web.Request) -> web.Response:
    """The contract that a test holds against the routes, both ways."""
    return web.Response(text=CONTRACT.read_text("utf-8"), content_type="application/yaml")
