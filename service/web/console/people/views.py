"""/console/people: search people; one person's messages, next reminders and preferences, with reasons; export
and erasure of their data.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from aiohttp import web

from service.dashboard.replica import preferences_from_json
from service.engine import queries
from service.errors import BadRequest, UnknownUser
from service.mail_address import comparable_address
from service.messages.kind import Channel
from service.messages.mail.words import words_for
from service.messages.refusals import packed_id
from service.messages.reminder import Reminder
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.console.formatting import segment
from service.web.console.jobs.calendar import NextSlot, clock_of, next_slot
from service.web.console.pages import SESSION, fetch, page, see_other
from service.web.deps import DEPS, AdminDeps, Role
from service.web.recipients.preference_form import choosable
from service.web.recipients.views import effective
from service.zones import zone_of

_SQL = queries.load(__file__)
_MAX_RESULTS = 50
_PAGE = 40
_ERASED = frozenset({"done", "pending"})

routes = web.RouteTableDef()


@routes.get("/console/people")
async def people(request: web.Request) -> web.Response:
    """Search by id, e-mail or name; an exact match redirects to that person."""
    query = request.query.get("person", "").strip()[:320]
    rows = await fetch(request, _SQL["find"], query, _MAX_RESULTS) if query else []
    address = comparable_address(query)
    exact = [
        row for row in rows if query == row["id"] or address == comparable_address(row["email"] or "") != ""
    ]
    if len(exact) == 1:
        return see_other(f"/console/people/{segment(exact[0]['id'])}")
    erased = params.one_of(request, "erased", _ERASED)
    return page(request, "people.html", query=query, rows=rows, max_rows=_MAX_RESULTS, erased=erased)


@routes.get("/console/people/{id}")
async def person(request: web.Request) -> web.Response:
    """One person. ``job``: explain why they get its message or not, on the local date ``at`` (today)."""
    return await _person(request)


async def _person(request: web.Request, problem: str = "") -> web.Response:
    deps, user_id = request.app[DEPS], request.match_info["id"]
    people_ = await fetch(request, _SQL["person"], user_id) if "\0" not in user_id else []
    if not people_:
        raise UnknownUser(user_id)
    row = people_[0]
    zone, job = zone_of(row["timezone"]), request.query.get("job", "").strip()
    at = request.query.get("at", "").strip()
    explanation = await _explanation(deps, job, user_id, _noon(at, row["timezone"])) if job else None
    before = params.optional_instant(
        "before", request.query.get("before", ""), hint="follow the link to older entries"
    )
    packed = packed_id(user_id)
    history = await fetch(request, _SQL["history"], user_id, before, _PAGE + 1, packed)
    rows = await fetch(request, _SQL["jobs"], user_id, packed)
    return page(
        request,
        "person.html",
        status=400 if problem else 200,
        problem=problem,
        path="/console/people/",
        person=row,
        address=f"/console/people/{segment(user_id)}",
        now=row["now"],
        own=zone,
        jobs=await asyncio.to_thread(_next_reminders, rows, row, deps),
        job=job,
        at=at,
        explanation=explanation,
        planned=await fetch(request, _SQL["planned"], user_id),
        history=history[:_PAGE],
        older=history[_PAGE - 1]["at"] if len(history) > _PAGE else None,
        preferences=_preferences(row, deps),
        profile=row["figures"],
    )


# ── Export and erasure ──────────────────────────────────────────────────────────────────────────────────────


@routes.get("/console/people/{id}/data")
async def data(request: web.Request) -> web.Response:
    """Export everything that is stored about a person, as JSON. For admins only."""
    if request[SESSION].role is not Role.ADMIN:
        raise HttpRefusal(
            403, f"The role {request[SESSION].role} may look, but not take somebody's data along"
        )
    user_id = _id(request)
    data_ = await request.app[DEPS].people.export(user_id)
    await audit.record(request, "export", userId=user_id)
    return web.Response(
        text=json.dumps(data_, ensure_ascii=False, indent=1),
        content_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="person.json"'},
    )


@routes.post("/console/people/{id}/erase")
async def erase(request: web.Request) -> web.Response:
    """Erase a person's data for good, if the id was typed to confirm it."""
    user_id, confirmation = _id(request), (await params.form(request)).get("typed", "").strip()
    if confirmation != user_id:
        return await _person(request, "Nothing was erased: type the id exactly as it stands above")
    people_ = request.app[DEPS].people
    async with audit.transaction(request) as connection:
        await people_.forget(connection, user_id, audit.actor(request))
    pending = await people_.clear_archive(user_id)
    return see_other(f"/console/people?erased={'pending' if pending else 'done'}")


def _id(request: web.Request) -> str:
    user_id = request.match_info["id"]
    if "\0" in user_id:
        raise UnknownUser(user_id)
    return user_id


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def _noon(text: str, timezone: str) -> datetime | None:
    """Noon of a date in the person's zone; None if the text is empty. Raises BadRequest."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(12), zone_of(timezone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest("at is not a date; use one like 2026-03-10") from None


async def _explanation(deps: AdminDeps, job: str, user_id: str, at: datetime | None) -> dict[str, Any]:
    return await deps.explainer.explain(job, user_id, at)


def _next_reminders(
    rows: Sequence[Mapping[str, Any]], person: Mapping[str, Any], deps: AdminDeps
) -> list[tuple[Mapping[str, Any], NextSlot | None]]:
    """The next slot of each reminder for this person, with its last result. Pure."""
    reminders: list[tuple[Mapping[str, Any], NextSlot | None]] = []
    for row in rows:
        job = deps.jobs.get(row["job"])
        if not isinstance(job, Reminder):
            continue
        place = [(person["timezone"], person["hours"])]
        clock = clock_of(row["cron"], row["mode"], job, place, deps.service_zone)
        fields = {**row, "name": job.name, "label": words_for("en").list_name(job.kind)}
        reminders.append((fields, next_slot(clock, person["now"])))
    return reminders


def _preferences(row: Mapping[str, Any], deps: AdminDeps) -> dict[str, Any]:
    """Preferences by kind and channel: on or off, the hour, and whether they were chosen here. Pure."""
    overrides = {(kind, channel): on for kind, channel, on in row["overrides"] or ()}
    kinds = deps.kinds.values()
    switches = effective(row["preferences"], overrides, kinds)
    words = words_for("en")
    preferences = preferences_from_json(row["preferences"])
    hours = choosable(row["hours"], deps.hours)
    return {
        "quiet": preferences.quiet,
        "kinds": [
            {
                "name": words.list_name(kind),
                "hour": hours.get(kind.name),
                "channels": {
                    channel: (
                        switches[kind.name, channel],
                        any((k, c) in overrides for k in (kind.name, "*") for c in (channel, "*")),
                    )
                    for channel in Channel
                },
            }
            for kind in kinds
        ],
    }
