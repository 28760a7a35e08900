"""/api/admin/users/{id}/data: everything about one person, and its erasure."""

from aiohttp import web

from service.admin.access import Refused
from service.admin.deps import DEPS, ROLE, People

routes = web.RouteTableDef()


def _people(request: web.Request) -> People:
    people = request.app[DEPS].people
    if people is None:
        raise Refused(503, "This process keeps no people")
    return people


@routes.get("/api/admin/users/{id}/data")
async def export(request: web.Request) -> web.Response:
    """Everything that is stored, by table."""
    found = await _people(request).export(request.match_info["id"])
    return web.json_response({"success": True, "data": found})


@routes.delete("/api/admin/users/{id}/data")
async def erase(request: web.Request) -> web.Response:
    """Erase a person for good."""
    found = await _people(request).erase(request.match_info["id"], request[ROLE])
    return web.json_response({"success": True, "data": found})
