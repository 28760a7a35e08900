"""What ``check-config`` finds by connecting, on real parts: all problems, with remedies, without secrets."""

import argparse
import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pymongo import MongoClient

from service import zones
from service.cli import local
from service.cli.exit_codes import Exit
from service.cli.local import serve
from service.engine.schema import SCHEMA
from service.settings import Settings
from service.setup import preflight
from service.setup.findings import Findings
from tests.conftest import with_database
from tests.kinds import KINDS
from tests.smtp_server import RecordingServer

_SECRET = "Heron-owl"
_LINKS = {"FRONTEND_URL": "https://dash.example", "PUBLIC_URL": "https://jobs.example"}


async def checked(folder: Path, **environ: str) -> dict[str, Findings]:
    """The findings for an environment."""
    settings = Settings.load({"DATA_DIR": str(folder), **environ})
    findings = await preflight.check_connections(settings, KINDS.values())
    assert "Heron" not in str(findings)
    return findings


async def problems(folder: Path, **environ: str) -> list[str]:
    """All problems of an environment."""
    return [problem for one in (await checked(folder, **environ)).values() for problem in one.problems]


@pytest.fixture
async def dashboard(postgres: str) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """An empty PostgreSQL for a dashboard."""
    name = f"dash_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"CREATE DATABASE {name}")
    url = with_database(postgres, name)
    connection = await asyncpg.connect(url)
    yield url, connection
    await connection.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


_TABLES = """
CREATE TABLE users (id text PRIMARY KEY, name text, email text, timezone text, is_active bool, last_login_at timestamptz);
CREATE TABLE goals (id text PRIMARY KEY, user_id text, title text, status text, due_at timestamptz, created_at timestamptz);
CREATE TABLE timer_sessions (id text PRIMARY KEY, user_id text, kind text, status text, started_at timestamptz,
                             ended_at timestamptz, planned_seconds int, focus_seconds int);
INSERT INTO users VALUES ('1', 'Ann', 'ann@example.org', 'Europe/Berlin'), ('2', 'Bob', 'bob@example.org', 'Mars/Base');
"""  # noqa: E501


async def test_what_works_is_told_as_facts(
    tmp_path: Path, dsn: str, dashboard: tuple[str, asyncpg.Connection]
) -> None:
    url, connection = dashboard
    await connection.execute(_TABLES)
    async with RecordingServer(auth=True) as server:
        findings = await checked(
            tmp_path, DATABASE_URL=dsn, DASHBOARD_URL=url, SMTP_HOST="127.0.0.1", SMTP_PORT=str(server.port),
            SMTP_USER="mailer", SMTP_PASS=_SECRET, **_LINKS,
        )  # fmt: skip

    assert [problem for one in findings.values() for problem in one.problems] == []
    assert {f"schema {SCHEMA}", f"time zones: data {zones.version()}"} <= set(findings["ledger"].facts)
    assert {"users: 2 rows", "goals: 0 rows"} <= set(findings["dashboard"].facts)
    assert "'Mars/Base'" in findings["dashboard"].warnings[0]
    assert "logged in as mailer" in findings["mail"].facts[0]
    assert findings["folders"].facts == [f"the archive: {tmp_path}/archive"]
    assert list(tmp_path.iterdir()) == []


async def test_all_problems_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_CONNECT", 0.5)
    (tmp_path / "archive").write_text("")
    found = await problems(
        tmp_path, DATABASE_URL=f"postgresql://jobs:{_SECRET}@127.0.0.1:1/jobs", SMTP_HOST="127.0.0.1",
        SMTP_PORT="1", DASHBOARD_URL=f"mongodb://jobs:{_SECRET}@127.0.0.1:1/dash", BOUNCE_ADDRESS="b@x.org",
        BOUNCE_SECRET=_SECRET * 3, BOUNCE_MAILDIR=str(tmp_path / "none"), **_LINKS,
    )  # fmt: skip
    assert [problem.partition(":")[0] for problem in found] == [
        "DATABASE_URL", "DASHBOARD_URL", "SMTP_HOST", "DATA_DIR", "BOUNCE_MAILDIR",
    ]  # fmt: skip
    assert all("refuses connections: nothing listens there" in problem for problem in found[:3])


async def test_a_server_that_keeps_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "TIMEOUT", 0.2)
    connected: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: connected.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = await problems(tmp_path, SMTP_HOST="127.0.0.1", SMTP_PORT=str(port), **_LINKS)
    assert found == ["mail: the check has not ended after 0 s; look for load there"]
    for writer in connected:
        writer.close()
    server.close()


# ── Our PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_role_without_rights_is_told_what_to_grant(
    tmp_path: Path, dsn: str, dashboard: tuple[str, asyncpg.Connection]
) -> None:
    empty, admin = dashboard
    await admin.execute(
        "CREATE ROLE weak LOGIN; REVOKE TEMP ON DATABASE "
        + empty.partition("?")[0].rpartition("/")[2]
        + " FROM PUBLIC"
    )
    try:
        found = await problems(
            tmp_path, DATABASE_URL=empty.replace("postgres:", "weak:", 1), DASHBOARD_URL=empty
        )
        assert "lets weak make no temporary tables; GRANT TEMP ON DATABASE" in found[0]
        assert (
            'has no schema service, and weak may not create it; CREATE SCHEMA service AUTHORIZATION "weak"'
            in found[1]
        )

        ours = await asyncpg.connect(dsn)
        found = await problems(
            tmp_path, DATABASE_URL=dsn.replace("postgres:", "weak:", 1), DASHBOARD_URL=empty
        )
        assert 'GRANT ALL ON SCHEMA service TO "weak"' in found[0]
        await ours.execute(
            "GRANT ALL ON SCHEMA service TO weak; GRANT SELECT ON service.schema_range TO weak"
        )
        found = await problems(
            tmp_path, DATABASE_URL=dsn.replace("postgres:", "weak:", 1), DASHBOARD_URL=empty
        )
        assert 'GRANT ALL ON ALL TABLES IN SCHEMA service TO "weak"' in found[0]
        await ours.execute("DROP OWNED BY weak")
        await ours.close()
    finally:
        await admin.execute("DROP OWNED BY weak; DROP ROLE weak")


async def test_a_schema_that_is_too_new_and_a_server_that_is_read_only(
    tmp_path: Path, dsn: str, pool: asyncpg.Pool
) -> None:
    await pool.execute("UPDATE service.schema_range SET version = $1, writable_from = $1", SCHEMA + 1)
    (found,) = await problems(tmp_path, DATABASE_URL=dsn, DASHBOARD_URL=dsn)
    assert "is too old for the database" in found
    found, _ = await problems(
        tmp_path, DATABASE_URL=f"{dsn}&default_transaction_read_only=on", DASHBOARD_URL=dsn
    )
    assert "is read-only; let the URL lead to the primary" in found


def test_clocks_that_are_apart() -> None:
    assert preflight._clock_warning(1.9) is None
    assert "is 60 s ahead of this machine's" in str(preflight._clock_warning(60))
    assert "is 60 s behind this machine's" in str(preflight._clock_warning(-60))


# ── The dashboard ───────────────────────────────────────────────────────────────────────────────────────────


async def test_row_level_security_and_grants(
    tmp_path: Path, dsn: str, dashboard: tuple[str, asyncpg.Connection]
) -> None:
    url, admin = dashboard
    await admin.execute(
        _TABLES + "CREATE ROLE shown LOGIN; GRANT SELECT ON users, goals TO shown;"
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY"
    )
    try:
        theirs = url.replace("postgres:", "shown:", 1)
        findings = (await checked(tmp_path, DATABASE_URL=dsn, DASHBOARD_URL=theirs, DASHBOARD_SCHEMA="PG"))[
            "dashboard"
        ]
        assert "users: 0 rows" in findings.facts
        assert "row level security of users may hide rows" in findings.warnings[0]
        (denied,) = findings.problems
        assert "use the table timer_sessions; GRANT SELECT ON timer_sessions" in denied
    finally:
        await admin.execute("DROP OWNED BY shown; DROP ROLE shown")


async def test_a_database_that_holds_nothing_and_a_mapping_of_what_is_not_there(
    tmp_path: Path, dsn: str, mongod: str
) -> None:
    mapping = tmp_path / "acme.toml"
    mapping.write_text('name = "acme"\nextends = "A"\n[tables]\nusers = "members"\n')
    environ = {
        "DATABASE_URL": dsn,
        "DASHBOARD_URL": mongod,
        "DASHBOARD_DATABASE": f"typo_{uuid.uuid4().hex[:8]}",
    }
    findings = (await checked(tmp_path, **environ))["dashboard"]
    assert findings.problems == []
    assert "has no tables that this user can see; check its name in the URL" in findings.warnings[0]

    findings = (await checked(tmp_path, **environ, DASHBOARD_SCHEMA=str(mapping)))["dashboard"]
    assert "there is no members, which the profile acme names" in findings.problems[0]


async def test_documents_that_no_profile_fits(tmp_path: Path, dsn: str, mongod: str) -> None:
    name = f"other_{uuid.uuid4().hex[:8]}"
    with MongoClient[dict[str, Any]](mongod) as client:
        client[name]["users"].insert_one({"nick": "ann"})
        found = await problems(tmp_path, DATABASE_URL=dsn, DASHBOARD_URL=mongod, DASHBOARD_DATABASE=name)
        client.drop_database(name)
    assert "DASHBOARD_SCHEMA: no schema profile fits" in found[0]
    assert "mapping file" in found[0]


# ── Mail ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_log_in_that_is_refused_and_one_that_is_not_offered(tmp_path: Path) -> None:
    login = {"SMTP_HOST": "127.0.0.1", "SMTP_USER": "mailer", "SMTP_PASS": _SECRET, **_LINKS}

    def refuse(phase: str, _recipient: str) -> str | None:
        return f"535 5.7.8 no {_SECRET}" if phase == "auth" else None

    async with RecordingServer(refuse, auth=True) as server:
        (found,) = await problems(tmp_path, **login, SMTP_PORT=str(server.port))
        assert found == f"SMTP_HOST: 127.0.0.1:{server.port} refuses SMTP_USER or SMTP_PASS; check both"
    async with RecordingServer() as server:
        (found,) = await problems(tmp_path, **login, SMTP_PORT=str(server.port))
        assert "offers no log-in on this connection" in found
        (found,) = await problems(tmp_path, **login, SMTP_PORT=str(server.port), SMTP_TLS="starttls")
        assert "does not offer STARTTLS; set SMTP_TLS=tls" in found
        (found,) = await problems(tmp_path, **login, SMTP_PORT=str(server.port), SMTP_TLS="tls")
        assert "does not offer TLS, which SMTP_TLS demands" in found


# ── The command ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_exit_code_and_that_offline_connects_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "_CONNECT", 0.5)
    environ = {
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": "postgresql://jobs@127.0.0.1:1/jobs",
        "SMTP_HOST": "127.0.0.1",
    }
    settings = Settings.load(
        {**environ, "DASHBOARD_URL": "mongodb://127.0.0.1:1/dash", "SMTP_PORT": "1", **_LINKS}
    )
    for offline, code in ((True, Exit.DONE), (False, Exit.UNAVAILABLE)):
        options = argparse.Namespace(json=True, offline=offline)
        assert await serve.check_config(settings, options) is code


def test_what_does_not_connect_is_told_beside_settings_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {
        "DATA_DIR": str(tmp_path), "PORT": "99999", "DASHBOARD_SCHEMA": str(tmp_path / "none.toml"),
        "DATABASE_URL": f"postgresql://jobs:{_SECRET}@127.0.0.1:1/jobs",
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert local.main(["check-config"]) == Exit.WRONG_USE
    printed = capsys.readouterr().err
    for part in (
        "PORT: ",
        "DASHBOARD_URL: empty",
        "DASHBOARD_SCHEMA: cannot read",
        "PostgreSQL at 127.0.0.1:1 refuses",
    ):
        assert part in printed
    assert "Heron" not in printed
