"""A view, or a query of the mapping file, is read as the table itself would be; on both kinds of database."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from bson import ObjectId

from service.dashboard.profiles.mapping import parse_mapping
from service.dashboard.profiles.shapes import PROFILES, Collection, Profile, Table
from service.dashboard.profiles.values import identity
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import CleanupRefused, DashboardIncomplete, SchemaUnknown
from tests.dashboard.conftest import T0, Dashboard, MongoDashboard, PostgresDashboard
from tests.dashboard.test_conformance import count, fill

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Case:
    """The same users in a table and in what stands for it."""

    dashboard: Any
    table: Table
    other: Table

    @property
    def source(self) -> Source:
        source: Source = self.dashboard.source
        return source


def query_table(mapping: str) -> Table:
    return parse_mapping(mapping).users


@pytest.fixture(params=["mongo view", "mongo pipeline", "postgres view", "postgres SELECT"])
def place(request: pytest.FixtureRequest) -> tuple[Any, str, str]:
    """A dashboard, its kind of database, and what stands for the table of users there."""
    kind, origin = request.param.split(" ")
    return request.getfixturevalue(f"{kind}_dashboard"), kind, origin


@pytest.fixture
async def case(place: tuple[Any, str, str]) -> Case:
    dashboard, kind, origin = place
    table = PROFILES[dashboard.profile].users
    for n in range(1, 8):
        await dashboard.put("users", n, name=f"Person {n}", email=f"p{n}@example.org", updated=T0 + n * HOUR)
    if origin == "view":
        if kind == "mongo":
            await dashboard.database.command("create", "people", viewOn="users", pipeline=[])
        else:
            await dashboard.connection.execute("CREATE VIEW people AS SELECT * FROM users")
        return Case(dashboard, table, replace(table, name="people"))
    text = {
        "pipeline": '\'[{"$match": {"name": {"$exists": true}}}]\'',
        "SELECT": '"SELECT * FROM users -- all"',
    }
    extends = {"pipeline": "A", "SELECT": "PG"}[origin]
    return Case(dashboard, table, query_table(f'extends = "{extends}"\n[users]\nsource = {text[origin]}'))


async def test_it_is_paged_in_the_same_order(case: Case) -> None:
    for table in (case.table, case.other):
        names, ids, after, id_after = [], [], "", ""
        while (page := await case.source.page(table, after, 3)).documents:
            names += [document["name"] for document in page.documents]
            after = page.after
        while (digests := await case.source.digests(table, id_after, 3)).after != id_after:
            ids += [id_ for id_, _ in digests.rows]
            id_after = digests.after
        assert names == [f"Person {n}" for n in range(1, 8)]
        assert ids == [case.dashboard.key(n) for n in range(1, 8)]


async def test_its_changes_and_single_rows_are_read(case: Case) -> None:
    keys = [case.dashboard.key(n) for n in (2, 5, 99)]
    for table in (case.table, case.other):
        changed = [batch async for batch in case.source.changes(table, T0 + 5 * HOUR, 2)]
        assert [[document["name"] for document in batch] for batch in changed if batch] == [
            ["Person 5", "Person 6"],
            ["Person 7"],
        ]
        fetched = await case.source.fetch(table, [*keys, "nobody"])
        assert sorted(document["name"] for document in fetched) == ["Person 2", "Person 5"]
        assert await case.source.existing(table, keys) == set(keys[:2])


async def test_it_is_sampled_and_its_times_of_writing_are_known(case: Case) -> None:
    for table in (case.table, case.other):
        sample = await case.source.sample(table, 2)
        assert [identity(document[table.id]) for document in sample] == [
            case.dashboard.key(n) for n in (7, 6)
        ]
        assert await case.source.newest_update(table) == T0 + 7 * HOUR
        assert await case.source.exists(table)


async def test_its_index_is_that_of_the_table_behind_it(case: Case) -> None:
    if isinstance(case.dashboard, MongoDashboard):
        assert await case.source.lacks_index(case.other)
        await case.dashboard.database["users"].create_index("updatedAt")
    assert not await case.source.lacks_index(case.other)
    if isinstance(case.dashboard, PostgresDashboard):
        await case.dashboard.connection.execute("DROP INDEX users_updated_at_id_idx")
        assert await case.source.lacks_index(case.other)
        assert await case.source.lacks_index(case.table)


async def test_nothing_is_removed_from_it(case: Case) -> None:
    obstacle = await case.source.removal_obstacle(case.other)
    assert obstacle
    assert ("is a query of the mapping file" if case.other.query else "people is a view") in obstacle
    if case.other.query:
        for refused in (case.source.originals, case.source.remove, case.source.insert):
            act: Callable[[Table, Any], Any] = refused
            with pytest.raises(CleanupRefused, match="the source of users is a query of the mapping file"):
                await act(case.other, {})


async def test_ids_of_several_types_are_all_paged(mongo_dashboard: MongoDashboard) -> None:
    keys: list[Any] = [7, 8, "a", "b", ObjectId(f"{1:024x}"), ObjectId(f"{2:024x}")]
    await mongo_dashboard.database["users"].insert_many([{"_id": key} for key in keys])
    table = query_table("[users]\nsource = '[{\"$match\": {}}]'")
    seen, after = [], ""
    while (page := await mongo_dashboard.source.page(table, after, 1)).documents:
        seen += [document["_id"] for document in page.documents]
        after = page.after
    assert seen == keys


@pytest.mark.parametrize(
    "stages",
    [
        '{"$set": {"name": {"$concat": ["$name", "!"]}}}',
        '{"$project": {"_id": 1, "name": 1}}, {"$match": {"name": {"$ne": "x"}}}',
        '{"$lookup": {"from": "goals", "localField": "_id", "foreignField": "userId", "as": "goals"}}',
        '{"$unset": ["secret"]}',
    ],
)
async def test_a_page_of_a_pipeline_reads_no_more_than_itself(
    mongo_dashboard: MongoDashboard, stages: str
) -> None:
    documents = [{"_id": ObjectId(f"{n:024x}"), "name": str(n)} for n in range(500)]
    await mongo_dashboard.database["users"].insert_many(documents)
    table = query_table(f"[users]\nsource = '[{stages}]'")
    first = await mongo_dashboard.source.page(table, "", 100)
    await mongo_dashboard.database.command("profile", 2)
    second = await mongo_dashboard.source.page(table, first.after, 100)
    await mongo_dashboard.database.command("profile", 0)
    assert [document["_id"] for document in second.documents] == [one["_id"] for one in documents[100:200]]
    profiled = await mongo_dashboard.database["system.profile"].find_one({"command.aggregate": "users"})
    assert profiled["docsExamined"] < 250


@pytest.mark.parametrize(
    "stages",
    [
        '{"$set": {"_id": {"$subtract": [100, "$_id"]}}}',
        '{"$project": {"_id": {"$subtract": [100, "$_id"]}}}',
        '{"$sort": {"_id": -1}}',
        '{"$group": {"_id": "$_id"}}',
        '{"$replaceRoot": {"newRoot": {"_id": {"$subtract": [100, "$_id"]}}}}',
    ],
)
async def test_a_pipeline_that_changes_ids_or_order_is_paged_all_the_same(
    mongo_dashboard: MongoDashboard, stages: str
) -> None:
    await mongo_dashboard.database["users"].insert_many([{"_id": n} for n in range(1, 8)])
    table = query_table(f"[users]\nsource = '[{stages}]'")
    seen, after = [], ""
    while (page := await mongo_dashboard.source.page(table, after, 2)).documents:
        seen += [document["_id"] for document in page.documents]
        after = page.after
    assert seen == sorted(seen)
    assert len(seen) == 7


_MAPPINGS = {
    "mongo": """
[users]
source = [ { "$set" = { name = { "$concat" = ["$name", "!"] } } } ]
[goals]
source = '[{"$match": {"title": {"$ne": "Goal 2"}}}]'
""",
    "postgres": """
extends = "PG"
[users]
source = "SELECT id, name || '!' AS name, email, timezone, is_active, updated_at FROM users;"
[goals]
source = '''
WITH chosen AS (SELECT * FROM goals WHERE title <> 'Goal 2')
SELECT * FROM chosen -- the others are templates
'''
""",
}


def _profile(dashboard: Dashboard) -> Profile:
    return parse_mapping(_MAPPINGS["mongo" if dashboard.profile == "A" else "postgres"])


async def test_a_whole_dashboard_is_copied_from_queries(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source, SyncSettings(profile=_profile(dashboard)))
    assert (await sync.run_once(compare=True)).profile == "mapping"
    names = [row["name"] for row in await pool.fetch("SELECT name FROM service.users ORDER BY name")]
    assert names == ["Person 1!", "Person 2!", "Person 3!"]
    assert await count(pool, "goals") == 2
    await dashboard.put("users", 1, name="Ann", email="a@example.org", updated=T0 + HOUR)
    await dashboard.remove("goals", 1)
    await sync.run_once(compare=True)
    assert await pool.fetchval("SELECT name FROM service.users WHERE id = $1", dashboard.key(1)) == "Ann!"
    assert await count(pool, "goals") == 1
    assert sync.health()["healthy"]


async def test_a_query_for_the_other_kind_is_refused_by_name(dashboard: Dashboard) -> None:
    mapping = _MAPPINGS["postgres" if dashboard.profile == "A" else "mongo"]
    with pytest.raises(SchemaUnknown, match=r"the source of users is a .*; DASHBOARD_URL is of another kind"):
        await dashboard.source.sample(query_table(mapping), 1)


async def test_a_query_that_cannot_be_run_stops_only_those_that_need_it(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    broken = {
        "A": ("[goals]\nsource = '[{\"$mach\": {}}]'", "Unrecognized pipeline stage name: '\\$mach'"),
        "PG": ('extends = "PG"\n[goals]\nsource = "SELECT * FROM goal"', 'relation "goal" does not exist'),
    }
    mapping, reason = broken[dashboard.profile]
    sync = Sync(pool, dashboard.source, SyncSettings(profile=parse_mapping(mapping)))
    await sync.run_once()
    assert [await count(pool, table) for table in ("users", "goals", "timer_sessions")] == [3, 0, 3]
    assert not sync.health()["healthy"]
    with pytest.raises(DashboardIncomplete, match=f"the source of goals cannot be read: {reason}"):
        await sync.require(frozenset({"goals"}))
    await sync.require(frozenset({"users.email", "timer_sessions"}))


async def test_queries_of_which_none_can_be_run_are_refused(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    await fill(dashboard)
    query = {"PG": '"SELECT nothing"', "A": "'[{\"$x\": 1}]'"}[dashboard.profile]
    mapping = "".join(f"[{collection}]\nsource = {query}\n" for collection in Collection)
    extends = f'extends = "{dashboard.profile}"\n'
    profile = parse_mapping(extends + mapping)
    with pytest.raises(SchemaUnknown, match="cannot be read"):
        await Sync(pool, dashboard.source, SyncSettings(profile=profile)).run_once()


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ('{"$project": {"_id": 0, "name": 1}}', "gives documents without _id"),
        ('{"$match": {"_id": {"$oid": "no"}}}', "is no pipeline"),
        ('{"$set": {"n": {"$toInt": "$name"}}}', "cannot be read: .*Failed to parse number 'x'"),
    ],
)
async def test_a_pipeline_that_loses_ids_or_fails_on_a_document_is_named(
    mongo_dashboard: MongoDashboard, stages: str, reason: str
) -> None:
    await mongo_dashboard.put("users", 1, name="x")
    table = query_table(f"[users]\nsource = '[{stages}]'")
    with pytest.raises(SchemaUnknown, match=f"the source of users {reason}"):
        await mongo_dashboard.source.page(table, "", 10)


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        ("SELECT u.*, g.id FROM users u JOIN goals g ON true", "has several columns id: name them apart"),
        ("SELECT id, name::int AS name FROM users", "cannot be read: invalid input syntax"),
        ("SELECT name FROM users", "has no column id"),
    ],
)  # fmt: skip
async def test_a_select_that_cannot_be_read_is_named(
    postgres_dashboard: PostgresDashboard, select: str, reason: str
) -> None:
    await postgres_dashboard.put("users", 1, name="x")
    table = query_table(f'extends = "PG"\n[users]\nsource = "{select}"')
    with pytest.raises(SchemaUnknown, match=f"the source of users {reason}"):
        await postgres_dashboard.source.page(table, "", 10)


async def test_a_select_is_run_read_only(postgres_dashboard: PostgresDashboard) -> None:
    await postgres_dashboard.connection.execute(
        "CREATE FUNCTION remove_all() RETURNS SETOF users LANGUAGE sql AS 'DELETE FROM users RETURNING *'"
    )
    await postgres_dashboard.put("users", 1, name="x")
    table = query_table('extends = "PG"\n[users]\nsource = "SELECT * FROM remove_all()"')
    with pytest.raises(Exception, match="is read-only"):
        await postgres_dashboard.source.sample(table, 1)
    assert await postgres_dashboard.connection.fetchval("SELECT count(*) FROM users") == 1


async def test_mongodb_reads_by_its_own_ids_only(mongo_dashboard: MongoDashboard) -> None:
    table = query_table('[users]\nid = "uuid"')
    with pytest.raises(SchemaUnknown, match="users: a record's id must be _id in MongoDB, not uuid"):
        await mongo_dashboard.source.page(table, "", 10)


def test_pipelines_may_be_written_in_two_ways() -> None:
    as_text = parse_mapping("[users]\nsource = '''[{\"$match\": {\"kind\": \"person\"}}]'''")
    as_list = parse_mapping('[users]\nsource = [ { "$match" = { kind = "person" } } ]')
    assert as_text.users.query == as_list.users.query
    dated = parse_mapping('[users]\nsource = [ { "$match" = { at = { "$gte" = 2026-01-01T00:00:00Z } } } ]')
    assert dated.users.query
    assert '{"$date": "2026-01-01T00:00:00+00:00"}' in dated.users.query.text
    assert dated.table(Collection.USERS).stored_as == "users"
