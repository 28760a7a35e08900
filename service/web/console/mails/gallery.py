"""The query string of the mail gallery's pages; pure."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from service.errors import BadRequest
from service.messages.mail.words import LANGUAGES
from service.messages.preview import PreviewRequest
from service.web import params

PARTS = {"html": "HTML", "text": "Text", "source": "Source"}
WIDTHS = {"320": "Narrow", "800": "Wide"}
SCHEMES = {"light": "Light", "dark": "Dark"}
_CHOICES: dict[str, tuple[str, ...]] = {
    "part": tuple(PARTS),
    "width": tuple(WIDTHS),
    "scheme": tuple(SCHEMES),
    "language": ("", *LANGUAGES),
}


@dataclass(frozen=True, slots=True)
class GalleryQuery:
    """How a mail is shown. ``user``: this user's own mail at ``at`` instead of the sample ``variant``.

    ``language``: empty for the recipient's own. ``at``: ISO 8601, UTC unless it names a zone; empty for now.
    """

    variant: str = ""
    user: str = ""
    at: str = ""
    language: str = ""
    part: str = "html"
    width: str = "800"
    scheme: str = "light"

    def query(self, **changes: str) -> str:
        """The query string for this view with ``changes``; begins with ``?`` or is empty."""
        parameters, defaults = asdict(replace(self, **changes)), asdict(GalleryQuery())
        changed = {name: value for name, value in parameters.items() if value != defaults[name]}
        return f"?{urlencode(changed)}" if changed else ""

    def fields(self, *without: str) -> dict[str, str]:
        """The view as hidden fields of a form."""
        return {name: value for name, value in asdict(self).items() if value and name not in without}

    @property
    def moment(self) -> datetime | None:
        """The chosen time; None: now. Raises BadRequest."""
        return params.optional_instant("The moment", self.at, hint="use 2026-03-10T09:00")

    @property
    def moment_typed(self) -> str:
        """The chosen time as the value of a ``datetime-local`` field; empty for now."""
        try:
            return f"{self.moment.astimezone(UTC):%Y-%m-%dT%H:%M}" if self.moment else ""
        except BadRequest:
            return ""

    def ask(self, job: str) -> PreviewRequest:
        """The preview to request for a job (``reminder.<name>``). Raises BadRequest."""
        job_type, _, name = job.partition(".")
        return PreviewRequest(
            job_type, name, self.user or None, self.moment, self.variant or None, self.language or None
        )


def view_of(query: Mapping[str, object]) -> GalleryQuery:
    """The view that a query string or form describes; other fields are ignored. Raises BadRequest."""
    fields_ = {
        field.name: str(query[field.name]).strip()[:200]
        for field in fields(GalleryQuery)
        if field.name in query
    }
    for name, choices in _CHOICES.items():
        if name in fields_ and fields_[name] not in choices:
            raise BadRequest(f"{name} must be one of {', '.join(filter(None, choices))}")
    return GalleryQuery(**fields_)


def in_scheme(html: str, scheme: str) -> str:
    """The HTML of a mail forced into light or dark mode, whatever the browser prefers."""
    condition = "all" if scheme == "dark" else "not all"
    html = html.replace("@media (prefers-color-scheme: dark)", f"@media {condition}")
    return re.sub(r'(color-schemes?: |content=")light dark', rf"\g<1>{scheme}", html)
