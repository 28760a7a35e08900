"""/console/people: what one person got and did not get, and why; what comes next, and what they wish for."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from aiohttp import web

from service.admin.access import Refused
from service.admin.console import fetch, page, see_other
from service.admin.console_slots import Next, clock_of, next_slot
from service.admin.console_words import segment
from service.admin.deps import DEPS, AdminDeps
from service.admin.recipients import effective
from service.domain.dashboard import Channel, Kind
from service.domain.schedule import zone_of
from service.errors import BadRequest, UnknownUser
from service.jobs import all_jobs
from service.mail.words import words_for
from service.store import queries
from service.store.replica import preferences_from_json

_SQL = queries.load(__file__)
_FOUND = 50
_PAGE = 40

routes = web.RouteTableDef()


@routes.get("/console/people")
async def people(request: web.Request) -> web.Response:
    """Find somebody by id or e-mail; the one who is meant is shown at once."""
    wanted = request.query.get("person", "").strip()[:320]
    rows = await fetch(request, _SQL["find"], wanted, _FOUND) if wanted else []
    exact = [row for row in rows if wanted == row["id"] or wanted.lower() == (row["email"] or "").lower()]
    if len(exact) == 1:
        return see_other(f"/console/people/{segment(exact[0]['id'])}")
    return page(request, "people.html", wanted=wanted, rows=rows, most=_FOUND)


@routes.get("/console/people/{id}")
async def person(request: web.Request) -> web.Response:
    """Somebody. ``job``: why they get or do not get its message, on the local date ``at`` (today)."""
    deps, user_id = request.app[DEPS], request.match_info["id"]
    found = await fetch(request, _SQL["person"], user_id) if "\0" not in user_id else []
    if not found:
        raise UnknownUser(user_id)
    row = found[0]
    zone, job = zone_of(row["timezone"]), request.query.get("job", "").strip()
    at = request.query.get("at", "").strip()
    explained = await _explained(deps, job, user_id, _noon(at, row["timezone"])) if job else None
    before = _before(request.query.get("before", ""))
    history = await fetch(request, _SQL["history"], user_id, before, _PAGE + 1)
    rows = await fetch(request, _SQL["jobs"], user_id)
    return page(
        request,
        "person.html",
        here="/console/people/",
        person=row,
        address=f"/console/people/{segment(user_id)}",
        now=row["now"],
        own=zone,
        jobs=await asyncio.to_thread(_due, rows, row, deps),
        job=job,
        at=at,
        explained=explained,
        planned=await fetch(request, _SQL["planned"], user_id),
        history=history[:_PAGE],
        older=history[_PAGE - 1]["at"] if len(history) > _PAGE else None,
        wishes=_wishes(row),
        profile=row["figures"],
    )


def _noon(text: str, timezone: str) -> datetime | None:
    """Noon of a date by the person's clock; None: now."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(12), zone_of(timezone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest("at is not a date; use one like 2026-03-10") from None


def _before(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("before is not a time; follow the link to older entries") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


async def _explained(deps: AdminDeps, job: str, user_id: str, at: datetime | None) -> dict[str, Any]:
    if deps.explainer is None:
        raise Refused(503, "This process decides nothing, so it cannot explain")
    return await deps.explainer.explain(job, user_id, at)


def _due(
    rows: Sequence[Mapping[str, Any]], person: Mapping[str, Any], deps: AdminDeps
) -> list[tuple[Mapping[str, Any], Next | None]]:
    """When each reminder looks at this person next, with what it last came to. Pure."""
    known = all_jobs()
    found: list[tuple[Mapping[str, Any], Next | None]] = []
    for row in rows:
        job = known.get(row["job"])
        if job is None or job.kind is None:
            continue
        place = [(person["timezone"], person["hours"])]
        clock = clock_of(row["cron"], row["mode"], job.kind, place, deps.service_zone)
        told = {**row, "name": job.name, "label": words_for("en").list_name(job.kind)}
        found.append((told, next_slot(clock, person["now"])))
    return found


def _wishes(row: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody gets on which channel, and by whose word. Pure."""
    overrides = {(kind, channel): on for kind, channel, on in row["overrides"] or ()}
    switches = effective(row["preferences"], overrides)
    words = words_for("en")
    wishes = preferences_from_json(row["preferences"])
    return {
        "quiet": wishes.quiet,
        "kinds": [
            {
                "name": words.list_name(kind),
                "hour": row["hours"].get(str(kind)),
                "channels": {
                    channel: (
                        switches[kind, channel],
                        any((k, c) in overrides for k in (kind, "*") for c in (channel, "*")),
                    )
                    for channel in Channel
                },
            }
            for kind in Kind
        ],
    }
