"""``[notifications]`` of a mapping file: strict, and what is written lands where it says, under its names."""

import re
from pathlib import Path

import asyncpg
import pytest

from service.dashboard.notification import digest
from service.dashboard.profiles.mapping import parse_mapping
from service.dashboard.profiles.shapes import Profile
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import ConfigurationError, InboxClosed
from tests.dashboard.conftest import MongoDashboard, PostgresDashboard
from tests.dashboard.test_notification import note

_POSTGRES = """
extends = "PG"
[tables]
notifications = "app.alerts"
[notifications]
id = "alert"
user = "Recipient"
title = "heading"
message = "text"
read = "seen_at"
data = ""
"""


def documented() -> Profile:
    """The example of docs/mapping.md."""
    text = Path("docs/mapping.md").read_text("utf-8").split("\n## The inbox of the dashboard\n")[1]
    match = re.search(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert match
    return parse_mapping(match[1])


async def test_the_documented_collection_is_filled_under_its_names(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    sync = Sync(pool, mongo_dashboard.source, SyncSettings(profile=documented()))
    written = note(user_id=mongo_dashboard.key(1))
    with pytest.raises(InboxClosed, match="has no collection alerts; create it"):
        await sync.notify([written])
    await mongo_dashboard.database.create_collection("alerts")

    for _ in range(2):
        assert await sync.notify([written]) == {}

    [found] = await mongo_dashboard.database["alerts"].find().to_list(None)
    assert found.pop("_id").binary == digest(written.key)[:12]
    assert found == {
        "recipient": mongo_dashboard.oid(1), "heading": "Due tomorrow", "text": "Read",
        "kind": "goal_deadline", "at": written.visible_from,
    }  # fmt: skip


async def test_the_mapped_table_is_filled_and_a_column_that_it_lacks_is_named(
    pool: asyncpg.Pool, postgres_dashboard: PostgresDashboard
) -> None:
    connection, profile = postgres_dashboard.connection, parse_mapping(_POSTGRES)
    sync = Sync(pool, postgres_dashboard.source, SyncSettings(profile=profile))
    await connection.execute(
        'CREATE SCHEMA app; CREATE TABLE app.alerts (alert uuid PRIMARY KEY, "Recipient" bigint,'
        " heading text, text text, data jsonb, type text, status text, created_at timestamptz)"
    )
    with pytest.raises(InboxClosed, match=r"table app\.alerts has no column seen_at; add it"):
        await sync.notify([])
    await connection.execute("ALTER TABLE app.alerts ADD COLUMN seen_at timestamptz")
    written = note(user_id="7", data={"streak": 3})

    for _ in range(2):
        assert await sync.notify([written]) == {}

    [found] = await connection.fetch("SELECT * FROM app.alerts")
    assert dict(found) == {
        "alert": found["alert"], "Recipient": 7, "heading": "Due tomorrow", "text": "Read", "data": None,
        "type": "goal_deadline", "status": "sent", "created_at": written.visible_from, "seen_at": None,
    }  # fmt: skip
    assert found["alert"].bytes == digest(written.key)[:16]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[notifications]\ncolour = 'c'", "[notifications] unknown field 'colour'; known are action,"),
        ("[notifications]\ntitle = 3", "[notifications] title must be the name of a field"),
        ("[notifications]\ntitle = ['a', 'b']", "[notifications] title must be the name of a field"),
        ("[notifications]\ntitle = 'a..b'", "[notifications] title must be the name of a field"),
        ("[notifications]\ntitle = ''", "[notifications] title must be mapped"),
        ("[notifications]\ntitle = 'x'\nmessage = 'x'", "[notifications] x is named for several fields"),
        ("[tables]\nnotifications = ''", "[tables] notifications: name where they are"),
        ("notifications = 'alerts'", "[notifications] must be a table"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_mapping(text)
    [told] = refused.value.problems
    assert told.startswith(f"DASHBOARD_SCHEMA: {problem}")


def test_a_file_that_says_nothing_about_it_leaves_the_usual_inbox() -> None:
    assert parse_mapping('[goals]\ndue = "finishBy"').notifications is None
