"""/api/admin/suppressions: addresses that are not written to, why, and lifting; /api/admin/complaints: how
many mails were reported as spam.
"""

from typing import Any

import asyncpg
from aiohttp import web

from service.messages import complaint_rate, suppression_list
from service.messages.complaint_rate import WINDOW, ComplaintCount
from service.messages.suppression_list import (
    LiftRefusal,
    SuppressedAddress,
    SuppressionEvidence,
    SuppressionFilter,
)
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS
from service.web.idempotency import Answer, once
from service.zones import iso, iso_or_none

routes = web.RouteTableDef()


@routes.get("/api/admin/suppressions")
async def listing(request: web.Request) -> web.Response:
    """Suppressed addresses, newest first."""
    params.check_parameters(request, frozenset({"address", "reason", "from", "to", "limit", "before"}))
    size, query = params.limit(request), request.query
    which = SuppressionFilter(query.get("address"), query.get("reason"), *params.date_range(request))
    rows = await suppression_list.listed(
        request.app[DEPS].pool, which, before=params.before(request), limit=size
    )
    data = [_suppression(row) for row in rows]
    return web.json_response({"success": True, "data": data, "next": params.next_before(data, size)})


@routes.get("/api/admin/suppressions/{id}")
async def show(request: web.Request) -> web.Response:
    """One suppression with the replies and reports that led to it, and the accounts with that address."""
    params.check_parameters(request, frozenset())
    pool = request.app[DEPS].pool
    one = await suppression_list.find(pool, params.path_id(request))
    if one is None:
        raise HttpRefusal(404, LiftRefusal.UNKNOWN)
    address = one.address
    reports = await suppression_list.evidence(pool, address) if address else []
    users = list(await suppression_list.accounts(pool, address)) if address else []
    data = _suppression(one) | {"users": users, "evidence": [_report(report) for report in reports]}
    return web.json_response({"success": True, "data": data})


@routes.post("/api/admin/suppressions/{id}/lift")
async def lift(request: web.Request) -> web.Response:
    """Write to an address again. A complaint needs ``personAsked``."""
    body, id_ = await params.read(request, params.LiftBody), params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        refusal = await suppression_list.lift(
            connection,
            id_,
            audit.actor(request),
            body.reason,
            own_request=body.own_request,
            same_words=body.same_words,
        )
        if refusal is not None:
            raise HttpRefusal(404 if refusal is LiftRefusal.UNKNOWN else 409, refusal)
        return 200, {"success": True}

    return await once(request, act)


@routes.get("/api/admin/complaints")
async def complaints(request: web.Request) -> web.Response:
    """How many mails of the last 30 days were reported as spam, by kind and recipients' domain."""
    params.check_parameters(request, frozenset())
    counted = await complaint_rate.counted(request.app[DEPS].pool)
    return web.json_response(
        {
            "success": True,
            "asOf": iso_or_none(counted.at),
            "days": WINDOW.days,
            "kinds": [{"kind": kind, **_count(count)} for kind, count in counted.by_kind.items()],
            "data": [
                {"kind": kind, "domain": domain, **_count(count)}
                for (kind, domain), count in counted.counts.items()
            ],
        }
    )


def _count(count: ComplaintCount) -> dict[str, Any]:
    return {"sent": count.sent, "complaints": count.complaints, "rate": count.rate}


def _suppression(row: SuppressedAddress) -> dict[str, Any]:
    return {
        "id": row.id,
        "address": row.address,
        "reason": row.reason,
        "detail": row.detail,
        "since": iso(row.created_at),
        "until": iso_or_none(row.until),
    }


def _report(report: SuppressionEvidence) -> dict[str, Any]:
    return {
        "deliveryId": report.delivery,
        "job": report.job,
        "kind": report.kind,
        "userId": report.user_id,
        "state": report.state,
        "at": iso_or_none(report.at),
        "smtpCode": report.smtp_code,
        "said": report.smtp_reply,
        "counted": report.counted,
        "kept": report.kept,
    }
