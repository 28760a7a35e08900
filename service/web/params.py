"""Strict parsing of query strings, bodies and forms; every error says what is wrong."""

from collections.abc import Sequence
from datetime import MAXYEAR, UTC, date, datetime
from typing import Annotated, Any, Literal, TypeVar

import asyncpg
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from service.engine.run import RunRequest
from service.errors import BadRequest
from service.web.auth import HttpRefusal
from service.zones import iso_or_none

MAX_BODY = 64 * 1024
"""Bytes; more is answered with 413."""
_LARGEST_ID = 2**63 - 1


def _in_every_zone(at: datetime) -> datetime:
    if not 1 < at.year < MAXYEAR:
        raise ValueError("must lie between the years 2 and 9998")
    return at


Moment = Annotated[AwareDatetime, AfterValidator(_in_every_zone)]
"""An instant whose local time exists in every time zone."""


class Body(BaseModel):
    """Field names are camelCase. Unknown ones are refused: a misspelt ``dryRun`` would send real mail."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True)


class JobRef(Body):
    """A job by type and name."""

    job_type: str = Field(min_length=1, max_length=100, strict=True)
    job_name: str = Field(min_length=1, max_length=100, strict=True)


class RunBody(JobRef):
    """POST /api/admin/jobs/run."""

    dry_run: bool = Field(default=False, strict=True)
    as_of: Moment | None = None
    user_id: str | None = Field(default=None, min_length=1, max_length=200, strict=True)
    force: bool = Field(default=False, strict=True)
    confirm: bool = Field(default=False, strict=True)
    wait: bool = Field(default=True, strict=True)

    @property
    def request(self) -> RunRequest:
        """The run that the body describes. Raises BadRequest."""
        names = ("dry_run", "as_of", "user_id", "force", "confirm", "wait")
        return RunRequest(**{name: getattr(self, name) for name in names})


class PreviewBody(JobRef):
    """POST /api/admin/preview."""

    user_id: str | None = Field(default=None, min_length=1, max_length=200, strict=True)
    at: Moment | None = None
    variant: str | None = Field(default=None, min_length=1, max_length=50, strict=True)
    locale: str | None = Field(default=None, min_length=2, max_length=35, strict=True)


class TestSendBody(PreviewBody):
    """POST /api/admin/test-send."""

    to: str = Field(min_length=3, max_length=320, strict=True)


class ScheduleBody(JobRef):
    """POST /api/admin/jobs/schedule. Milliseconds."""

    delay_ms: int = Field(ge=0, le=30 * 86_400_000, strict=True)


class RestartBody(Body):
    """POST /api/admin/jobs/restart."""

    job_type: str = Field(min_length=1, max_length=100, strict=True)


class PauseBody(Body):
    """POST …/pause."""

    reason: str = Field(default="", max_length=500, strict=True)
    until: Moment | None = None


class WaiveBody(Body):
    """POST /api/admin/runs/{id}/waive."""

    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, strict=True)
    ]


class GateBody(Body):
    """POST /api/admin/gates. ``name``: which job, kind or domain; ``until``: it opens by itself then."""

    scope: Literal["all", "job", "kind", "domain"]
    name: str = Field(default="", max_length=200, strict=True)
    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, strict=True)
    ]
    until: Moment | None = None


class LiftBody(Body):
    """POST /api/admin/suppressions/{id}/lift. ``own_request``: the person asked for mail again;
    ``same_words``: all are lifted of whom the server said the same."""

    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, strict=True)
    ]
    own_request: bool = Field(default=False, alias="personAsked", strict=True)
    same_words: bool = Field(default=False, alias="sameWords", strict=True)


class SyncBody(Body):
    """POST /api/admin/sync: ``full``, or a table whose loss is confirmed.

    ``rows``: how many rows it must have lost, as the caller was shown.
    """

    full: bool = Field(default=False, strict=True)
    confirm_loss: Literal["users", "goals", "timer_sessions"] | None = None
    rows: int | None = Field(default=None, ge=1, le=_LARGEST_ID, strict=True)
    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, strict=True)
    ]


class BackfillBody(Body):
    """POST …/backfill. Dates, both included."""

    since: date = Field(alias="from")
    until: date = Field(alias="to")
    preview: bool = Field(default=False, strict=True)


StoredId = Annotated[int, Field(ge=-_LARGEST_ID - 1, le=_LARGEST_ID)]
"""An id that fits PostgreSQL's bigint."""


class ReadBody(Body):
    """POST /api/users/{id}/notifications/read. Without ids: all of them."""

    ids: list[StoredId] | None = Field(default=None, max_length=1000)


class FilterBody(Body):
    """Which messages, as in the query of GET /api/admin/deliveries."""

    user: str | None = Field(default=None, min_length=1, max_length=200, strict=True)
    job: str | None = Field(default=None, min_length=1, max_length=200, strict=True)
    reason: str | None = Field(default=None, min_length=1, max_length=200, strict=True)
    since: date | None = Field(default=None, alias="from")
    until: date | None = Field(default=None, alias="to")
    address: str | None = Field(default=None, min_length=1, max_length=320, strict=True)


class RetryBody(FilterBody):
    """POST /api/admin/deliveries/retry."""

    limit: int = Field(default=1000, ge=1, le=10_000, strict=True)
    dry_run: bool = Field(default=False, strict=True)


class TryNowBody(RetryBody):
    """POST /api/admin/deliveries/try-now."""

    id: int | None = Field(default=None, ge=1, le=2**63 - 1, strict=True)
    domain: str | None = Field(default=None, min_length=1, max_length=255, strict=True)


_B = TypeVar("_B", bound=Body)


async def read(request: web.Request, model: type[_B]) -> _B:
    """The JSON body; 400, 413 or 415 with the reason. No body at all means no fields."""
    raw = await request.read()
    if raw and request.content_type != "application/json":
        raise HttpRefusal(415, "Send application/json")
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as problem:
        raise HttpRefusal(400, "; ".join(_error_text(dict(e)) for e in problem.errors())) from None


async def read_bytes(request: web.Request, most: int) -> bytes:
    """The body as it is; 413 for more bytes than ``most``."""
    raw = bytearray()
    async for chunk in request.content.iter_chunked(1 << 16):
        raw += chunk
        if len(raw) > most:
            raise HttpRefusal(413, f"The body has more than {most} bytes")
    return bytes(raw)


async def form(request: web.Request) -> dict[str, str]:
    """The fields of a form, the first of each name; 400 if the body cannot be parsed. Files are ignored."""
    try:
        fields = await request.post()
    except (ValueError, LookupError, RuntimeError, HttpProcessingError) as problem:
        raise HttpRefusal(
            400, "The form cannot be read: its body is not what its Content-Type says"
        ) from problem
    return {name: value for name, value in reversed([*fields.items()]) if isinstance(value, str)}


def _error_text(detail: dict[str, object]) -> str:
    loc = detail["loc"]
    name = ".".join(str(part) for part in loc) if isinstance(loc, tuple) else ""
    return f"{name or 'body'}: {detail['msg']}"


def number(request: web.Request, name: str, default: int | None, *, minimum: int, maximum: int) -> int | None:
    """A whole number of the query string; 400 otherwise."""
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and minimum <= int(text) <= maximum):
        raise HttpRefusal(400, f"{name} must be a whole number from {minimum} to {maximum}")
    return int(text)


def before(request: web.Request) -> int | None:
    """The id below which the next page starts."""
    return number(request, "before", None, minimum=1, maximum=_LARGEST_ID)


def limit(request: web.Request) -> int:
    """The page size, 1 to 500."""
    return number(request, "limit", 50, minimum=1, maximum=500) or 50


def path_id(request: web.Request) -> int:
    """The id in the path; 404 if it is not a number."""
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST_ID):
        raise HttpRefusal(404, "Not Found")
    return int(text)


def one_of(request: web.Request, name: str, allowed: frozenset[str]) -> str | None:
    """A query parameter with a fixed set of values; 400 for any other."""
    word = request.query.get(name)
    if word is not None and word not in allowed:
        raise HttpRefusal(400, f"{name} must be one of {', '.join(sorted(allowed))}")
    return word


def optional_instant(name: str, text: str, hint: str = "use one like 2026-03-10T09:00") -> datetime | None:
    """The instant in a form field, in UTC unless it names a zone; None if it is empty.

    Raises BadRequest with the field's ``name`` and the ``hint``.
    """
    if not text:
        return None
    try:
        at = _in_every_zone(datetime.fromisoformat(text))
    except ValueError:
        raise BadRequest(f"{name} is not a time; {hint}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parse_date(name: str, text: str) -> date:
    """A calendar date; a BadRequest names the parameter."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{name} {text!r} is not a date; use one like 2026-03-01") from None


def check_parameters(request: web.Request, names: frozenset[str]) -> None:
    """BadRequest for an unknown query parameter: ignoring a misspelt filter would return wrong rows."""
    if unknown := sorted(set(request.query) - names):
        allowed = ", ".join(sorted(names)) or "none"
        raise BadRequest(f"unknown parameter {unknown[0]}; known here: {allowed}")


def date_range(request: web.Request) -> tuple[date | None, date | None]:
    """The query's ``from`` and ``to``, both included. Raises BadRequest."""
    since, until = (
        None if (text := request.query.get(name)) is None else parse_date(name, text)
        for name in ("from", "to")
    )
    check_order(since, until)
    return since, until


def check_order(since: date | None, until: date | None) -> None:
    """BadRequest if a range ends before it begins."""
    if since and until and since > until:
        raise BadRequest(f"from ({since}) lies after to ({until}); exchange them")


def next_before(rows: Sequence[asyncpg.Record] | Sequence[dict[str, Any]], size: int) -> int | None:
    """The ``before`` of the next page: the last id of a full page, else None."""
    return rows[-1]["id"] if len(rows) == size else None


def times(row: asyncpg.Record, *names: str) -> dict[str, str | None]:
    """Timestamp columns as ISO 8601 under their camelCase names."""
    return {to_camel(name): iso_or_none(row[name]) for name in names}
