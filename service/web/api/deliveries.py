"""/api/admin/deliveries: search messages, show, cancel, resend and retry them."""

from dataclasses import asdict
from typing import Any

import asyncpg
from aiohttp import web

from service.engine import queries
from service.engine.job import JobType
from service.errors import BadRequest, UnknownJob
from service.messages import try_now as waiting
from service.messages.attempts import Attempt
from service.messages.attempts import attempts as delivery_attempts
from service.messages.delivery_state import DeliveryState
from service.messages.outbox import DeliveryFilter, address_range
from service.messages.try_now import WaitingFilter
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS, ROLE, Role
from service.web.idempotency import Answer, once
from service.zones import iso, iso_or_none

_SQL = queries.load(__file__)
_STATES = frozenset(map(str, DeliveryState))
_CHANNELS = frozenset({"email", "in_app"})
_PAGE = frozenset({"limit", "before"})
_IN_HAND = "A process of an earlier release has the message in hand: try again"
_FILTERS = frozenset({"user", "job", "reason", "channel", "from", "to", "address"})

routes = web.RouteTableDef()


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/api/admin/deliveries")
async def deliveries(request: web.Request) -> web.Response:
    """Messages, newest first, without e-mail addresses."""
    params.check_parameters(request, _FILTERS | _PAGE | {"state"})
    return await _search(request, params.one_of(request, "state", _STATES))


@routes.get("/api/admin/deliveries/unconfirmed")
async def unconfirmed(request: web.Request) -> web.Response:
    """Messages for which it is unknown whether the mail server accepted them; an operator decides."""
    params.check_parameters(request, _FILTERS | _PAGE)
    return await _search(request, DeliveryState.UNCONFIRMED)


async def _search(request: web.Request, state: str | None) -> web.Response:
    size, query, job = params.limit(request), request.query, _job(request)
    rows = await request.app[DEPS].pool.fetch(
        _SQL["search"],
        query.get("user"),
        job,
        state,
        params.before(request),
        size,
        query.get("reason"),
        params.one_of(request, "channel", _CHANNELS),
        *params.date_range(request),
        *address_range(query.get("address")),
    )
    if not rows and job and job not in request.app[DEPS].jobs:
        raise UnknownJob(job)
    data = [_delivery(row) for row in rows]
    return web.json_response({"success": True, "data": data, "next": params.next_before(rows, size)})


def _job(request: web.Request) -> str | None:
    """The id of the job asked for (a reminder's name will do); jobs that are gone have messages, too."""
    name = request.query.get("job")
    return next((job for job in request.app[DEPS].jobs if name and job == f"{JobType.REMINDER}.{name}"), name)


@routes.get("/api/admin/deliveries/{id}/message")
async def message(request: web.Request) -> web.Response:
    """The message as it was, or would be, sent. Links to preferences are hidden from viewers."""
    params.check_parameters(request, frozenset())
    links = request[ROLE] is Role.ADMIN
    content = await request.app[DEPS].previewer.delivered(params.path_id(request), links=links)
    if content is None:
        raise HttpRefusal(404, "Unknown delivery")
    return web.json_response({"success": True, "data": asdict(content) | {"linksHidden": not links}})


@routes.get("/api/admin/deliveries/{id}/attempts")
async def attempts(request: web.Request) -> web.Response:
    """The attempts to send a mail, the oldest first."""
    params.check_parameters(request, frozenset())
    found = await delivery_attempts(request.app[DEPS].pool, params.path_id(request))
    if found is None:
        raise HttpRefusal(404, "Unknown delivery")
    return web.json_response({"success": True, "data": [_attempt(one) for one in found]})


# ── Changing ────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/api/admin/deliveries/{id}/resend")
async def resend(request: web.Request) -> web.Response:
    """Send an unconfirmed message again: the same bytes, the same Message-ID."""
    outbox, delivery = request.app[DEPS].outbox, params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        if not await outbox.resend(delivery, connection):
            raise HttpRefusal(409, "Only an unconfirmed message that is still useful can be sent again")
        await audit.record(request, "resend", connection, delivery=delivery)
        return 202, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/deliveries/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a planned message."""
    outbox, delivery = request.app[DEPS].outbox, params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        row = await _state(connection, delivery)
        if row["state"] != DeliveryState.PLANNED:
            raise HttpRefusal(409, f"The message is {row['state']}: only a planned one can be taken back")
        if not await outbox.cancel(delivery, connection):
            raise HttpRefusal(409, _IN_HAND)
        await audit.record(request, "cancel", connection, delivery=delivery)
        return 200, {"success": True, "state": "cancelled"}

    return await once(request, act)


@routes.post("/api/admin/deliveries/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    """Plan a failed mail again, unless it has expired."""
    outbox, delivery = request.app[DEPS].outbox, params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        if problem := retry_problem(await _state(connection, delivery)):
            raise HttpRefusal(409, problem)
        if not await outbox.retry(delivery, connection):
            raise HttpRefusal(409, _IN_HAND)
        await audit.record(request, "retry", connection, delivery=delivery)
        return 202, {"success": True, "state": "planned"}

    return await once(request, act)


@routes.post("/api/admin/deliveries/retry")
async def retry_failed(request: web.Request) -> web.Response:
    """Plan all failed mails that match a filter again; with ``dryRun`` only count them."""
    outbox, body = request.app[DEPS].outbox, await params.read(request, params.RetryBody)
    selection = _selection(body)

    async def act(connection: asyncpg.Connection) -> Answer:
        counts = await outbox.retry_failed(selection, body.limit, dry_run=body.dry_run, connection=connection)
        if not body.dry_run:
            await audit.record(request, "retry-failed", connection, filter=_recorded(body), **counts)
        return 200, {"success": True, "dryRun": body.dry_run, **counts}

    return await once(request, act)


@routes.post("/api/admin/deliveries/try-now")
async def try_now(request: web.Request) -> web.Response:
    """Let what waits for another try, or for its domain, be tried at once; with ``dryRun`` only count it."""
    body = await params.read(request, params.TryNowBody)
    wanted = WaitingFilter(_selected(body), body.id, body.domain)
    if wanted == WaitingFilter():
        names = "id, domain, user, job, reason, from, to, address"
        raise BadRequest(f"Name at least one of {names}: not everything at once")

    async def act(connection: asyncpg.Connection) -> Answer:
        result = await waiting.try_now(wanted, body.limit, connection, dry_run=body.dry_run)
        fields = {"matched": result.matched, "tried": result.tried, "domains": list(result.domains)}
        if not body.dry_run:
            await audit.record(request, "try-now", connection, filter=_recorded(body), **fields)
        return 200, {"success": True, "dryRun": body.dry_run, **fields}

    return await once(request, act)


def _selection(body: params.FilterBody) -> DeliveryFilter:
    selection = _selected(body)
    if selection == DeliveryFilter():
        raise BadRequest("Name at least one of user, job, reason, from, to, address: not everything at once")
    return selection


def _selected(body: params.FilterBody) -> DeliveryFilter:
    params.check_order(body.since, body.until)
    return DeliveryFilter(body.user, body.job, body.reason, body.since, body.until, body.address)


def _recorded(body: params.FilterBody) -> dict[str, Any]:
    """A filter as the audit log tells it: without an address."""
    fields = body.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"address"})
    return fields | ({"addressGiven": True} if body.address else {})


def retry_problem(row: asyncpg.Record | dict[str, Any]) -> str | None:
    """Why a message cannot be retried; None: it can. ``row``: of the query ``state``. Pure."""
    if row["state"] != DeliveryState.FAILED:
        return f"The message is {row['state']}: only a failed one can be tried again"
    if row["channel"] != "email":
        return "Only mails can be tried again, not notifications"
    if row["over"]:
        return f"The message was useful until {iso_or_none(row['expires_at'])}: it is too late for it"
    if row["suppressed"]:
        return f"The address is suppressed ({row['suppressed']}): the mail would be skipped"
    return None


async def _state(connection: asyncpg.Connection, delivery: int) -> asyncpg.Record:
    await connection.execute(_SQL["adopt"], delivery)
    await connection.execute(_SQL["lock"], delivery)
    row = await connection.fetchrow(_SQL["state"], delivery)
    if row is None:
        raise HttpRefusal(404, "Unknown delivery")
    return row


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "at": iso(one.at),
        "state": one.state,
        "reason": one.reason,
        "smtpCode": one.smtp_code,
        "smtpReply": one.smtp_reply,
        "nextTry": iso_or_none(one.next_at),
    }


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
        **params.times(row, "planned_at", "not_before", "expires_at", "dot_at", "settled_at"),
    }
