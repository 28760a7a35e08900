"""/console/mails: previews of every mail that the service can send, and test mails.

The HTML of a mail is shown in a sandboxed frame, from a URL with its own Content-Security-Policy.
"""

import re
from typing import Any

from aiohttp import web

from service.errors import BadRequest, MailRefused, NothingToSay, UnknownUser
from service.messages.mail.words import LANGUAGES, words_for
from service.messages.preview import Preview
from service.messages.reminder import Reminder, reminders
from service.web import audit, params
from service.web.auth import HttpRefusal, failure
from service.web.console.mails.gallery import (
    PARTS,
    SCHEMES,
    WIDTHS,
    GalleryQuery,
    in_scheme,
    view_of,
)
from service.web.console.pages import SESSION, page, see_other
from service.web.deps import DEPS, Role

_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; sandbox;"
    " frame-ancestors 'self'"
)
MAIL_HEADERS = {"Content-Security-Policy": _MAIL_POLICY, "X-Frame-Options": "SAMEORIGIN"}
"""Headers of a mail's HTML in its frame."""
_MESSAGE_ID = re.compile(r"test\.[0-9a-f]{32}@[A-Za-z0-9.-]{1,253}")
_ENGLISH = words_for("en")
_REFUSALS = (BadRequest, UnknownUser, NothingToSay)

routes = web.RouteTableDef()


@routes.get("/console/mails")
async def gallery(request: web.Request) -> web.Response:
    """The gallery: all mails in all variants, small."""
    mails = [_mail_fields(job) for job in _jobs_by_template(request).values()]
    return page(request, "mails.html", mails=mails, view=view_of(request.query), **_choices())


@routes.get("/console/mails/{template}")
async def mail(request: web.Request) -> web.Response:
    """One mail: a sample, or a user's own at a time; as HTML, text or source."""
    job, view = _job(request), view_of(request.query)
    message_id = request.query.get("sent", "")
    return await _mail_page(
        request, job, view, message_id=message_id if _MESSAGE_ID.fullmatch(message_id) else ""
    )


@routes.get("/console/mails/{template}/html")
async def html(request: web.Request) -> web.Response:
    """The HTML alone, for the frame; its policy allows no scripts and no requests."""
    job, view = _job(request), view_of(request.query)
    preview = await request.app[DEPS].previewer.preview(view.ask(job.id))
    return web.Response(
        text=in_scheme(preview.html, view.scheme),
        content_type="text/html",
        headers=MAIL_HEADERS,
    )


@routes.post("/console/mails/{template}/test-send")
async def test_send(request: web.Request) -> web.Response:
    """Send the shown mail once to an address, marked as a test."""
    job, form = _job(request), await params.form(request)
    view, to = view_of(form), form.get("to", "").strip()
    try:
        message_id = await request.app[DEPS].previewer.send_test(view.ask(job.id), to, audit.actor(request))
    except (*_REFUSALS, MailRefused) as problem:
        return await _mail_page(request, job, view, to=to, problem=problem)
    query = view.query()
    return see_other(f"/console/mails/{job.kind.template}{query}{'&' if query else '?'}sent={message_id}")


async def _mail_page(
    request: web.Request,
    job: Reminder,
    view: GalleryQuery,
    *,
    message_id: str = "",
    to: str = "",
    problem: Exception | None = None,
) -> web.Response:
    preview: Preview | None = None
    try:
        preview = await request.app[DEPS].previewer.preview(view.ask(job.id))
    except _REFUSALS as refusal:
        problem = problem or refusal
    status, text = failure(request, problem) if problem else (200, "")
    return page(
        request,
        "mail.html",
        status=status,
        mail=_mail_fields(job),
        view=view,
        preview=preview,
        sizes={"HTML": _kilobytes(preview.html), "message": _kilobytes(preview.source)} if preview else {},
        problem=text,
        message_id=message_id,
        to=to,
        may_send=request[SESSION].role is Role.ADMIN,
        **_choices(),
    )


def _jobs_by_template(request: web.Request) -> dict[str, Reminder]:
    """Every job that writes mails, in the order in which they are shown."""
    jobs = reminders(request.app[DEPS].jobs).values()
    return {job.kind.template: job for job in sorted(jobs, key=lambda job: job.kind.position)}


def _job(request: web.Request) -> Reminder:
    jobs = _jobs_by_template(request)
    job = jobs.get(request.match_info["template"])
    if job is None:
        raise HttpRefusal(404, f"There is no mail of this name; there are {', '.join(jobs)}")
    return job


def _mail_fields(job: Reminder) -> dict[str, Any]:
    """A mail's name, hint, job and variants for the pages."""
    return {
        "template": job.kind.template,
        "name": _ENGLISH.list_name(job.kind),
        "hint": _ENGLISH.hint(job.kind),
        "job": job.name,
        "variants": {sample.variant: sample.variant.replace("_", " ") for sample in job.kind.samples},
    }


def _choices() -> dict[str, Any]:
    languages = {tag: words_for(tag).locale.get_display_name() for tag in LANGUAGES}
    return {"parts": PARTS, "widths": WIDTHS, "schemes": SCHEMES, "languages": languages}


def _kilobytes(text: str) -> str:
    return f"{len(text.encode()) / 1000:.1f} kB"
