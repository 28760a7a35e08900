"""What a command of a running service is, and the options that many of them take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.cli import answers
from service.cli.arguments import Argument, day, positive_integer, query
from service.cli.tables import Block

Render = Callable[..., list[Block]]
"""From an answer to what is printed; mails are asked for one part of them."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a running service."""

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
    """The parameter that asks for the next page; empty: the answer is whole."""
    max_rows: int = 500
    """Rows that one page may hold."""
    content: str = "application/json"
    """The type of what is sent."""
    files: tuple[str, ...] = ()
    """Values of --format that are streamed as they come; ``*``: always."""
    succeeded: Callable[[Any], bool] = answers.always_succeeds
    """Whether the answer is a success; where not, the exit code is 1."""
    ok_statuses: tuple[int, ...] = (200, 201, 202)
    """Statuses that are answers, not errors."""
    timeout: float = 60
    """Seconds that the service may keep silent."""

    @property
    def mutates(self) -> bool:
        """Whether it changes something: then the service takes an Idempotency-Key, and acts once for it."""
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
