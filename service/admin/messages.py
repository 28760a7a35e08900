"""Deliveries for the operator, and the in-app inbox for dashboards that have none."""

from typing import Any

import asyncpg
from aiohttp import web

from service.admin import body
from service.admin.access import Refused
from service.admin.deps import DEPS
from service.store import queries

_SQL = queries.load(__file__)
_STATES = frozenset(
    {"planned", "claimed", "sending", "sent", "failed", "unconfirmed", "skipped", "missed", "expired"}
    | {"cancelled", "bounced", "complained"}
)

routes = web.RouteTableDef()


@routes.get("/api/admin/deliveries")
async def deliveries(request: web.Request) -> web.Response:
    """Messages by user, job and state. No addresses: the user's id leads to them for those who may know."""
    return await _deliveries(request, body.one_of(request, "state", _STATES))


@routes.get("/api/admin/deliveries/unconfirmed")
async def unconfirmed(request: web.Request) -> web.Response:
    """Messages of which nobody knows whether the mail server took them: for a person to decide."""
    return await _deliveries(request, "unconfirmed")


async def _deliveries(request: web.Request, state: str | None) -> web.Response:
    size = body.limit(request)
    rows = await request.app[DEPS].pool.fetch(
        _SQL["deliveries"],
        request.query.get("user"),
        request.query.get("job"),
        state,
        body.before(request),
        size,
    )
    return web.json_response(
        {"success": True, "data": [_delivery(row) for row in rows], "next": _next(rows, size)}
    )


@routes.post("/api/admin/deliveries/{id}/resend")
async def resend(request: web.Request) -> web.Response:
    """Send an unconfirmed message again: the same bytes, the same Message-ID."""
    outbox = request.app[DEPS].outbox
    if outbox is None:
        raise Refused(503, "This process has no outbox")
    if not await outbox.resend(body.path_id(request)):
        raise Refused(409, "Only an unconfirmed message that is still useful can be sent again")
    return web.json_response({"success": True}, status=202)


@routes.get("/api/users/{id}/notifications")
async def inbox(request: web.Request) -> web.Response:
    """What a person would see in the dashboard now."""
    pool, user, size = request.app[DEPS].pool, request.match_info["id"], body.limit(request)
    only = body.one_of(request, "unread", frozenset({"true", "false"})) == "true"
    rows = await pool.fetch(_SQL["inbox"], user, only, body.before(request), size)
    answer = {
        "success": True,
        "data": [_notification(row) for row in rows],
        "unread": await pool.fetchval(_SQL["unread"], user),
        "next": _next(rows, size),
    }
    return web.json_response(answer)


@routes.post("/api/users/{id}/notifications/read")
async def mark_read(request: web.Request) -> web.Response:
    """Mark some or all as read; doing it twice changes nothing."""
    asked = await body.read(request, body.ReadBody)
    pool, user = request.app[DEPS].pool, request.match_info["id"]
    changed = await pool.fetchval(_SQL["mark_read"], user, asked.ids)
    return web.json_response(
        {"success": True, "changed": changed, "unread": await pool.fetchval(_SQL["unread"], user)}
    )


def _next(rows: list[asyncpg.Record], size: int) -> int | None:
    return rows[-1]["id"] if len(rows) == size else None


def _delivery(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "dedupeKey": row["dedupe_key"],
        "channel": row["channel"],
        "job": row["job"],
        "runId": row["run_id"],
        "kind": row["kind"],
        "userId": row["user_id"],
        "zone": row["zone"],
        "localDate": row["local_date"].isoformat(),
        "state": row["state"],
        "reason": row["reason"],
        "detail": row["detail"],
        "attempt": row["attempt"],
        "resends": row["resends"],
        "messageId": row["message_id"],
        "smtpCode": row["smtp_code"],
        "smtpReply": row["smtp_reply"],
        **_times(row, "planned_at", "not_before", "expires_at", "dot_at", "settled_at"),
    }


def _notification(row: asyncpg.Record) -> dict[str, Any]:
    plain = ("id", "type", "title", "message", "data", "priority", "action")
    return {name: row[name] for name in plain} | _times(row, "visible_from", "expires_at", "read_at")


def _times(row: asyncpg.Record, *names: str) -> dict[str, str | None]:
    camel = {n: n.split("_")[0] + "".join(w.title() for w in n.split("_")[1:]) for n in names}
    return {camel[n]: body.iso(row[n]) for n in names}
