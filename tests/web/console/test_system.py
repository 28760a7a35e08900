"""/console/system: what each part tells of itself, and no secret."""

import re
from datetime import timedelta
from html import unescape

import asyncpg

from service.engine.ledger import Ledger
from service.engine.schema import SCHEMA
from service.settings import Settings
from tests.given import World
from tests.web.console.consoles import console
from tests.web.console.test_analytics import section, table
from tests.web.console.test_pages import sign_in
from tests.web.given import Admin, admin

SECRETS = {
    "ADMIN_TOKEN": "secret-admin",
    "SMTP_PASS": "secret-smtp",
    "DKIM_KEY": "secret-dkim",
    "DKIM_SELECTOR": "jobs",
    "BOUNCE_SECRET": "secret-bounces-are-long",
    "DATABASE_URL": "postgresql://jobs:secret-pg@db/jobs?sslpassword=secret-ssl",
    "DASHBOARD_URL": "mongodb://reader:secret-mongo@db/app?authSource=admin",
    "DASHBOARD_METRICS_URL": "https://u:secret-metrics@dashboard.example/metrics?token=secret-token",
}


async def see(given: Admin) -> str:
    await sign_in(given, "the-viewer")
    answer = await given.client.get("/console/system")
    assert answer.status == 200
    return unescape(await answer.text())


async def test_every_setting_is_named_and_no_secret_is_shown(pool: asyncpg.Pool) -> None:
    async with admin(pool, settings=Settings.load(SECRETS).described()) as given:
        page = await see(given)

    part = section(page, "settings")
    told = dict(re.findall(r"<dt><code>(\w+)</code></dt><dd><\w+[^>]*>(.*?)</\w+></dd>", part))
    assert set(told) == {name.upper() for name in Settings.model_fields}
    assert "secret-" not in page
    assert (told["SMTP_PASS"], told["VIEWER_TOKEN"], told["PORT"]) == ("set", "not set", "8080")
    assert told["DASHBOARD_URL"] == "mongodb://reader:***@db/app?authSource=admin"


async def test_a_process_tells_its_vital_signs(pool: asyncpg.Pool) -> None:
    vitals = {
        "rssBytes": 84_000_000, "cpuPercent": 1.5, "loopLagMs": {"p50": 0.4, "p95": 2.0, "p99": 12.25},
        "poolSize": 10, "poolBusy": 3, "postgresPingMs": 0.8, "dashboardPingMs": None,
        "requests": 1200, "errors": 2,
    }  # fmt: skip
    await Ledger(pool, "one-1", timedelta(seconds=60)).beat_replica("1.2.3", vitals)
    await Ledger(pool, "two-2", timedelta(seconds=60)).beat_replica("1.2.2")
    await pool.execute(
        "UPDATE service.replica SET seen_at = seen_at - interval '1 hour' WHERE name = 'two-2'"
    )
    async with admin(pool) as given:
        rows = table(section(await see(given), "processes"))

    [here, gone] = rows
    assert re.sub("<[^>]+>", "", here) == "here one-1"
    assert rows[here][1:] == [
        *(
            "1.2.3",
            str(SCHEMA),
            "84 MB",
            "1.5 %",
            "0.4 ms · 12.2 ms",
            "3 of 10 busy",
            "0.8 ms",
            "–",
            "1,200",
            "2",
        )
    ]
    assert re.sub("<[^>]+>", "", gone) == "gone two-2"
    assert rows[gone][3] == "–"


async def test_mail_statistics_and_the_copy_are_told(year: asyncpg.Pool) -> None:
    await year.execute(
        "INSERT INTO service.domain_pause"
        " VALUES ('slow.example', 2, service.now() + interval '1 hour', '421 later')"
    )
    await year.execute(
        "INSERT INTO service.sync_state (collection, phase, rows_read, synced_at, error)"
        " VALUES ('goals', 'live', 1234, service.now(), 'refused <once>') ON CONFLICT (collection) DO UPDATE"
        " SET rows_read = excluded.rows_read, error = excluded.error"
    )
    await year.execute("INSERT INTO service.malformed_row VALUES ('goals', 'g1', 1, false, '{no due date}')")
    await year.execute("INSERT INTO service.stale_period VALUES ('weekly', '2026-03-01')")
    await year.execute("INSERT INTO service.stale_day VALUES ('u000', '2026-03-02')")
    await year.execute("INSERT INTO service.alert (name, detail) VALUES ('mail', 'nothing gets through')")
    async with admin(year) as given:
        page = await see(given)

    assert table(section(page, "mail"))
    assert "slow.example" in section(page, "mail")
    assert "22 Mar 2026, 10:00 UTC" in section(page, "mail")
    assert "421 later" in page
    copy = section(page, "dashboard")
    assert "1,234" in copy
    assert "no due date" in copy
    assert "refused <once>" in copy
    statistics = table(section(page, "statistics"))
    told = {re.sub("<[^>]+>", "", name): cells for name, cells in statistics.items()}
    assert told["daily"][:4] == ["21 Mar 2026", "20 Mar 2026", "1", "0"]
    assert told["weekly"][:5] == ["15 Mar 2026", "8 Mar 2026", "1", "1", "1 Mar 2026"]
    assert 'class="lamp bad"' in section(page, "statistics")
    assert "1 days of 1 people wait" in section(page, "statistics")
    assert "nothing gets through" in page


async def test_a_loss_is_confirmed_and_everything_read_again_from_the_page(world: World) -> None:
    woken: list[str] = []
    async with console(world, wake_sync=lambda: woken.append("sync")) as given:
        await given.sign_in()
        await world.pool.execute(
            "INSERT INTO service.sync_state (collection, phase, swept_at, lost_since, lost_of, lost_gone)"
            " VALUES ('users', 'live', service.now() - interval '3 hours', service.now(), 40, 0),"
            " ('goals', 'loading', NULL, NULL, NULL, NULL)"
        )
        await world.pool.execute("INSERT INTO service.missing_row VALUES ('users', 'ann', service.now())")
        told = section(await given.read("/console/system"), "dashboard")
        assert "The dashboard lost 1 of 40 users since" in told
        assert "Delete 1 row here" in told
        assert table(told)["users"][0].endswith(">3 h ago</span>")
        assert table(told)["goals (loading)"][0] == "not yet"

        act = "/console/system/confirm-loss"
        _, refused = await given.act(act, 409, table="users", rows="2", who="Zoe", reason="test accounts")
        assert "1 users are missing by now, not 2; look again, then confirm" in refused
        _, refused = await given.act(act, 400, table="users", rows="1", who=" ")
        assert "Say who does it and why" in refused
        await given.act(act, table="users", rows="1", who="Zoe", reason="test accounts")
        await given.act("/console/system/full-sync", who="Zoe", reason="edited by hand")
        told = section(await given.read("/console/system"), "dashboard")
        assert "reading again</span> users, since" in told
        assert "/console/system/full-sync" not in told
        _, refused = await given.act("/console/system/full-sync", 409, who="Zoe", reason="again")
        assert "everything is being read again since" in refused
        assert [(who, act) for who, act, _ in await given.audit()] == [
            ("Zoe (admin)", "confirm loss"),
            ("Zoe (admin)", "full-sync"),
        ]
        assert len(woken) == 2


async def test_migrations_and_versions_are_told(pool: asyncpg.Pool) -> None:
    async with admin(pool, version="9.8.7") as given:
        page = await see(given)

    names = [row["name"] for row in await pool.fetch("SELECT name FROM service.migration ORDER BY 1 DESC")]
    assert list(table(section(page, "migrations"))) == names
    assert table(section(page, "versions"))["Service"] == ["9.8.7"]
    assert "No process has told yet" in page
    assert "Nothing has been copied yet" in page
