"""The dashboard's part of ``check-config``: rights, profile, mapping, counts of rows, time zones."""

from collections import Counter
from collections.abc import Collection as Values

from service import zones
from service.dashboard import doubts
from service.dashboard.profile_choice import candidate_profiles
from service.dashboard.profiles.detect import detect
from service.dashboard.profiles.fields import values
from service.dashboard.profiles.shapes import Collection, Document, Profile
from service.dashboard.source import Source
from service.dashboard.sync_settings import SyncSettings
from service.engine import postgres_url
from service.errors import SchemaUnknown, SourceUnavailable
from service.messages.kind import MessageKind
from service.settings import Settings
from service.setup.findings import Findings
from service.setup.parts import profile_of, source_of

_SAMPLE = 200


async def check_dashboard(
    settings: Settings, kinds: Values[MessageKind], findings: Findings, seconds: float
) -> None:
    """Whether the dashboard can be read as the settings say. ``seconds``: until it counts as unreachable.

    Raises SourceUnavailable if it cannot be reached, and ConfigurationError for a mapping file that is wrong.
    """
    profile = profile_of(settings, kinds)
    if not settings.dashboard_url:
        findings.facts.append("DASHBOARD_URL is empty: the sample dashboard")
        return
    if not settings.dashboard_url.startswith("mongodb"):
        warnings = postgres_url.read(settings.dashboard_url, settings.dashboard_pooler).warnings
        findings.warnings += [f"DASHBOARD_URL: {warning}" for warning in warnings]
    source = source_of(settings.dashboard_url, settings, timeout=seconds)
    try:
        schema = "auto" if profile else settings.dashboard_schema
        await _inspect(source, candidate_profiles(SyncSettings(schema=schema, profile=profile)), findings)
    finally:
        await source.close()


async def _inspect(source: Source, candidates: list[Profile], findings: Findings) -> None:
    tables = await source.table_names()
    if not tables:
        findings.warnings.append(f"DASHBOARD_URL: {doubts.NOTHING_VISIBLE.sentence}")
    named_tables = {
        table.name: table for profile in candidates for table in map(profile.table, Collection) if table.name
    }
    existing: list[str] = []
    samples: dict[str, list[Document]] = {}
    for name, table in sorted(named_tables.items()):
        try:
            if name in tables or ((table.query or "." in name) and await source.exists(table)):
                existing.append(name)
                samples[name] = await source.sample(table, _SAMPLE)
        except (SourceUnavailable, SchemaUnknown) as error:  # of one table: the others may have their own
            findings.problems.append(str(error))
    match = detect(candidates, samples)
    if match.problem:
        findings.problems.append(
            f"DASHBOARD_SCHEMA: {match.problem}; describe the dashboard in a mapping file"
        )
    named = len(candidates) == 1
    profile = match.profile or (candidates[0] if named else None)
    if profile is not None:
        findings.facts.append(f"profile {profile.name}, {match.score:.0%} of the fields are there")
        missing = (
            findings.problems if named else findings.warnings
        )  # a collection is made by its first document
        missing += _missing_tables(profile, existing)
        await _inspect_tables(source, profile, samples, findings)


def _missing_tables(profile: Profile, existing: list[str]) -> list[str]:
    return [
        f"DASHBOARD_SCHEMA: there is no {table.name}, which the profile {profile.name} names; create it,"
        " or name the right one in a mapping file"
        for table in map(profile.table, Collection)
        if table.name and table.name not in existing
    ]


async def _inspect_tables(
    source: Source, profile: Profile, samples: dict[str, list[Document]], findings: Findings
) -> None:
    for table in map(profile.table, Collection):
        name = table.name
        if name not in samples:
            continue
        findings.facts.append(f"{name}: {await source.count(table):,} rows")
        if await source.hides_rows(table):
            findings.warnings.append(f"DASHBOARD_URL: {doubts.hidden_rows(name).sentence}")
    if users := samples.get(profile.users.name):
        _inspect_zones(profile, users, findings)


def _inspect_zones(profile: Profile, users: list[Document], findings: Findings) -> None:
    stored = values(profile.users, "timezone", users) if "timezone" in profile.users.fields else []
    sampled = f"the newest {len(users)} users"
    unknown = Counter(str(value) for value in stored if zones.canonical_name(value) is None)
    if unknown:
        findings.warnings.append(
            f"time zones: {unknown.total()} of {sampled} have one that is no IANA zone"
            f" ({', '.join(repr(name) for name, _ in unknown.most_common(3))}); DEFAULT_TIMEZONE stands in"
        )
    elif not stored:
        findings.warnings.append(f"time zones: none of {sampled} has one; DEFAULT_TIMEZONE stands in for all")
    else:
        findings.facts.append(f"time zones: {len(stored)} of {sampled} have one")
