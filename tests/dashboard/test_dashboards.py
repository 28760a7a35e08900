"""The worked examples of docs/mapping.md: applications of another shape, read by the mapping shown there."""

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from bson import json_util

from service.dashboard.profiles.mapping import parse_mapping
from service.dashboard.profiles.mapping_fields import UNIT_FIELDS, UNITS, FieldKey
from service.dashboard.profiles.mapping_notifications import FIELDS as NOTIFICATION_FIELDS
from service.dashboard.profiles.mapping_text import NAME, mapping_text
from service.dashboard.profiles.shapes import NOTIFICATIONS, PROFILES, Collection
from service.dashboard.schema_trial import try_profile
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import DashboardIncomplete, SchemaUnknown
from service.jobs import all_jobs
from tests.dashboard.conftest import MongoDashboard, PostgresDashboard

_FOLDER = Path(__file__).with_name("dashboards")
_DOCUMENTATION = Path("docs/mapping.md")
NAMES = ("mongoose-tasks", "prisma-pomodoro", "supabase-focus")
_NEEDS = {job.name: job.needs for job in all_jobs().values()}


@cache
def mapping(name: str) -> str:
    """The mapping file of an example, as the documentation shows it."""
    section = _DOCUMENTATION.read_text("utf-8").split(f"\n### {name}\n", 1)[1].split("\n### ", 1)[0]
    match = re.search(r"^```toml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert match
    return match[1]


async def _load_mongo(dashboard: MongoDashboard, folder: Path) -> None:
    options = json_util.JSONOptions(tz_aware=True)
    data = json_util.loads((folder / "data.json").read_text("utf-8"), json_options=options)
    for collection, documents in data.items():
        await dashboard.database[collection].insert_many(documents)


async def _load_postgres(dashboard: PostgresDashboard, folder: Path) -> None:
    await dashboard.connection.execute("DROP TABLE users, goals, timer_sessions")
    for part in ("schema.sql", "data.sql"):
        await dashboard.connection.execute((folder / part).read_text("utf-8"))


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """An example, and an empty dashboard of its kind."""
    kind = "mongo" if (_FOLDER / request.param / "data.json").exists() else "postgres"
    return request.param, request.getfixturevalue(f"{kind}_dashboard")


@pytest.fixture
async def example(place: tuple[str, Any]) -> tuple[str, Source]:
    """An example with its data loaded."""
    name, dashboard = place
    load: Any = _load_mongo if isinstance(dashboard, MongoDashboard) else _load_postgres
    await load(dashboard, _FOLDER / name)
    return name, dashboard.source


async def test_every_record_is_read_as_expected(pool: asyncpg.Pool, example: tuple[str, Source]) -> None:
    name, source = example
    sync = Sync(pool, source, SyncSettings(profile=parse_mapping(mapping(name))))
    await sync.run_once(compare=True)
    assert sync.health()["healthy"]
    expected = json.loads((_FOLDER / name / "expected.json").read_text("utf-8"))
    for table, records in expected.items():
        rows = {row["id"]: dict(row) for row in await pool.fetch(f"SELECT * FROM service.{table}")}
        assert set(rows) == {record["id"] for record in records}
        for record in records:
            row = rows[record["id"]]
            assert {key: _comparable(row[key]) for key in record} == {
                key: _comparable(value) for key, value in record.items()
            }


def _comparable(value: Any) -> Any:
    """Times and dates as text; a preference that is not stored is not compared."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", value):
        return datetime.fromisoformat(value)
    if isinstance(value, float):
        return pytest.approx(value)
    return value.isoformat() if hasattr(value, "isoformat") and not isinstance(value, datetime) else value


async def test_without_a_mapping_the_dashboard_is_refused(
    pool: asyncpg.Pool, example: tuple[str, Source]
) -> None:
    sync = Sync(pool, example[1])
    try:
        await sync.run_once()
    except SchemaUnknown:
        assert not sync.health()["healthy"]
        return
    for table in ("goals", "timer_sessions"):  # who the users are can be read in any shape
        with pytest.raises(DashboardIncomplete):
            await sync.require(frozenset({table}))
    assert not sync.health()["healthy"]


async def test_a_trial_says_what_is_rejected_and_that_jobs_can_run(example: tuple[str, Source]) -> None:
    name, source = example
    trial = await try_profile(source, parse_mapping(mapping(name)), _NEEDS, "UTC")
    assert (trial.problem, [table.problem for table in trial.tables]) == ("", ["", "", ""])
    rejected = {rejection.reason: (rejection.count, rejection.left_out) for rejection in trial.rejections}
    assert (
        rejected
        == {
            "mongoose-tasks": {"users.timezone": (4, False), "timer_sessions.impossible_times": (1, False)},
            "prisma-pomodoro": {"users.timezone": (2, False)},
            "supabase-focus": {"users.timezone": (1, False), "timer_sessions.impossible_times": (1, False)},
        }[name]
    )
    assert {job.verdict for job in trial.jobs} == {"runs"}
    assert trial.fits


@pytest.mark.parametrize("name", list(PROFILES))
def test_a_built_in_profile_is_shown_as_a_file_that_says_the_same(name: str) -> None:
    shown = parse_mapping(mapping_text(PROFILES[name]))
    assert shown.name == NAME
    for collection in Collection:
        assert shown.table(collection) == PROFILES[name].table(collection)
    for attribute in ("open_states", "focus_kinds", "running_states", "planned_unit", "focus_unit"):
        assert getattr(shown, attribute) == getattr(PROFILES[name], attribute)
    assert shown.notifications == NOTIFICATIONS["postgresql" if name == "PG" else "mongodb"]


def test_the_other_mappings_of_the_documentation_are_accepted() -> None:
    text = _DOCUMENTATION.read_text("utf-8").split("\n## Examples\n")[0]
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert [parse_mapping(block).name for block in blocks] == ["my-dashboard", *["mapping"] * 3]


def test_the_documentation_names_every_field_and_key() -> None:
    text = _DOCUMENTATION.read_text("utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    fields = {f for profile in PROFILES.values() for c in Collection for f in profile.table(c).fields}
    assert {
        *fields,
        *NOTIFICATION_FIELDS,
        *FieldKey,
        *UNITS,
        *(key for keys in UNIT_FIELDS.values() for key in keys),
    } <= named
