"""``archive``, ``restore`` and ``user``, as an operator types them."""

from pathlib import Path

import pytest

from service.cli.local import terminal
from tests.archive.archiving import Case
from tests.cli.conftest import Typist, typed
from tests.dashboard.conftest import PostgresDashboard
from tests.given import World

__all__ = ["typed"]  # a fixture of another folder


async def test_list_verify_and_restore(
    world: World,
    postgres_dashboard: PostgresDashboard,
    dsn: str,
    tmp_path: Path,
    typed: Typist,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = await Case.at(world, postgres_dashboard, tmp_path / "archive")
    before = await case.stored()
    for name, value in {
        "DATABASE_URL": dsn, "DASHBOARD_URL": postgres_dashboard.url, "DATA_DIR": str(tmp_path),
        "CLEANUP_MODE": "archive", "CLEANUP_INTERVAL_DAYS": "90", "LOG_LEVEL": "error",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(terminal.out, "width", 200)  # COLUMNS counts only at the module's first import

    async def call(*arguments: str) -> tuple[int, str]:
        answer = await typed(*arguments)
        return answer.code, answer.out.decode() + answer.err

    assert await call("archive", "list") == (0, "nothing is archived\n")
    assert (await call("run", "analytics", "dataCleanup"))[0] == 0
    assert len(await case.stored()) == 300
    code, said = await call("archive", "list")
    assert code == 0
    assert "timer_sessions-2026-01.g1.parquet" in said
    code, said = await call("archive", "verify")
    assert code == 0
    assert said.count("whole") == 3

    code, said = await call("restore", "--month", "2026-01", "--table", "timer_sessions")
    assert code == 0
    assert "20 were put back, 0 were there, 0 were refused" in said.replace("\n", " ")
    assert (await call("restore", "--month", "2026-02"))[0] == 0
    assert (await call("restore", "--month", "2026-03"))[0] == 0
    assert await case.stored() == before
    assert (await call("restore", "--month", "2025-02"))[0] == 2

    code, said = await call("user", "erase", "nobody")
    assert code == 1
    assert "Unknown user: nobody" in said
    code, said = await call("user", "export", "2")
    assert code == 0
    assert "u2@example.org" in said

    damaged = case.folder / "timer_sessions-2026-02.g1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (case.folder / "timer_sessions-2026-03.g1.json").unlink()
    code, said = await call("archive", "verify")
    assert code == 1
    assert said.count("whole") == 1
    assert "timer_sessions-2026-03.g1.parquet is missing" in said
    code, said = await call("restore", "--month", "2026-02")
    assert code == 1
    assert "timer_sessions-2026-02.g1.parquet" in said
