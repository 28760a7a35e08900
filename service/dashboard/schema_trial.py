"""Tries a profile on a dashboard, without a copy: what each field holds, and which jobs could run."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import asyncpg

from service.dashboard.needs import MissingData, MissingDataCheck, absent_tables, check_absent, waits_for
from service.dashboard.profiles.detect import detect
from service.dashboard.profiles.fields import getters, share
from service.dashboard.profiles.reader import Reader
from service.dashboard.profiles.rules import UNLISTED
from service.dashboard.profiles.shapes import Collection, Document, Profile, Table
from service.dashboard.source import Source
from service.errors import JobOff, SchemaUnknown
from service.text import shorten

SAMPLE_SIZE = 200
"""Documents per table, the newest ones."""
_EXAMPLES = 3
_LENGTH = 30
_SECRET_NAME = re.compile(r"passw|pwd|secret|token|hash|salt|api_?key|credential|private", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"\$(2[aby]|argon2|scrypt|pbkdf2)|eyJ[\w-]{8}|-----BEGIN|[\w+/=-]{40}", re.IGNORECASE
)
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class FieldTrial:
    """What a canonical field holds. ``filled``: share of the documents, 0–1. ``examples``: shortened."""

    field: str
    origin: str
    filled: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableTrial:
    """One table: how many documents were read, its fields, and stored fields that no line maps.

    ``problem``: why it cannot be read; empty: it can.
    """

    name: str
    documents: int
    fields: tuple[FieldTrial, ...] = ()
    unmapped: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Documents of a table that have the same problem. ``left_out``: whole documents, or the value alone."""

    reason: str
    count: int
    left_out: bool
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobVerdict:
    """Whether a job could run: ``runs``, ``waits`` or ``off``, and why not."""

    job: str
    verdict: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SchemaTrial:
    """The result. ``problem``: why the profile does not fit the dashboard; empty: it does."""

    problem: str
    tables: tuple[TableTrial, ...]
    rejections: tuple[Rejection, ...]
    jobs: tuple[JobVerdict, ...]

    @property
    def fits(self) -> bool:
        """Whether every table can be read, and no job waits."""
        return not self.problem and not any(job.verdict == "waits" for job in self.jobs)


class _NoCopy:
    """In place of our database: a copy without rows."""

    async def fetch(self, *_arguments: Any) -> list[Any]:
        return []

    async def fetchval(self, *_arguments: Any) -> None:
        return None


async def try_profile(
    source: Source, profile: Profile, needs: Mapping[str, frozenset[str]], default_timezone: str
) -> SchemaTrial:
    """Read the newest documents by a profile. ``needs``: of each job, by its name.

    Raises SourceUnavailable when the dashboard cannot be reached.
    """
    names = await source.table_names()
    samples: dict[str, Sequence[Document]] = {}
    refused: dict[Collection, str] = {}
    for collection in Collection:
        if (table := profile.table(collection)).name:
            try:
                samples[table.name] = await source.sample(table, SAMPLE_SIZE)
            except SchemaUnknown as error:
                samples[table.name], refused[collection] = [], str(error)
    match = detect([profile], samples)
    problem = match.problem or ("" if any(samples.values()) else "none of its tables holds anything")
    check = MissingDataCheck(cast("asyncpg.Pool", _NoCopy()), source)
    await check.check(profile, names, samples)
    missing = check.current
    reader = Reader(profile, default_timezone=default_timezone)
    return SchemaTrial(
        problem,
        tuple(
            _try_table(collection, profile.table(collection), samples, missing)
            for collection in Collection
            if profile.table(collection).name
        ),
        tuple(r for c in Collection for r in _rejections(reader, c, samples.get(profile.table(c).name, ()))),
        tuple(_verdict(name, needs[name], profile, problem, missing) for name in sorted(needs)),
    )


def _try_table(
    collection: Collection,
    table: Table,
    samples: Mapping[str, Sequence[Document]],
    missing: Sequence[MissingData],
) -> TableTrial:
    documents = samples[table.name]
    problem = "; ".join(gap.sentence for gap in missing if gap.table is collection)
    mapped = {path.partition(".")[0] for paths in table.fields.values() for path in paths}
    unmapped = sorted({key for document in documents for key in document} - mapped)
    fields = tuple(_try_field(table, field, documents) for field in table.fields) if documents else ()
    return TableTrial(str(collection), len(documents), fields, tuple(unmapped), problem)


def _try_field(table: Table, field: str, documents: Sequence[Document]) -> FieldTrial:
    paths, rule = table.fields[field], table.rules.get(field)
    get = getters(table)[field]
    values = [value for document in documents if (value := get(document)) not in (None, "")]
    if rule and rule.derive and not paths:
        return FieldTrial(field, rule.derive, share(table, field, documents), ())
    origin = "a constant" if rule and rule.constant is not None else ", ".join(paths)
    secret = any(_SECRET_NAME.search(path) for path in paths)
    examples = dict.fromkeys("(hidden)" if secret else _example(value) for value in values)
    return FieldTrial(field, origin, len(values) / len(documents), tuple(examples)[:_EXAMPLES])


def _example(value: Any) -> str:
    if value is UNLISTED:
        return "(not in its values)"
    words = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    if _SECRET_VALUE.search(words) or (isinstance(value, Mapping) and _SECRET_NAME.search(words)):
        return "(hidden)"
    if _ADDRESS.fullmatch(words):
        local, _, domain = words.partition("@")
        words = f"{local[:1]}…@{domain}"
    return shorten(words, _LENGTH)


def _rejections(reader: Reader, collection: Collection, documents: Sequence[Document]) -> list[Rejection]:
    problems = reader.read(collection, documents).problems
    counts = Counter((problem.reason, problem.fatal) for problem in problems)
    return [
        Rejection(
            f"{collection}.{reason}",
            count,
            fatal,
            tuple(p.id for p in problems if (p.reason, p.fatal) == (reason, fatal))[:_EXAMPLES],
        )
        for (reason, fatal), count in counts.most_common()
    ]


def _verdict(
    job: str, needs: frozenset[str], profile: Profile, problem: str, missing: Sequence[MissingData]
) -> JobVerdict:
    try:
        check_absent(needs, absent_tables([profile]))
    except JobOff as error:
        return JobVerdict(job, "off", str(error))
    gaps = [gap.sentence for gap in missing if waits_for(needs, gap.name)]
    if gaps or (problem and needs):
        return JobVerdict(job, "waits", "; ".join(gaps) or problem)
    return JobVerdict(job, "runs")
