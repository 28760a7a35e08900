"""``schema`` as an operator types it: a profile to start from, and a mapping file tried on the dashboard."""

import json
import tomllib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.cli.conftest import Typist
from tests.conftest import with_database

_TABLES = """
CREATE TABLE people (id int PRIMARY KEY, label text, mail text, password_hash text, zone text);
CREATE TABLE tasks (id int PRIMARY KEY, person int, text text, done boolean, until date, colour text);
INSERT INTO people SELECT n, 'Person ' || n, 'person' || n || '@example.org', '$2b$12$' || repeat('x', 50),
    CASE WHEN n < 250 THEN 'Europe/Berlin' ELSE 'Mars' END FROM generate_series(1, 250) n;
INSERT INTO tasks SELECT n, n, 'Task ' || n, n % 2 = 0, '2026-04-01', 'red' FROM generate_series(1, 3) n;
"""
_MAPPING = """
name = "acme"
extends = "none"
[tables]
users = "people"
goals = "tasks"
timer_sessions = ""
[users]
id = "id"
name = "label"
email = "mail"
timezone = "zone"
locale = "password_hash"
[goals]
id = "id"
user = "person"
title = "text"
status = { path = "done", values = { true = "closed", false = "open" } }
due = "until"
"""


@pytest.fixture
async def dashboard(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Connection]:
    """A dashboard of another shape, and the settings that lead to it."""
    name = f"dashboard_{uuid.uuid4().hex[:8]}"
    server = await asyncpg.connect(postgres)
    await server.execute(f"CREATE DATABASE {name}")
    url = with_database(postgres, name)
    connection = await asyncpg.connect(url)
    await connection.execute(_TABLES)
    monkeypatch.setenv("DASHBOARD_URL", url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    yield connection
    await connection.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A mapping file that fits."""
    path = tmp_path / "mapping.toml"
    path.write_text(_MAPPING, "utf-8-sig")  # as an editor on Windows saves it
    return path


async def test_a_profile_is_shown_as_a_file(typed: Typist) -> None:
    shown = await typed("schema", "show", "PG")
    assert shown.code == 0
    assert tomllib.loads(shown.out.decode())["timer_sessions"]["ended"] == "ended_at"
    refused = await typed("schema", "show", "Z")
    assert (refused.code, refused.err) == (2, "✗ there is no built-in profile Z; there are A, B, J, PG\n")


async def test_a_mapping_that_fits_is_tried(typed: Typist, dashboard: asyncpg.Connection, file: Path) -> None:
    tried = await typed("schema", "try", str(file), "--json")
    told = json.loads(tried.out)
    assert (tried.code, told["fits"], told["problem"]) == (0, True, "")
    users, goals = told["tables"]
    assert (users["documents"], goals["documents"]) == (200, 3)
    fields = {field["field"]: field for field in users["fields"]}
    assert fields["email"]["examples"] == ["p…@example.org"]
    assert fields["locale"]["examples"] == ["(hidden)"]
    assert "$2b$" not in tried.out.decode()
    status = next(field for field in goals["fields"] if field["field"] == "status")
    assert (status["origin"], status["filled"], sorted(status["examples"])) == ("done", 1, ["closed", "open"])
    assert goals["unmapped"] == ["colour"]
    assert told["rejections"] == [
        {"reason": "users.timezone", "count": 1, "left_out": False, "ids": ["250"]},
    ]
    verdicts = {job["job"]: (job["verdict"], job["reason"]) for job in told["jobs"]}
    assert verdicts["goalDeadlines"] == ("runs", "")
    no_sessions = "the mapping file says that the dashboard has no timer_sessions"
    assert verdicts["dailyAnalytics"] == ("off", no_sessions)

    printed = (await typed("schema", "try", str(file))).out.decode()
    assert "goals: the 3 records" in printed
    assert "not mapped: colour" in printed


async def test_a_mapping_that_does_not_fit_says_which_jobs_wait(
    typed: Typist, dashboard: asyncpg.Connection, file: Path
) -> None:
    await dashboard.execute(
        "ALTER TABLE people RENAME mail TO address; ALTER TABLE tasks RENAME text TO words"
    )
    tried = await typed("schema", "try", str(file), "--json")
    told = json.loads(tried.out)
    assert (tried.code, told["fits"]) == (1, False)
    assert "tasks has no text" in told["problem"]
    waiting = {job["job"]: job["reason"] for job in told["jobs"] if job["verdict"] == "waits"}
    assert "goals.title (text) is in fewer than half" in waiting["goalDeadlines"]
    assert "`address` looks like it" in waiting["goalDeadlines"]
    assert {"count": 3, "reason": "goals.title"}.items() <= told["rejections"][1].items()


async def test_a_wrong_file_and_no_dashboard_are_wrong_use(
    typed: Typist, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DASHBOARD_URL", raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    nowhere = await typed("schema", "try", str(file))
    assert (nowhere.code, "DASHBOARD_URL: name the dashboard" in nowhere.err) == (2, True)
    file.write_text('[users]\nnmae = "x"\n[x]', "utf-8")
    wrong = await typed("schema", "try", str(file))
    assert (wrong.code, len(wrong.err.splitlines())) == (2, 2)
    assert f"{file}: unknown section or key 'x'" in wrong.err
    missing = await typed("schema", "try", str(tmp_path / "no.toml"))
    assert (missing.code, "cannot read" in missing.err and "no.toml" in missing.err) == (2, True)
    monkeypatch.setenv("DASHBOARD_URL", "postgresql://127.0.0.1:1/none")
    file.write_text(_MAPPING, "utf-8")
    assert (await typed("schema", "try", str(file))).code == 3
