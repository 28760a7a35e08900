"""After an upgrade, what was counted by former definitions is counted again."""

import asyncpg
import pytest

from service.engine import schema
from service.engine.database import migrate, open_pool
from tests.analytics.given import DAILY, Lab, at, people, session
from tests.conftest import with_database


async def test_figures_of_a_former_release_are_computed_again(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncpg.connect(postgres)
    await server.execute("CREATE DATABASE former_definitions")
    pool = await open_pool(with_database(postgres, "former_definitions"), max_size=3)
    former = [path for path in schema.files() if schema.number(path.stem) < _number("definitions")]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "files", lambda: former)
        await migrate(pool)
    lab = Lab(pool)
    await lab.clock(at("2026-03-12 13:00"))
    ended = at("2026-03-09 09:00")
    await lab.put(*people("ann", "ben", created=at("2026-03-08 10:00")))
    await lab.put(session("s", "ann", at("2026-03-09 10:00"), ended_at=ended, status="rejected"))
    await pool.execute(
        "DELETE FROM service.stale_day;"
        "INSERT INTO service.user_day"
        " VALUES ('ann', '2026-03-09', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{}', '{}');"
        "INSERT INTO service.user_span VALUES ('ann', '2026-03-09', '2026-03-09');"
        "INSERT INTO service.rollup (statistic, period, figures, final)"
        " SELECT 'daily', d, '{\"dau\": 1}', true"
        " FROM generate_series('2026-03-06'::timestamp, '2026-03-11', '1 day') AS d;"
        "INSERT INTO service.watermark (statistic, through) VALUES ('daily', '2026-03-11')"
    )

    await migrate(pool)
    await lab.remove("users", "ben")
    await lab.run(DAILY)

    await lab.check_days()
    day = await lab.daily("2026-03-09")
    assert (day["dau"], day["rejectedSessions"]) == (0, 1)
    assert (await lab.daily("2026-03-08"))["newUsers"] == 2
    assert "sessionLength" in await lab.daily("2026-03-06")
    await pool.close()
    await server.execute("DROP DATABASE former_definitions WITH (FORCE)")
    await server.close()


def _number(name: str) -> int:
    return next(schema.number(path.stem) for path in schema.files() if path.stem.endswith(f"_{name}"))
