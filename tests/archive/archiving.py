"""A dashboard with old sessions, its copy, its figures, and the job that archives."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient

from service.archive import archive_parquet
from service.archive.archive import Archive
from service.archive.manifest import RetentionPolicy
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.engine.run import RunRequest, RunResult
from service.engine.runner import Runner
from tests.dashboard.conftest import Dashboard, MongoDashboard, PostgresDashboard
from tests.given import World

NOW = "2026-08-20T12:00:00Z"
CLEANUP = "analytics.dataCleanup"
JANUARY = datetime(2026, 1, 5, 9, tzinfo=UTC)
MONTHS = ("2026-01", "2026-02", "2026-03")
EVERYBODY = (1, 2, 3)
_LENIENT = CodecOptions[dict[str, Any]](
    unicode_decode_error_handler="ignore", datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


@dataclass
class Case:
    """One dashboard and the service on it."""

    world: World
    dashboard: Dashboard
    sync: Sync
    archive: Archive
    folder: Path

    @classmethod
    async def at(
        cls, world: World, dashboard: Dashboard, folder: Path, *, old: int = 60, new: int = 300
    ) -> "Case":
        """``old`` sessions from January to March, ``new`` ones in August; figures of all days are there."""
        await world.at(NOW)
        for n in EVERYBODY:
            await dashboard.put(
                "users", n, name=f"U{n}", email=f"u{n}@example.org", timezone="Europe/Berlin", active=True
            )
        for n in range(old):
            await session(dashboard, 1000 + n, JANUARY + timedelta(hours=n * 80 * 24 // old))
        for n in range(new):
            await session(dashboard, 5000 + n, datetime(2026, 8, 1, tzinfo=UTC) + timedelta(hours=n))
        sync = Sync(world.pool, dashboard.source, SyncSettings(schema=dashboard.profile))
        case = cls(world, dashboard, sync, Archive(world.pool, folder, sync), folder)
        world.refresh = case.refresh
        await (await world.runner()).run_manual("analytics.dailyAnalytics")
        return case

    async def refresh(self) -> None:
        """What the runner does before each run, without a sweep: its time comes once a day."""
        await self.sync.run_once(compare=False)

    async def runner(self, mode: Any = "archive", **changes: Any) -> Runner:
        """A runner that archives what ended 90 days ago."""
        keeping = RetentionPolicy(mode, timedelta(days=90), **changes)
        return await self.world.runner(resources=(keeping, self.archive))

    async def clean(self, mode: Any = "archive", **options: Any) -> RunResult:
        """Run dataCleanup."""
        return await (await self.runner(mode)).run_manual(CLEANUP, RunRequest(**options))

    async def stored(self) -> dict[str, bytes]:
        """The dashboard's sessions as they are stored, byte for byte."""
        if isinstance(self.dashboard, PostgresDashboard):
            rows = await self.dashboard.connection.fetch("SELECT id, t::text AS row FROM timer_sessions t")
            return {str(row["id"]): row["row"].encode() for row in rows}
        assert isinstance(self.dashboard, MongoDashboard)
        return await raw_sessions(self.dashboard.client, self.dashboard.database.name)

    def archived(self) -> list[str]:
        """The ids in all files that count, as often as they are there."""
        found = []
        for manifest in self.archive.manifests():
            for rows in archive_parquet.read(self.folder / manifest.name.data):
                found += [row.id for row in rows]
        return sorted(found)

    async def noted(self) -> set[str]:
        """The ids that the database says are archived."""
        return {row["id"] for row in await self.world.pool.fetch("SELECT id FROM service.archived_session")}

    async def figures(self) -> list[Any]:
        """Everything that is counted."""
        found: list[Any] = []
        for sql in _FIGURES:
            found += [tuple(row) for row in await self.world.pool.fetch(sql)]
        return found


_FIGURES = (
    "SELECT statistic, period, figures::text, revision FROM service.rollup ORDER BY 1, 2",
    "SELECT d::text FROM service.user_day AS d ORDER BY 1",
    "SELECT s::text FROM service.user_span AS s ORDER BY 1",
)


async def raw_sessions(client: AsyncIOMotorClient[Any], name: str) -> dict[str, bytes]:
    """A MongoDB dashboard's sessions, as BSON."""
    options = CodecOptions(RawBSONDocument)
    found = await client.get_database(name).get_collection("timersessions", options).find().to_list(None)
    return {str(bson.decode(one.raw, _LENIENT)["_id"]): one.raw for one in found}


async def session(dashboard: Dashboard, n: int, started: datetime, **changes: Any) -> None:
    """A completed pomodoro of 25 minutes."""
    ended = started + timedelta(minutes=25)
    values = {
        "user": EVERYBODY[n % 3], "kind": "pomodoro", "status": "completed", "started": started,
        "ended": ended, "planned": 1500, "focus": 1500, "updated": ended,
    }  # fmt: skip
    await dashboard.put("timer_sessions", n, **{**values, **changes})
