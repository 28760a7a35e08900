"""The ``Command`` type, and options that several commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.cli import answers
from service.cli.arguments import Argument, day, positive_integer, query
from service.cli.tables import Block

Render = Callable[..., list[Block]]
"""Renders an answer; for mails it takes the part as a second argument."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that calls one operation of the API."""

    words: str
    operation: str
    """Its operationId in openapi.yaml."""
    method: str
    path: str
    text: str
    example: str
    render: Render
    arguments: tuple[Argument, ...] = ()
    pages: str = ""
    """The query parameter for the next page; empty: there are no pages."""
    max_rows: int = 500
    """The largest page size."""
    content: str = "application/json"
    """The Content-Type of the body."""
    files: tuple[str, ...] = ()
    """Values of --format whose answer is streamed; ``*``: always."""
    succeeded: Callable[[Any], bool] = answers.always_succeeds
    """Whether the answer is a success; if not, the exit code is 1."""
    ok_statuses: tuple[int, ...] = (200, 201, 202)
    """HTTP statuses that are not errors."""
    timeout: float = 60
    """Seconds without data after which the request fails."""

    @property
    def mutates(self) -> bool:
        """Whether it changes something; then it is sent with an Idempotency-Key."""
        return self.method != "GET" and self.operation != "preview"


FROM = query("--from", "first date, included", day)
TO = query("--to", "last date, included", day)
BEFORE = (
    query("--limit", "how many rows; default 50", positive_integer),
    query("--before", "only older than this number", positive_integer),
)
CURSOR = (
    query("--limit", "how many rows; default 100", positive_integer),
    query("--cursor", "from where the page before ended"),
)
FILES = ("csv", "parquet")
FORMAT = query("--format", "how it is written", choices=("table", "json", *FILES), default="table")
OPEN = (
    query("--open", "only what holds now", const=True),
    query("--over", "only what is over", field="open", const=False),
)
