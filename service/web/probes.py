"""/livez, /readyz, /startupz and /api/openapi.yaml, without authentication."""

from pathlib import Path

from aiohttp import web

from service.engine.single_flight import SingleFlight
from service.web import etag
from service.web.auth import error
from service.web.deps import DEPS, AdminDeps

_DEADLINE = 2.0
_TTL = 1.0
READY: web.AppKey[SingleFlight[str | None]] = web.AppKey("ready", SingleFlight)

_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "openapi.yaml"
# A wheel has the file inside the package (see pyproject.toml); in a checkout it lies beside the package.
CONTRACT = _PACKAGED if _PACKAGED.is_file() else _PACKAGE.parent / "openapi.yaml"

routes = web.RouteTableDef()


@routes.get("/livez")
async def livez(_request: web.Request) -> web.Response:
    """Whether the event loop runs. No query: a slow database must not get the process killed."""
    return web.json_response({"success": True})


@routes.get("/startupz")
async def startupz(request: web.Request) -> web.Response:
    """Whether the service has started."""
    return web.json_response({"success": True}) if request.app[DEPS].started() else error(503, "starting")


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Whether the service can work now. Answers within a timeout even if the database hangs."""
    if not request.app[DEPS].started():
        return error(503, "starting")
    try:
        problem = await request.app[READY].get()
    except TimeoutError:
        problem = f"the database has not answered within {_DEADLINE:.0f} seconds"
    return error(503, problem) if problem else web.json_response({"success": True})


def readiness_of(deps: AdminDeps) -> SingleFlight[str | None]:
    """The readiness check: it takes at most 2 seconds, and runs at most once a second for all callers."""

    async def check() -> str | None:
        await deps.pool.fetchval("SELECT 1", timeout=_DEADLINE)
        return await deps.ready()

    return SingleFlight(check, deadline=_DEADLINE, ttl=_TTL)


@routes.get("/api/openapi.yaml")
async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI description; a test compares it with the routes."""
    return etag.answer(request, CONTRACT.read_text("utf-8"), "application/yaml", cached="no-cache")
