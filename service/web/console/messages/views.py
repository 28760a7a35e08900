"""/console/messages: search messages; one message: how it was decided and sent, and its content.

The mail is composed again from what is stored, with blank links, so that operators cannot act for recipients.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email import message_from_bytes, policy
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from service.engine import queries
from service.errors import BadRequest
from service.messages import try_now as waiting
from service.messages.attempts import attempts
from service.messages.delivery_state import DeliveryState
from service.messages.kind import Channel
from service.messages.mail.compose import Email, email_of
from service.messages.outbox import DeliveryFilter
from service.messages.reason import Reason
from service.messages.reminder import reminders
from service.messages.try_now import WaitingFilter
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.console.mails.gallery import PARTS, SCHEMES, WIDTHS, in_scheme, view_of
from service.web.console.mails.views import MAIL_HEADERS
from service.web.console.pages import fetch, page, see_other
from service.web.deps import DEPS

_SQL = queries.load(__file__)
_SIZE = 50
_BLANK_TOKEN = "no-link-from-the-console"  # noqa: S105 - no token
STATES = tuple(map(str, DeliveryState))
"""The states of a message, in the order of its life cycle."""
_CHANNELS = {"email": "Mail", "in_app": "Notification"}
_MAX_RETRIED = 1000
"""How many mails are retried at once."""
_RESENDABLE = frozenset(
    {DeliveryState.UNCONFIRMED, DeliveryState.FAILED, DeliveryState.EXPIRED, DeliveryState.CANCELLED}
)

routes = web.RouteTableDef()


# ── Searching ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """The filters of the search; empty: any. ``person``: an id or an e-mail address."""

    person: str = ""
    job: str = ""
    channel: str = ""
    state: str = ""
    reason: str = ""
    run: str = ""

    @property
    def filters(self) -> dict[str, str]:
        """The filters that are set, by name."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}

    def query(self, **extra: object) -> str:
        """The query string for these filters and ``extra`` parameters."""
        return "?" + urlencode(self.filters | {name: str(value) for name, value in extra.items()})

    @property
    def narrow(self) -> bool:
        """Whether it selects some failed mails, not all."""
        return bool(self.person or self.job or self.reason or self.run)


def _query_of(query: Mapping[str, Any], jobs: Container[str]) -> MessageQuery:
    """The filters of a query string or form. Raises HttpRefusal for values that do not exist."""
    filters = MessageQuery(
        **{name: str(query.get(name, "")).strip()[:320] for name in MessageQuery.__slots__}
    )
    for name, value, allowed in (
        ("job", filters.job, jobs),
        ("channel", filters.channel, tuple(Channel)),
        ("state", filters.state, STATES),
    ):
        if value and value not in allowed:
            raise HttpRefusal(400, f"There is no {name} {value!r}; choose one of the form")
    if filters.run and not (filters.run.isascii() and filters.run.isdigit() and len(filters.run) < 19):
        raise HttpRefusal(400, "run is the number of a run; leave it out, or follow the link of a run's page")
    return filters


@routes.get("/console/messages")
async def messages(request: web.Request) -> web.Response:
    """Messages, newest first."""
    return await _list(request, _query_of(request.query, request.app[DEPS].jobs))


async def _list(
    request: web.Request, filters: MessageQuery, *, counts: Mapping[str, int] | None = None, problem: str = ""
) -> web.Response:
    """The page of the search. ``counts``: how many failed mails a retry would affect."""
    rows = await fetch(
        request,
        _SQL["find"],
        await _user_ids(request, filters.person),
        filters.job or None,
        filters.channel or None,
        filters.state or None,
        filters.reason or None,
        int(filters.run) if filters.run else None,
        params.before(request),
        _SIZE + 1,
    )
    visible = rows[:_SIZE]
    return page(
        request,
        "messages.html",
        status=400 if problem else 200,
        filters=filters,
        rows=visible,
        more=filters.query(before=visible[-1]["id"]) if len(rows) > _SIZE else "",
        jobs=list(reminders(request.app[DEPS].jobs)),
        channels=_CHANNELS,
        states=STATES,
        reasons=list(Reason),
        counts=counts,
        max_retried=_MAX_RETRIED,
        retried=params.number(request, "retried", None, minimum=0, maximum=_MAX_RETRIED),
        problem=problem,
    )


async def _user_ids(request: web.Request, person: str) -> list[str] | None:
    """The user ids that an id or an e-mail address matches; None: any."""
    if not person:
        return None
    return [row["id"] for row in await fetch(request, _SQL["people"], person)]


# ── Retrying ────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/console/messages/retry")
async def retry(request: web.Request) -> web.Response:
    """Count the failed mails that match the filters; with ``confirm`` plan the useful ones again."""
    form, outbox = await params.form(request), request.app[DEPS].outbox
    filters = replace(
        _query_of(form, request.app[DEPS].jobs),
        state=str(DeliveryState.FAILED),
        channel=str(Channel.EMAIL),
    )
    if not filters.narrow:
        return await _list(
            request, filters, problem="Not all at once: narrow it by person, job, reason or run"
        )
    try:
        selection = await _selection(request, filters)
    except BadRequest as problem:
        return await _list(request, filters, problem=str(problem))
    if form.get("confirm") != "on":
        return await _list(
            request, filters, counts=await outbox.retry_failed(selection, _MAX_RETRIED, dry_run=True)
        )
    recorded = {**filters.filters, **({"person": selection.user} if selection.user else {})}
    async with audit.transaction(request) as connection:
        counts = await outbox.retry_failed(selection, _MAX_RETRIED, connection=connection)
        await audit.record(request, "retry-failed", connection, filter=recorded, **counts)
    return see_other(
        f"/console/messages{replace(filters, state='', reason='').query(retried=counts['retried'])}"
    )


async def _selection(request: web.Request, filters: MessageQuery) -> DeliveryFilter:
    """The filter for the outbox. Raises BadRequest if several people have the address."""
    ids = [user_id for user_id in await _user_ids(request, filters.person) or () if user_id != filters.person]
    if len(ids) > 1:
        raise BadRequest(f"Several people have this address; choose one by id: {', '.join(sorted(ids)[:5])}")
    user = ids[0] if ids else filters.person or None
    run = int(filters.run) if filters.run else None
    return DeliveryFilter(user, filters.job or None, filters.reason or None, run=run)


# ── One message ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MessageForms:
    """The parts of a mail; ``problem``: why it cannot be composed."""

    subject: str = ""
    text: str = ""
    html: str = ""
    source: str = ""
    problem: str = ""


@routes.get("/console/messages/{id}")
async def message(request: web.Request) -> web.Response:
    """The page of one message."""
    row, view = await _row(request), view_of(request.query)
    mail = row["channel"] == Channel.EMAIL
    return page(
        request,
        "message.html",
        path="/console/messages/",
        address=f"/console/messages/{row['id']}",
        message=row,
        now=row["now"],
        steps=_steps(row),
        attempts=await attempts(request.app[DEPS].pool, row["id"]) if mail else [],
        mail=_mail_forms(request, row) if mail else None,
        view=view,
        parts=PARTS,
        widths=WIDTHS,
        schemes=SCHEMES,
        resendable=mail and row["state"] in _RESENDABLE,
        cancellable=row["state"] == DeliveryState.PLANNED,
        waits=_waits(row),
    )


@routes.get("/console/messages/{id}/html")
async def html(request: web.Request) -> web.Response:
    """The HTML alone, for the frame; its policy allows no scripts and no requests."""
    row, view = await _row(request), view_of(request.query)
    if row["channel"] != Channel.EMAIL:
        raise HttpRefusal(404, "This message is a notification, not a mail")
    mail = _mail_forms(request, row)
    if mail.problem:
        raise HttpRefusal(409, mail.problem)
    return web.Response(
        text=in_scheme(mail.html, view.scheme), content_type="text/html", headers=MAIL_HEADERS
    )


async def _row(request: web.Request) -> Mapping[str, Any]:
    rows = await fetch(request, _SQL["message"], params.path_id(request))
    if not rows:
        raise HttpRefusal(404, "There is no message of this number; messages are kept for 400 days at least")
    return rows[0]


def _mail_forms(request: web.Request, row: Mapping[str, Any]) -> MessageForms:
    try:
        raw = request.app[DEPS].compose(_email(row))
    except Exception as error:  # noqa: BLE001 - old facts may not fit the template
        return MessageForms(problem=f"The mail cannot be made again: {type(error).__name__}: {error}")
    message_ = message_from_bytes(raw, policy=policy.default)
    parts = {part.get_content_subtype(): part.get_content() for part in message_.iter_parts()}
    return MessageForms(str(message_["Subject"]), parts["plain"], parts["html"], raw.decode())


def _email(row: Mapping[str, Any]) -> Email:
    """The stored email, without the token of its links."""
    return email_of(row.__getitem__, token=_BLANK_TOKEN, address=row["address"] or "nobody@example.org")


def _waits(row: Mapping[str, Any]) -> bool:
    """Whether it waits for another try, or for its domain. Pure."""
    if row["state"] != DeliveryState.PLANNED or row["channel"] != Channel.EMAIL:
        return False
    if row["not_before"] > row["now"]:
        return row["reason"] not in {None, "quiet_hours"}
    return row["paused_until"] is not None


def _steps(row: Mapping[str, Any]) -> list[tuple[datetime, str]]:
    """Past and future events of a message, in order of time. Pure."""
    reply = f": {row['smtp_code']} {row['smtp_reply'] or ''}".rstrip() if row["smtp_code"] else ""
    reason = f" ({row['reason']})" if row["reason"] else ""
    steps = [
        (row["nominal_at"], "The moment that it is about"),
        (row["planned_at"], "Decided, and put into the outbox"),
        (row["not_before"], f"Next try, after{reason}{reply}" if _waits(row) else "To leave no earlier"),
        (row["paused_until"], f"{row['domain']} asked us to wait until here: {row['pause_reply']}"),
        (row["dot_at"], "About to hand over the last byte"),
        (row["settled_at"], f"{row['state'].capitalize()}{reason}{reply}"),
        (row["read_at"], "Read"),
        (row["expires_at"], "Useless from here on"),
    ]
    order = {words: n for n, (_, words) in enumerate(steps)}
    return sorted(((at, words) for at, words in steps if at), key=lambda step: (step[0], order[step[1]]))


# ── Changing ────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/console/messages/{id}/resend")
async def resend(request: web.Request) -> web.Response:
    """Resend a message: the same bytes, the same Message-ID."""
    message_id = params.path_id(request)
    async with audit.transaction(request) as connection:
        if not await request.app[DEPS].outbox.resend(message_id, connection):
            raise HttpRefusal(
                409, "Only a mail that failed, expired, was cancelled or is unconfirmed can be resent"
            )
        await audit.record(request, "resend", connection, delivery=message_id)
    return see_other(f"/console/messages/{message_id}")


@routes.post("/console/messages/{id}/try-now")
async def try_now(request: web.Request) -> web.Response:
    """Try a mail at once that waits for another try, or for its domain."""
    message_id = params.path_id(request)
    async with audit.transaction(request) as connection:
        result = await waiting.try_now(WaitingFilter(id=message_id), 1, connection)
        if not result.tried:
            raise HttpRefusal(409, "The message waits neither for another try nor for its domain any more")
        domains = list(result.domains)
        await audit.record(request, "try-now", connection, delivery=message_id, tried=1, domains=domains)
    return see_other(f"/console/messages/{message_id}")


@routes.post("/console/messages/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a planned message."""
    message_id = params.path_id(request)
    async with audit.transaction(request) as connection:
        if not await request.app[DEPS].outbox.cancel(message_id, connection):
            raise HttpRefusal(409, "Only a message that has not left can be cancelled")
        await audit.record(request, "cancel", connection, delivery=message_id)
    return see_other(f"/console/messages/{message_id}")
