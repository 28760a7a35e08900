"""dataCleanup: what may go, what is kept, and that every session is in exactly one place."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.archive import archive
from service.archive.manifest import RetentionPolicy, months, too_much
from service.errors import ArchiveDamaged
from service.jobs import data_cleanup
from tests.archive.archiving import CLEANUP, JANUARY, MONTHS, Case, session
from tests.dashboard.conftest import Dashboard, PostgresDashboard
from tests.given import ADOPT, World

pytestmark = pytest.mark.either_dashboard


@pytest.fixture
async def case(world: World, dashboard: Dashboard, tmp_path: Path) -> Case:
    return await Case.at(world, dashboard, tmp_path / "archive")


async def test_report_says_what_would_go_and_touches_nothing(case: Case) -> None:
    before, figures = await case.stored(), await case.figures()

    result = await case.clean("report")

    assert result.state == "succeeded"
    assert sum(result.counts[f"wouldArchive.{month}"] for month in MONTHS) == 60
    assert await case.stored() == before
    assert await case.figures() == figures
    assert not case.folder.exists()
    assert not await case.noted()


async def test_a_dry_run_touches_nothing_in_archive_mode(case: Case) -> None:
    before = await case.stored()

    result = await case.clean(dry_run=True)

    assert result.state == "succeeded"
    assert sum(result.counts.values()) == 60
    assert await case.stored() == before
    assert not case.folder.exists()


async def test_every_session_is_either_at_the_dashboard_or_in_one_file(case: Case) -> None:
    before, figures = await case.stored(), await case.figures()

    result = await case.clean()

    after = await case.stored()
    assert result.state == "succeeded", result.error
    assert sum(result.counts[f"archived.{month}"] for month in MONTHS) == 60
    assert sorted([*after, *case.archived()]) == sorted(before)
    assert {key: before[key] for key in after} == after
    assert await case.noted() == set(case.archived())
    assert len(after) == 300
    assert [manifest.name.data for manifest in case.archive.manifests()] == [
        f"timer_sessions-{month}.g1.parquet" for month in MONTHS
    ]
    assert len(list(case.folder.iterdir())) == 6

    await (await case.world.runner()).run_manual("analytics.dailyAnalytics")
    assert await case.figures() == figures
    assert not any((await case.clean()).counts.values())


async def test_a_sweep_does_not_take_archived_sessions_for_deletions(case: Case) -> None:
    await case.clean()
    await case.dashboard.remove("timer_sessions", 5000)

    report = await case.sync.run_once(compare=True)

    assert report.deleted == {"timer_sessions": 1}
    assert await case.world.pool.fetchval("SELECT count(*) FROM service.timer_sessions") == 359


async def test_a_session_that_is_there_again_is_not_archived_any_more(case: Case) -> None:
    await case.clean()
    await session(case.dashboard, 1000, JANUARY)
    await case.sync.run_once(compare=True)
    assert case.dashboard.key(1000) not in await case.noted()

    await case.dashboard.remove("timer_sessions", 1000)
    report = await case.sync.run_once(compare=True)

    assert report.deleted == {"timer_sessions": 1}


async def test_what_came_late_joins_the_file_of_its_month(case: Case) -> None:
    await case.clean()
    await session(
        case.dashboard, 2000, JANUARY + timedelta(days=3), updated=datetime(2026, 8, 20, 11, tzinfo=UTC)
    )

    result = await case.clean()

    assert result.counts["archived.2026-01"] == 1
    assert case.dashboard.key(2000) in case.archived()
    assert len(case.archived()) == 61
    assert case.archive.manifests()[0].name.generation == 2
    assert len(list(case.folder.iterdir())) == 6


@pytest.mark.parametrize("edited", [{"focus": 60}, {"status": "active", "ended": None}])
async def test_an_edit_between_writing_and_removing_is_not_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch, edited: Mapping[str, Any]
) -> None:
    edits = 0

    async def remove(rows: Any, remove: Any = case.archive.remove) -> Any:
        nonlocal edits
        if not edits:
            edits += 1
            now = datetime(2026, 8, 20, 11, 59, tzinfo=UTC)
            await session(case.dashboard, 1000, JANUARY, **{"updated": now, **edited})
            await case.refresh()
        return await remove(rows)

    monkeypatch.setattr(case.archive, "remove", remove)
    running = {"active": "running"}.get(str(edited.get("status")), "")
    if running and isinstance(case.dashboard, PostgresDashboard):
        edited = {**edited, "status": running}
    before = await case.stored()

    result = await case.clean()

    key = case.dashboard.key(1000)
    assert result.state == "succeeded", result.error
    assert result.counts["edited"] == 1
    after = await case.stored()
    assert (key in after) == (key not in await case.noted()) == bool(running)
    assert sorted([*after, *case.archived()]) == sorted(before)
    await case.archive.restore(JANUARY.date().replace(day=1))
    assert (await case.stored())[key] != before[key]


async def test_more_than_a_fifth_needs_somebody_to_say_so(
    world: World, dashboard: Dashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, dashboard, tmp_path / "archive", old=60, new=100)
    before = await case.stored()

    rehearsed, refused = await case.clean(dry_run=True), await case.clean()

    assert rehearsed.state == refused.state == "failed"
    assert refused.error is not None
    assert "60 of 160 sessions" in refused.error
    assert "confirm" in refused.error
    assert await case.stored() == before

    allowed = await case.clean(confirm=True)

    assert allowed.state == "succeeded"
    assert len(await case.stored()) == 100


async def test_a_stale_day_waits_and_so_does_what_no_rollup_has_seen(case: Case) -> None:
    await case.world.pool.execute("UPDATE service.watermark SET through = '2026-02-01'")
    await case.world.pool.execute(
        "INSERT INTO service.stale_day SELECT DISTINCT user_id, DATE '2026-01-10' FROM service.timer_sessions"
    )

    result = await case.clean("report")

    seen = await case.world.pool.fetchval(
        "SELECT count(*) FROM service.timer_sessions WHERE started_at < '2026-01-31'"
        " AND (started_at AT TIME ZONE 'UTC')::date NOT BETWEEN '2026-01-09' AND '2026-01-11'"
    )
    assert result.counts == {"wouldArchive.2026-01": seen}
    assert 0 < seen < 20


async def test_nothing_goes_before_the_first_daily_figures(case: Case) -> None:
    await case.world.pool.execute("DELETE FROM service.watermark")
    assert (await case.clean("report")).counts == {}


async def test_a_damaged_file_is_never_written_on(case: Case) -> None:
    await case.clean()
    manifest = case.archive.manifests()[0]
    path = case.folder / manifest.name.data
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    await session(
        case.dashboard, 2000, JANUARY + timedelta(days=3), updated=datetime(2026, 8, 20, 11, tzinfo=UTC)
    )
    before = await case.stored()

    assert await case.archive.problem(manifest, await case.archive.files(case.world.pool))
    with pytest.raises(ArchiveDamaged):
        await case.archive.restore(manifest.name.month)
    result = await case.clean()

    assert result.state == "failed"
    assert await case.stored() == before


async def test_a_file_that_lost_rows_does_not_replace_the_truth(case: Case) -> None:
    """Even with a manifest of its own, a file must hold all that the database says is archived."""
    await case.clean()
    await case.world.pool.execute(
        "INSERT INTO service.archived_session VALUES ('one more', 'u', '2026-01-01')"
    )
    await session(
        case.dashboard, 2000, JANUARY + timedelta(days=3), updated=datetime(2026, 8, 20, 11, tzinfo=UTC)
    )

    result = await case.clean()

    assert result.state == "failed"
    assert result.error is not None
    assert "lacks 1 sessions" in result.error


async def test_a_run_ends_with_its_time_and_the_next_goes_on(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BATCH", 7)
    turns = iter([False] * 3 + [True] * 1000)
    monkeypatch.setattr(data_cleanup._ArchiveRun, "_out_of_time", lambda _self: next(turns))

    first = await case.clean()
    monkeypatch.undo()

    assert first.state == "succeeded"
    assert 0 < len(await case.noted()) < 60
    assert {f.state for f in await case.archive.files(case.world.pool)} == {"verified"}
    assert (await case.clean()).state == "succeeded"
    assert len(case.archived()) == 60
    assert len(await case.stored()) == 300
    none = await (await case.runner(budget=timedelta(0))).run_manual(CLEANUP)
    assert none.state == "succeeded"


async def test_a_written_file_that_did_not_survive_is_given_up(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def verify(*_: Any) -> None:
        raise ArchiveDamaged("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(case.archive, "verify", verify)
        assert (await case.clean()).state == "failed"
    next(case.folder.glob("*.parquet")).unlink()

    assert (await case.clean()).state == "succeeded"
    assert len(case.archived()) == 60


async def test_rows_on_which_others_rest_stay(
    world: World, postgres_dashboard: PostgresDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, postgres_dashboard, tmp_path / "archive")
    await postgres_dashboard.connection.execute(
        "CREATE TABLE interruptions (session bigint REFERENCES timer_sessions ON DELETE CASCADE)"
    )

    result = await case.clean()

    assert result.state == "failed"
    assert result.error is not None
    assert "interruptions" in result.error
    assert len(await case.stored()) == 360


async def test_the_services_own_old_rows_go_and_totals_stay(case: Case) -> None:
    pool = case.world.pool
    await pool.execute(
        """
        INSERT INTO service.rollup (statistic, period, figures, final)
        SELECT s, p, '{}', true
        FROM unnest(ARRAY['daily', 'weekly', 'monthly', 'behaviour', 'performance']) AS s,
            unnest(ARRAY['2025-08-19', '2025-08-21']::timestamp[]) AS p ON CONFLICT DO NOTHING
        """
    )
    await pool.execute(
        """
        INSERT INTO service.rollup_revision (statistic, period, revision, figures, computed_at)
        SELECT statistic, period, 1, '{}', service.now() FROM service.rollup WHERE period < '2025-09-01'
        """
    )
    await pool.execute(
        """
        INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before)
        SELECT 'reminder.goalDeadlines', 'cron', at, state, at
        FROM unnest(ARRAY['succeeded', 'pending']) AS state,
            unnest(ARRAY['2025-07-15', '2025-07-17']::timestamptz[]) AS at ON CONFLICT DO NOTHING
        """
    )
    await pool.execute(
        """
        INSERT INTO service.delivery (dedupe_key, channel, job, run_id, kind, user_id, zone, local_date,
            template, locale, facts, message_id, message_date, token, state, not_before, expires_at,
            planned_at)
        SELECT 'k' || id, 'email', job, id, 'deadlines', 'u', 'UTC', nominal_at::date, 't', 'en', '{}',
            'm' || id, nominal_at, 't' || id, 'sent', nominal_at, nominal_at, nominal_at
        FROM service.job_run WHERE trigger = 'cron'
        """
    )
    await pool.execute(ADOPT)
    await pool.execute(
        """
        INSERT INTO service.decision (run_id, user_id, job, local_date, reason)
        SELECT id, 'u', job, nominal_at::date, 'not_due' FROM service.job_run WHERE trigger = 'cron'
        """
    )
    await pool.execute(
        "INSERT INTO service.suppression VALUES ('a@example.org', 'complaint', '', '2020-01-01')"
    )

    result = await case.clean("report")

    kept = await pool.fetch("SELECT statistic, period::date FROM service.rollup WHERE period < '2025-09-01'")
    assert {(row[0], f"{row[1]}") for row in kept} == {
        *((s, day) for s in ("daily", "weekly", "monthly") for day in ("2025-08-19", "2025-08-21")),
        ("behaviour", "2025-08-21"), ("performance", "2025-08-21"),
    }  # fmt: skip
    assert await pool.fetchval("SELECT count(*) FROM service.rollup_revision") == 8
    runs = await pool.fetch("SELECT nominal_at::date::text FROM service.job_run WHERE trigger = 'cron'")
    assert {row[0] for row in runs} == {"2025-07-17"}
    assert {row[0] for row in await pool.fetch("SELECT local_date::text FROM service.delivery")} == {
        "2025-07-17"
    }
    assert await pool.fetchval("SELECT count(*) FROM service.suppression") == 1
    assert result.counts["rollupsForgotten"] == 2
    assert result.counts["runsForgotten"] == 1


async def test_restored_documents_are_equal_byte_for_byte(case: Case) -> None:
    before = await case.stored()
    await case.clean()
    await session(case.dashboard, 1000, JANUARY, focus=7)
    edited = (await case.stored())[case.dashboard.key(1000)]

    for month in MONTHS:
        restored = await case.archive.restore(datetime.fromisoformat(f"{month}-01").date())
        assert restored.refused == 0
        assert restored.already_there == (month == "2026-01")

    assert await case.stored() == {**before, case.dashboard.key(1000): edited}
    assert not await case.noted()
    assert (await case.sync.run_once(compare=True)).deleted == {}


def test_months_reach_from_the_first_session_to_the_cutoff() -> None:
    cutoff = datetime(2026, 3, 1, tzinfo=UTC)
    assert [f"{month:%Y-%m}" for month in months(JANUARY, cutoff)] == ["2026-01", "2026-02"]
    assert len(months(JANUARY, cutoff + timedelta(seconds=1))) == 3
    assert months(None, cutoff) == []
    assert months(cutoff, cutoff) == []


def test_a_fifth_is_not_too_much() -> None:
    assert not too_much(20, 100)
    assert too_much(21, 100)
    assert not too_much(0, 0)


def test_the_ledger_is_kept_for_400_days_at_least() -> None:
    assert RetentionPolicy(retention=timedelta(days=30)).ledger == timedelta(days=400)
    assert RetentionPolicy(retention=timedelta(days=500)).ledger == timedelta(days=500)


async def test_the_job_is_registered(world: World) -> None:
    assert world.jobs[CLEANUP].schedule == "0 4 * * *"
