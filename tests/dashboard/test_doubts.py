"""What may be the wrong database, or not all of it: the running service warns, and stays healthy."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from service.app import open_service
from service.settings import Settings
from tests.dashboard.conftest import Dashboard, MongoDashboard, PostgresDashboard

_EMPTY = "the dashboard has no rows yet"


class Watched:
    """The whole service without its loops, and what its health and status warn of."""

    def __init__(self, service: Any) -> None:
        self.service = service

    async def warnings(self) -> list[str]:
        """After one more look; the dashboard's own check is never unhealthy for them."""
        await self.service.sync.run_once()
        health = await self.service.manager.health_check()
        told = [f"{one['what']}; {one['remedy']}" for one in health["warnings"]]
        assert health["checks"]["dashboard"]["status"] == "running"
        assert health["checks"]["dashboard"]["details"]["warnings"][: len(told)] == told
        assert self.service.manager.get_status()["warnings"] == health["warnings"]
        return told


async def _watched(stack: AsyncExitStack, folder: Path, dsn: str, url: str) -> Watched:
    settings = Settings.load({"DATABASE_URL": dsn, "DASHBOARD_URL": url, "DATA_DIR": str(folder)})
    return Watched(await stack.enter_async_context(open_service(settings)))


async def test_an_empty_first_look_is_told_until_somebody_signs_up(
    tmp_path: Path, dsn: str, postgres_dashboard: PostgresDashboard
) -> None:
    async with AsyncExitStack() as stack:
        watched = await _watched(stack, tmp_path, dsn, postgres_dashboard.address()[0])
        [warning] = await watched.warnings()
        assert warning.startswith(f"{_EMPTY} (users, goals, timer_sessions); if the dashboard has people")
        await _sign_up(postgres_dashboard)
        assert await watched.warnings() == []


async def test_a_mongodb_url_with_a_typo_in_its_database(
    tmp_path: Path, dsn: str, mongo_dashboard: MongoDashboard
) -> None:
    await _sign_up(mongo_dashboard)
    url, name = mongo_dashboard.address()
    async with AsyncExitStack() as stack:
        typo = urlunsplit(urlsplit(url)._replace(path=f"/{name}_typo"))
        watched = await _watched(stack, tmp_path, dsn, typo)
        [warning] = await watched.warnings()
        assert "no tables that this user can see; check its name in the URL" in warning


async def test_row_level_security_that_hides_all_rows_or_some(
    tmp_path: Path, dsn: str, postgres_dashboard: PostgresDashboard
) -> None:
    admin: asyncpg.Connection = postgres_dashboard.connection
    await _sign_up(postgres_dashboard)
    await admin.execute("CREATE ROLE fenced LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO fenced")
    await admin.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    url = postgres_dashboard.address()[0].replace("postgres:", "fenced:", 1)
    try:
        async with AsyncExitStack() as stack:
            watched = await _watched(stack, tmp_path, dsn, url)
            hidden = [
                "row level security of users may hide rows from this user;"
                " give it a policy that shows all, or the attribute BYPASSRLS"
            ]
            assert await watched.warnings() == hidden
            await admin.execute("CREATE POLICY one ON users TO fenced USING (id = 1)")
            assert await watched.warnings() == hidden
            await admin.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
            assert await watched.warnings() == []
    finally:
        await admin.execute("DROP OWNED BY fenced; DROP ROLE fenced")


async def _sign_up(dashboard: Dashboard) -> None:
    await dashboard.put(
        "users", 1, name="Ada", email="ada@example.org", timezone="Europe/Berlin", active=True
    )
