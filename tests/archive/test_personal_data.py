"""Export and erasure of one person: everywhere, for good, and without changing what was counted."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.archive.personal_data import PersonalData
from service.errors import UnknownUser
from service.messages import delivery_rows
from service.messages.outbox import Outbox
from tests.archive.archiving import JANUARY, MONTHS, Case, session
from tests.dashboard.conftest import Dashboard
from tests.given import ADOPT, GOALS, World, user
from tests.web.given import ADMIN, VIEWER, admin

pytestmark = pytest.mark.either_dashboard

WHOM = 1


@pytest.fixture
async def case(world: World, dashboard: Dashboard, tmp_path: Path) -> Case:
    case = await Case.at(world, dashboard, tmp_path / "archive")
    await dashboard.put(
        "goals", 1, user=WHOM, title="Secret plan", status="active", due=datetime(2026, 8, 21, tzinfo=UTC)
    )
    await (await world.runner()).run_manual(GOALS)
    assert (await case.clean()).state == "succeeded"
    await (await world.runner()).run_manual("analytics.dailyAnalytics")
    return case


async def _everything(case: Case) -> str:
    """All rows of all tables, as text; but positions of the synchronisation, which are nobody's data."""
    pool = case.world.pool
    tables = await pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'service' AND tablename <> 'sync_state'"
    )
    found = []
    for table in sorted(row["tablename"] for row in tables):
        rows = await pool.fetch(f"SELECT t::text AS row FROM service.{table} AS t")
        found += [f"{table}: {row['row']}" for row in rows]
    return "\n".join(found)


async def test_the_export_holds_everything(case: Case) -> None:
    key = case.dashboard.key(WHOM)

    found = await PersonalData(case.world.pool, case.archive).export(key)

    assert found["users"][0]["email"] == "u1@example.org"
    assert found["goals"][0]["title"] == "Secret plan"
    assert "Secret plan" in json.dumps([row["facts"] for row in found["delivery"]])
    assert found["notification"]
    assert found["user_day"]
    assert found["user_span"]
    assert found["user_zone"]
    assert len(found["archive"]) == len(found["archived_session"]) == 20
    assert len(found["timer_sessions"]) == 120
    json.dumps(found)
    assert "u2@example.org" not in json.dumps(found)
    with pytest.raises(UnknownUser):
        await PersonalData(case.world.pool, case.archive).export("nobody")


async def test_an_erased_user_is_nowhere_and_does_not_come_back(case: Case) -> None:
    key, pool = case.dashboard.key(WHOM), case.world.pool
    email = "u1@example.org"
    await pool.execute("INSERT INTO service.suppression VALUES ($1, 'complaint')", email)
    await pool.execute("INSERT INTO service.hard_bounce VALUES ($1, 1)", email)
    await pool.execute("INSERT INTO service.audit (who, act, what) VALUES ('x', 'test-send', $1)", {"u": key})
    lifted = {"address": email, "reason": "asked"}
    await pool.execute(
        "INSERT INTO service.audit (who, act, what) VALUES ('x', 'lift-suppression', $1)", lifted
    )
    await pool.execute("INSERT INTO service.recipient_setting (user_id, locale) VALUES ($1, 'de')", key)
    before = await pool.fetch("SELECT * FROM service.rollup ORDER BY statistic, period")

    result = await PersonalData(pool, case.archive).erase(key, "tester")

    assert result["deleted"]["timer_sessions"] == 120
    assert result["deleted"]["suppressionsKept"] == 1
    assert not result["archivePending"]
    await case.sync.run_once(compare=True)
    await session(
        case.dashboard, 7000, datetime(2026, 8, 19, tzinfo=UTC), updated=datetime(2026, 8, 20, tzinfo=UTC)
    )
    await case.sync.run_once(compare=True)
    await pool.execute("UPDATE service.sync_state SET profile = 'load everything again'")
    await case.sync.run_once(compare=True)
    for _ in range(2):
        await (await case.world.runner()).run_manual("analytics.dailyAnalytics")
        await (await case.world.runner()).run_manual(GOALS)

    stored = await _everything(case)
    for trace in (email, "Secret plan", *([key] if len(key) > 5 else [])):
        assert trace not in stored, trace
    holding = await pool.fetch(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'service' AND column_name = 'user_id'"
    )
    for table in {row["table_name"] for row in holding}:
        assert not await pool.fetchval(f"SELECT count(*) FROM service.{table} WHERE user_id = $1", key), table
    assert await pool.fetchval("SELECT count(*) FROM service.timer_sessions WHERE user_id = $1", key) == 0
    assert len(case.archived()) == 40
    assert not await case.archive.months_of(key)
    assert [
        await case.archive.problem(m, await case.archive.files(pool)) for m in case.archive.manifests()
    ] == [None] * 3
    assert len(list(case.folder.iterdir())) == 2 * len(MONTHS)

    after = await pool.fetch("SELECT * FROM service.rollup ORDER BY statistic, period")
    counted = [row for row in after if row["frozen"]]
    assert len(counted) == result["deleted"]["frozenFigures"] > 0
    old = {(row["statistic"], row["period"]): row for row in before}
    for row in counted:
        former = old[row["statistic"], row["period"]]
        assert (row["figures"], row["revision"]) == (former["figures"], former["revision"])
    audit = await pool.fetchrow("SELECT who, what FROM service.audit WHERE act = 'erase'")
    assert audit
    assert audit["who"] == "tester"

    again = await PersonalData(pool, case.archive).erase(key, "tester")
    assert again["deleted"] == {}


async def test_an_account_that_the_dashboard_deleted_is_erased_too(case: Case) -> None:
    key, pool = case.dashboard.key(WHOM), case.world.pool
    figures = "SELECT statistic, period, figures, revision FROM service.rollup ORDER BY 1, 2"
    await case.dashboard.remove("users", WHOM)
    await case.sync.run_once(compare=True)
    await (await case.world.runner()).run_manual("analytics.dailyAnalytics")
    before = await pool.fetch(figures)

    deleted = (await PersonalData(pool, case.archive).erase(key, "tester"))["deleted"]
    await (await case.world.runner()).run_manual("analytics.dailyAnalytics")

    assert (deleted["departed_user"], deleted["timer_sessions"]) == (1, 120)
    assert await pool.fetch(figures) == before
    for row in await pool.fetch(
        "SELECT table_name FROM information_schema.columns"
        " WHERE table_schema = 'service' AND column_name = 'user_id'"
    ):
        table = row["table_name"]
        assert not await pool.fetchval(f"SELECT count(*) FROM service.{table} WHERE user_id = $1", key), table


async def test_a_suppressed_address_stays_refused_under_another_account(case: Case) -> None:
    key, pool = case.dashboard.key(WHOM), case.world.pool
    await pool.execute("INSERT INTO service.suppression VALUES ('u1@example.org', 'complaint')")
    await PersonalData(pool, case.archive).erase(key, "tester")
    new = user("new", email="U1@Example.org")
    await case.world.live(new)

    async with pool.acquire() as connection:
        known = await delivery_rows.contact_histories(
            connection,  # type: ignore[arg-type]
            [new, user("other")],
            datetime(2026, 8, 20, tzinfo=UTC),
        )

    assert known["new"].suppressed
    assert not await pool.fetchval("SELECT count(*) FROM service.suppression")
    await pool.execute(
        """
        INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template,
            locale, address, facts, message_id, message_date, token, not_before, expires_at)
        VALUES ('k', 'email', 'j', 'deadlines', 'new', 'UTC', '2026-08-20', 't', 'en', 'u1@example.org', '{}',
            'm', service.now(), 'token', service.now(), service.now() + interval '1 hour')
        """
    )
    await pool.execute(ADOPT)
    claimed = await Outbox(pool, "o", timedelta(minutes=1)).claim(1000)
    assert [one.history.suppressed for one in claimed if one.user_id == "new"] == [True]


async def test_what_others_did_is_derived_again_but_frozen_figures_are_not(case: Case) -> None:
    pool = case.world.pool
    await PersonalData(pool, case.archive).erase(case.dashboard.key(WHOM), "tester")
    frozen = await pool.fetch(
        "SELECT statistic, period, figures, revision FROM service.rollup WHERE frozen ORDER BY 1, 2"
    )
    await pool.execute(
        "INSERT INTO service.stale_period SELECT statistic, period FROM service.rollup ON CONFLICT DO NOTHING"
    )
    await session(case.dashboard, 3001, JANUARY, user=2, updated=datetime(2026, 8, 20, tzinfo=UTC))

    await (await case.world.runner()).run_manual("analytics.dailyAnalytics")

    again = await pool.fetch(
        "SELECT statistic, period, figures, revision FROM service.rollup WHERE frozen ORDER BY 1, 2"
    )
    assert again == frozen
    assert not await pool.fetchval("SELECT count(*) FROM service.stale_period")


async def test_an_erasure_beside_a_run_is_finished_by_that_run(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erased between writing and removal: the run takes them out again, and removes nothing of theirs."""
    key, pool = case.dashboard.key(WHOM), case.world.pool
    for n in range(9):
        await session(
            case.dashboard,
            2000 + n,
            JANUARY + timedelta(days=n),
            updated=datetime(2026, 8, 20, 11, tzinfo=UTC),
        )
    answers: list[dict[str, Any]] = []

    async def rows(*arguments: Any, rows: Any = case.archive.rows) -> Any:
        if not answers:
            answers.append(await PersonalData(pool, case.archive).erase(key, "tester"))
        return await rows(*arguments)

    monkeypatch.setattr(case.archive, "rows", rows)

    result = await case.clean()

    assert result.state == "succeeded", result.error
    assert answers[0]["archivePending"]
    assert not await case.archive.months_of(key)
    assert await case.noted() == set(case.archived())
    assert len(case.archived()) == 46
    assert (
        sum(
            int(k, 16 if case.dashboard.profile == "A" else 10) in range(2000, 2009)
            for k in await case.stored()
        )
        == 3
    )


async def test_a_died_erasure_is_finished_by_the_next_cleanup(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, pool = case.dashboard.key(WHOM), case.world.pool

    async def verify(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(case.archive, "verify", verify)
        with pytest.raises(KeyboardInterrupt):
            await PersonalData(pool, case.archive).erase(key, "tester")
    assert len(case.archived()) == 60
    restored = [await case.archive.restore(JANUARY.date().replace(day=1))]
    assert restored[0].put_back < 20

    assert (await case.clean("report")).state == "succeeded"

    assert not await case.archive.months_of(key)


async def test_nobody_is_planned_for_who_was_erased_a_moment_ago(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, pool = case.dashboard.key(WHOM), case.world.pool
    await pool.execute("DELETE FROM service.delivery")

    async def hold(*arguments: Any, hold: Any = delivery_rows.lock_existing_users) -> Any:
        await PersonalData(pool, case.archive).erase(key, "tester")
        return await hold(*arguments)

    monkeypatch.setattr(delivery_rows, "lock_existing_users", hold)
    await (await case.world.runner()).run_manual(GOALS)

    assert not await pool.fetchval("SELECT count(*) FROM service.delivery_with_state WHERE user_id = $1", key)
    assert not await pool.fetchval("SELECT count(*) FROM service.refusal_in_words WHERE user_id = $1", key)


async def test_over_http(case: Case) -> None:
    key, people = case.dashboard.key(WHOM), PersonalData(case.world.pool, case.archive)
    async with admin(case.world.pool, people=people) as served:
        path = f"/api/admin/users/{key}/data"
        assert (await served.client.get(path, headers=VIEWER)).status == 403
        answer = await served.client.get(path, headers=ADMIN)
        assert answer.status == 200
        assert (await answer.json())["data"]["goals"][0]["title"] == "Secret plan"
        assert (await served.client.delete("/api/admin/users/nobody/data", headers=ADMIN)).status == 404
        answer = await served.client.delete(path, headers=ADMIN)
        assert answer.status == 200
        assert (await answer.json())["data"]["archivePending"] is False
        assert (await (await served.client.get(path, headers=ADMIN)).json())["data"]["goals"] == []
