"""/api/admin/gates: what is stopped, and stopping and releasing it by hand."""

from collections.abc import Mapping

import asyncpg
from aiohttp import web

from service.engine import gates
from service.engine.gates import Gate, Scope
from service.errors import BadRequest
from service.messages.reminder import kinds_of
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS, AdminDeps
from service.web.idempotency import Answer, once
from service.zones import iso, iso_or_none

routes = web.RouteTableDef()


@routes.get("/api/admin/gates")
async def listing(request: web.Request) -> web.Response:
    """The gates that are shut now."""
    shut = await gates.current(request.app[DEPS].pool)
    return web.json_response({"success": True, "data": [_json(gate) for gate in shut]})


@routes.post("/api/admin/gates")
async def shut(request: web.Request) -> web.Response:
    """Shut a gate: what it covers waits until it is opened."""
    body = await params.read(request, params.GateBody)
    scope, name = Scope(body.scope), _name(request.app[DEPS], body)

    async def act(connection: asyncpg.Connection) -> Answer:
        gate = await gates.shut_by_hand(
            connection, scope, name, audit.actor(request), body.reason, body.until
        )
        return 200, {"success": True, "id": gate}

    return await once(request, act)


@routes.post("/api/admin/gates/{id}/open")
async def open_gate(request: web.Request) -> web.Response:
    """Open a gate, whatever shut it."""
    gate = params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        if not await gates.open_by_hand(connection, gate, audit.actor(request)):
            raise HttpRefusal(409, "The gate is open, or there is none")
        return 200, {"success": True}

    return await once(request, act)


def _name(deps: AdminDeps, body: params.GateBody) -> str:
    """What the gate is about, as the claims know it. Raises BadRequest for something that does not exist."""
    given = body.name.strip()
    if body.scope == "all":
        if given:
            raise BadRequest("A gate on everything has no name")
        return ""
    if body.scope == "domain":
        if not given or "@" in given:
            raise BadRequest("Name a domain, such as example.org")
        return given.lower()
    known: Mapping[str, str] = (
        {short: id_ for id_ in deps.jobs for short in (id_, id_.partition(".")[2])}
        if body.scope == "job"
        else {kind: kind for kind in kinds_of(deps.jobs)}
    )
    if given not in known:
        raise BadRequest(
            f"There is no {body.scope} {given!r}; there are {', '.join(sorted(set(known.values())))}"
        )
    return known[given]


def _json(gate: Gate) -> dict[str, object]:
    return {
        "id": gate.id,
        "scope": gate.scope,
        "name": gate.name,
        "cause": gate.cause,
        "since": iso(gate.since),
        "until": iso_or_none(gate.until),
        "by": gate.by,
        "details": dict(gate.details),
        "probeAt": iso_or_none(gate.probe_at),
    }
