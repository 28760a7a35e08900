"""/livez, /readyz, /startupz and the contract: for machines, without authentication."""

from pathlib import Path

from aiohttp import web

from service.web import etag
from service.web.auth import error
from service.web.deps import DEPS, AdminDeps
from service.web.single_flight import SingleFlight

_DEADLINE = 2.0
_FRESH = 1.0
READY: web.AppKey[SingleFlight[str | None]] = web.AppKey("ready", SingleFlight)

_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "openapi.yaml"
# A wheel has the file inside the package (see pyproject.toml); in a checkout it lies beside the package.
CONTRACT = _PACKAGED if _PACKAGED.is_file() else _PACKAGE.parent / "openapi.yaml"

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
    """Work can be done now. Answers in time, also while the database hangs."""
    if not request.app[DEPS].started():
        return error(503, "starting")
    try:
        problem = await request.app[READY].ask()
    except TimeoutError:
        problem = f"the database has not answered within {_DEADLINE:.0f} seconds"
    return error(503, problem) if problem else web.json_response({"success": True})


def readiness_of(deps: AdminDeps) -> SingleFlight[str | None]:
    """Asks whether work can be done now: within 2 seconds, and at most once a second however many ask."""

    async def question() -> str | None:
        await deps.pool.fetchval("SELECT 1", timeout=_DEADLINE)
        return await deps.ready()

    return SingleFlight(question, deadline=_DEADLINE, fresh=_FRESH)


@routes.get("/api/openapi.yaml")
async def openapi(request: web.Request) -> web.Response:
    """The contract that a test holds against the routes, both ways."""
    return etag.answer(request, CONTRACT.read_text("utf-8"), "application/yaml", cached="no-cache")
