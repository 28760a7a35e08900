"""/livez, /readyz, /startupz, /metrics and the contract: for machines, without authentication."""

from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.admin.access import error
from service.admin.deps import DEPS

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
    return web.Response(
        body=generate_latest(request.app[DEPS].registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


@routes.get("/api/openapi.yaml")
async def openapi(_request: web.Request) -> web.Response:
    """The contract that a test holds against the routes, both ways."""
    return web.Response(text=CONTRACT.read_text("utf-8"), content_type="application/yaml")
