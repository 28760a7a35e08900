"""The archive of old sessions: retention, file names, and proofs that files are complete. Pure.

    timer_sessions-2026-01.g3.parquet     the sessions that ended in January 2026 (UTC)
    timer_sessions-2026-01.g3.json        its manifest, written once the file has been read back

A month has one file; rewriting it raises its generation. The newest one with a manifest counts.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from service.errors import ArchiveDamaged

_KIND = "dashboard-jobs archive"
_FORMAT = 1
_TOO_MUCH = 0.2
_NAME = re.compile(
    r"^(?P<collection>[a-z_]+)-(?P<month>\d{4}-\d\d)\.g(?P<generation>\d+)\.(?P<what>parquet|json)$"
)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long data is kept.

    ``mode``: report only counts, archive moves sessions to files. ``interval``: the age, by end, at which the
    dashboard's sessions are archived. ``retention``: of the service's own fine-grained figures.
    ``budget``: how long a run may take.
    """

    mode: Literal["report", "archive"] = "report"
    interval: timedelta = timedelta(days=180)
    retention: timedelta = timedelta(days=365)
    budget: timedelta = timedelta(minutes=30)

    @property
    def ledger(self) -> timedelta:
        """How long runs, reasons and deliveries are kept: links in mails live for a year."""
        return max(self.retention, timedelta(days=400))


@dataclass(frozen=True, slots=True)
class ArchivedSession:
    """One archived session. ``body`` is the dashboard's own document or row, exactly: what is restored.

    Canonical extended JSON (MongoDB) or the row as JSON (PostgreSQL). The other columns make it readable.
    """

    id: str
    user_id: str
    kind: str
    status: str
    started_at: datetime
    ended_at: datetime
    focus_seconds: int
    updated_at: datetime | None
    body: str


class RowHash:
    """A hash of a set of rows, independent of their order."""

    def __init__(self) -> None:
        self._sum = 0
        self.rows = 0

    def add(self, rows: Iterable[ArchivedSession]) -> None:
        """Add rows."""
        for row in rows:
            text = json.dumps([row.id, row.user_id, row.body], ensure_ascii=False).encode()
            self._sum += int.from_bytes(hashlib.sha256(text).digest())
            self.rows += 1

    @property
    def hex(self) -> str:
        """64 hexadecimal digits."""
        return f"{self._sum % 2**256:064x}"


@dataclass(frozen=True, slots=True)
class FileProof:
    """What a file contains: how many rows and bytes, and the hashes of both."""

    rows: int
    bytes: int
    row_hash: str
    file_hash: str


@dataclass(frozen=True, slots=True, order=True)
class FileName:
    """Which file of the archive. ``month``: its first day."""

    collection: str
    month: date
    generation: int

    @property
    def data(self) -> str:
        """The file with the rows."""
        return f"{self.collection}-{self.month:%Y-%m}.g{self.generation}.parquet"

    @property
    def manifest(self) -> str:
        """The file that proves it."""
        return f"{self.collection}-{self.month:%Y-%m}.g{self.generation}.json"


def name_of(file: str) -> FileName | None:
    """The name of an archive file (data or manifest); None for any other file."""
    match = _NAME.match(file)
    if not match:
        return None
    return FileName(match["collection"], date.fromisoformat(f"{match['month']}-01"), int(match["generation"]))


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a file. ``source``: mongodb or postgresql; ``table``: where the rows came from."""

    name: FileName
    source: str
    table: str
    proof: FileProof

    def to_json(self) -> str:
        """The text of the manifest."""
        head = {"kind": _KIND, "format": _FORMAT, "source": self.source, "table": self.table}
        name = {**asdict(self.name), "month": f"{self.name.month:%Y-%m}", "file": self.name.data}
        return json.dumps({**head, **name, **asdict(self.proof)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, name: FileName, text: str) -> "Manifest":
        """Raises ArchiveDamaged unless the text is the manifest of ``name``."""
        try:
            values: dict[str, Any] = json.loads(text)
            proof = FileProof(**{field.name: values[field.name] for field in fields(FileProof)})
            matches = values["kind"] == _KIND and values["format"] == _FORMAT and values["file"] == name.data
            manifest = cls(name, values["source"], values["table"], proof)
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveDamaged(f"{name.manifest} is not a manifest: {error!r}") from None
        if not matches:
            raise ArchiveDamaged(f"{name.manifest} is not the manifest of {name.data}")
        return manifest


def month_of(at: datetime) -> date:
    """The first day of the month of an instant, in UTC."""
    return at.astimezone(UTC).date().replace(day=1)


def span(month: date, cutoff: datetime) -> tuple[datetime, datetime]:
    """The instants [from, to) of a month (UTC), not beyond the cutoff."""
    start = datetime(month.year, month.month, 1, tzinfo=UTC)
    return start, min((start + timedelta(days=32)).replace(day=1), cutoff)


def months(first: datetime | None, cutoff: datetime) -> list[date]:
    """The months (UTC) from that of ``first`` to that of the last instant before the cutoff."""
    result: list[date] = []
    while first and first < cutoff:
        result.append(month_of(first))
        first = span(result[-1], datetime.max.replace(tzinfo=UTC))[1]
    return result


def too_much(count: int, total: int) -> bool:
    """Whether so much of a collection would be removed that an operator must confirm it."""
    return count > total * _TOO_MUCH
