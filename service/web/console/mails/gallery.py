"""What an operator looks at in the gallery of mails: the query of its pages; pure."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from service.errors import BadRequest
from service.messages.mail.samples import SAMPLES, Sample
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
    """One way to look at a mail. ``user``: a user's own mail at ``at`` instead of the sample ``variant``.

    ``language``: empty for the recipient's own. ``at``: ISO 8601, UTC where no zone is said; empty for now.
    """

    variant: str = ""
    user: str = ""
    at: str = ""
    language: str = ""
    part: str = "html"
    width: str = "800"
    scheme: str = "light"

    def query(self, **changes: str) -> str:
        """The query of an address that shows this, but for ``changes``; begins with ``?`` or is empty."""
        parameters, defaults = asdict(replace(self, **changes)), asdict(GalleryQuery())
        changed = {name: value for name, value in parameters.items() if value != defaults[name]}
        return f"?{urlencode(changed)}" if changed else ""

    def fields(self, *without: str) -> dict[str, str]:
        """The same for the hidden fields of a form."""
        return {name: value for name, value in asdict(self).items() if value and name not in without}

    @property
    def moment(self) -> datetime | None:
        """The chosen moment; None: now. Raises BadRequest."""
        return params.optional_instant("The moment", self.at, hint="use 2026-03-10T09:00")

    @property
    def moment_typed(self) -> str:
        """The moment as a date field of the browser wants it; empty where there is none."""
        try:
            return f"{self.moment.astimezone(UTC):%Y-%m-%dT%H:%M}" if self.moment else ""
        except BadRequest:
            return ""

    def ask(self, job: str) -> PreviewRequest:
        """The question behind it, for a job (ledger's name). Raises BadRequest."""
        job_type, _, name = job.partition(".")
        return PreviewRequest(
            job_type, name, self.user or None, self.moment, self.variant or None, self.language or None
        )


def view_of(query: Mapping[str, object]) -> GalleryQuery:
    """The view that a query or a form asks for; other names are left alone. Raises BadRequest."""
    fields_ = {
        field.name: str(query[field.name]).strip()[:200]
        for field in fields(GalleryQuery)
        if field.name in query
    }
    for name, choices in _CHOICES.items():
        if name in fields_ and fields_[name] not in choices:
            raise BadRequest(f"{name} must be one of {', '.join(filter(None, choices))}")
    return GalleryQuery(**fields_)


def samples_by_template() -> dict[str, list[Sample]]:
    """Every mail with its samples, in the order in which they are shown."""
    samples: dict[str, list[Sample]] = {}
    for sample in SAMPLES:
        samples.setdefault(sample.template, []).append(sample)
    return samples


def in_scheme(html: str, scheme: str) -> str:
    """The HTML of a mail as a reader in light or in dark mode sees it, whatever this browser prefers."""
    condition = "all" if scheme == "dark" else "not all"
    html = html.replace("@media (prefers-color-scheme: dark)", f"@media {condition}")
    return re.sub(r'(color-schemes?: |content=")light dark', rf"\g<1>{scheme}", html)
