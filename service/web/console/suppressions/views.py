"""/console/suppressions: addresses that are not written to; what led to each, and lifting it."""

from collections.abc import Mapping
from datetime import date
from urllib.parse import urlencode

from aiohttp import web

from service.messages import complaint_rate, suppression_list
from service.messages.mail.providers.provider_intake import BY_PROVIDER
from service.messages.suppression_list import COMPLAINT, LiftRefusal, SuppressionFilter
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.console.pages import page, see_other
from service.web.deps import DEPS

_PAGE = 50
_MAX_REASON = 500
_REASONS = {
    "hard_bounce": "hard bounce",
    COMPLAINT: "complaint",
    "mailbox_rest": "mailbox rests",
    BY_PROVIDER: "provider",
}
_FILTERS = ("address", "reason", "since")

routes = web.RouteTableDef()


@routes.get("/console/suppressions")
async def suppressions(request: web.Request) -> web.Response:
    """Suppressed addresses, newest first, and how many mails were reported as spam."""
    pool = request.app[DEPS].pool
    given = {name: request.query.get(name, "").strip()[:320] for name in _FILTERS}
    which = SuppressionFilter(given["address"] or None, given["reason"] or None, _date(given["since"]))
    rows = await suppression_list.listed(pool, which, before=params.before(request), limit=_PAGE + 1)
    visible = rows[:_PAGE]
    older = {**given, "before": str(visible[-1].id)} if len(rows) > _PAGE else {}
    return page(
        request,
        "suppressions.html",
        filters=given,
        rows=visible,
        more=f"?{urlencode(older)}" if older else "",
        reasons=_REASONS,
        rates=await complaint_rate.counted(pool),
        lifted=request.query.get("lifted") == "1",
    )


@routes.get("/console/suppressions/{id}")
async def suppression(request: web.Request) -> web.Response:
    """One suppressed address: the replies and reports that led to it, and the accounts that have it."""
    return await _one(request)


async def _one(request: web.Request, problem: str = "") -> web.Response:
    pool, id_ = request.app[DEPS].pool, params.path_id(request)
    one = await suppression_list.find(pool, id_)
    if one is None:
        raise HttpRefusal(404, LiftRefusal.UNKNOWN)
    return page(
        request,
        "suppression.html",
        status=400 if problem else 200,
        path="/console/suppressions/",
        one=one,
        complaint=one.reason == COMPLAINT,
        evidence=await suppression_list.evidence(pool, one.address) if one.address else [],
        users=await suppression_list.accounts(pool, one.address) if one.address else [],
        problem=problem,
    )


@routes.post("/console/suppressions/{id}/lift")
async def lift(request: web.Request) -> web.Response:
    """Write to an address again."""
    form, id_ = await params.form(request), params.path_id(request)
    name, reason = form.get("who", "").strip()[:100], form.get("reason", "").strip()[:_MAX_REASON]
    asked = form.get("asked") == "on"
    async with audit.transaction(request) as connection:
        if not name or not reason:
            refusal: str | None = "Say who does it and why: others will ask"
        else:
            actor = audit.actor(request, name)
            refusal = await suppression_list.lift(connection, id_, actor, reason, own_request=asked)
    if refusal is not None:
        return await _one(request, _PROBLEMS.get(refusal, refusal))
    return see_other("/console/suppressions?lifted=1")


_PROBLEMS: Mapping[str, str] = {
    LiftRefusal.COMPLAINT: "A complaint is lifted only where the person asked for mail again: tick it if so"
}


def _date(text: str) -> date | None:
    return params.parse_date("since", text) if text else None
