"""/api/admin/forecast: how many messages each reminder will send, by hour."""

from aiohttp import web

from service.errors import BadRequest
from service.web import params
from service.web.deps import DEPS

routes = web.RouteTableDef()


@routes.get("/api/admin/forecast")
async def forecast(request: web.Request) -> web.Response:
    """An upper bound for every job; with ``exact`` what one job would send at its next slot."""
    params.check_parameters(request, frozenset({"days", "job", "exact"}))
    forecaster = request.app[DEPS].forecaster
    days, name = params.number(request, "days", 7, minimum=1, maximum=31) or 7, request.query.get("job")
    if params.one_of(request, "exact", frozenset({"true", "false"})) != "true":
        data = await forecaster.upper_bound(days, name)
    elif not name:
        raise BadRequest("exact needs job: asking everybody is for one job and its next slot")
    else:
        data = await forecaster.exact(name)
    return web.json_response({"success": True, "data": data})
