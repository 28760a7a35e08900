"""Every command against a running service: a process of its own, with people, runs and messages."""

import asyncio
import contextlib
import json
import secrets
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from service.cli.commands import COMMANDS
from service.demo import sample
from tests.cli.conftest import Typist
from tests.conftest import with_database
from tests.process import process_of

_TODAY = datetime.now(UTC).date()
_TYPED = ("goalDeadlines", "dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")
"""Jobs that run when they are told to, and not by their clocks in the midst of a test."""
_SCHEDULES = json.dumps(dict.fromkeys(_TYPED, "0 0 29 2 *"))
_COMMANDS = {command.words for command in COMMANDS}
_SINCE = str(_TODAY - timedelta(days=20))


@dataclass
class Shell:
    """Types commands, and remembers which."""

    typed: Typist
    names: set[str] = field(default_factory=set)

    async def __call__(self, *words: str, code: int = 0) -> str:
        """What a command wrote, to standard error where it failed, after its exit code was looked at."""
        told = await self.typed(*words)
        assert told.code == code, (words, told)
        if code:
            assert told.err.count("\n") == told.err.endswith("\n"), (words, told)
            return told.out.decode() or told.err
        assert told.err == "", (words, told)
        two = " ".join(words[:2])
        self.names.add(two if two in _COMMANDS else words[0])
        return told.out.decode()

    async def rows(self, *words: str) -> list[dict[str, str]]:
        """The first table of an answer."""
        lines = (await self(*words)).split("\n\n")[0].splitlines()
        heads = lines[0].split("\t")
        found = [line.split("\t") for line in lines[1:]]
        assert all(len(line) == len(heads) for line in found), (words, found)
        return [dict(zip(heads, line, strict=True)) for line in found]

    async def facts(self, *words: str) -> dict[str, str]:
        """An answer of single facts."""
        return dict(line.split("\t") for line in (await self(*words)).split("\n\n")[0].splitlines())


@pytest.fixture
async def dashboard(postgres: str) -> AsyncIterator[str]:
    """A dashboard of sixty people with some weeks of habits."""
    name = f"dashboard_{uuid.uuid4().hex[:8]}"
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {name}")
    url = with_database(postgres, name)
    await sample.write(url, sample.people(1, _TODAY, count=60, days=40))
    yield url
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def shell(
    tmp_path: Path, dsn: str, dashboard: str, monkeypatch: pytest.MonkeyPatch, typed: Typist
) -> AsyncIterator[Shell]:
    token, settings = secrets.token_hex(8), {"DATABASE_URL": dsn, "DASHBOARD_URL": dashboard}
    for _ in range(3):  # a free port may be taken by the time that the service takes it
        async with process_of(
            tmp_path / "data", "serve", ADMIN_TOKEN=token, JOB_SCHEDULES=_SCHEDULES,
            BOUNCE_ADDRESS="bounce@example.org", BOUNCE_SECRET="0123456789abcdef", **settings,
        ) as (process, url):  # fmt: skip
            if await _up(process, url, token):
                monkeypatch.setenv("JOBS_URL", url)
                monkeypatch.setenv("JOBS_TOKEN", token)
                yield Shell(typed)
                return
    pytest.fail((tmp_path / "stderr").read_text())


async def _up(process: asyncio.subprocess.Process, url: str, token: str) -> bool:
    """Wait until the service answers, it and nothing else on its port; False: it has ended."""
    status, bearer = f"{url}/api/admin/jobs/status", {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(90), aiohttp.ClientSession(headers=bearer) as http:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError, ValueError):
                async with http.get(status) as answer:
                    if (await answer.json()).get("isInitialized"):
                        return True
            await asyncio.sleep(0.05)
    return False


async def test_every_command_does_what_its_operation_does(
    shell: Shell, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await _jobs(shell)
    await _gates(shell)
    await _failed_slots(shell, pool)
    await _messages(shell, pool, tmp_path)
    await _suppressions(shell, pool)
    await _full_sync(shell, pool)
    await _people(shell, pool, tmp_path)
    await _analytics(shell, tmp_path)
    assert sorted(_COMMANDS - shell.names) == []


async def _jobs(shell: Shell) -> None:
    goals = ("reminder", "goalDeadlines")
    dry = await shell.facts("run", *goals, "--dry-run")
    assert dry["state"] == "succeeded"
    for statistic in _TYPED[1:]:
        await shell("run", "analytics", statistic)
    run = (await shell.facts("run", *goals))["run"]
    listed = await shell.rows("jobs")
    assert {row["name"]: row["last run"] for row in listed}["goalDeadlines"] == "succeeded"
    assert (await shell("health")).startswith("The service is healthy.\n")
    assert "12 jobs are active in 2 types." in await shell("statistics")
    assert (await shell.rows("runs", "list", "--type", "reminder", "--name", "goalDeadlines"))[0]["id"] == run
    shown = await shell("runs", "show", run)
    assert f"run\t{run}\n" in shown
    assert "\n# Attempts\nprocess\t" in shown
    watched = await shell("runs", "watch", run)
    assert watched.startswith("succeeded: ")
    assert "The run has ended" in await shell("runs", "cancel", run, code=1)

    planned = (await shell.facts("schedule", *goals, "--in", "30m"))["run"]
    assert await shell("unschedule", planned) == "The run is taken back.\n"
    planned = (await shell.facts("schedule", *goals, "--in", "2h"))["run"]
    assert await shell("runs", "cancel", planned) == "The run is asked to stop.\n"
    assert "cancelled" in await shell("runs", "watch", planned, code=1)
    assert "paused" in await shell("pause", *goals, "--reason", "holidays")
    assert "yes: holidays" in {row["paused"] for row in await shell.rows("jobs")}
    assert "not paused" in await shell("resume", *goals)
    assert (await shell.facts("restart", "analytics"))["running"] == "true"
    told = await shell(
        "backfill", "analytics", "dailyAnalytics", "--from", _SINCE, "--to", _SINCE, "--preview"
    )
    assert f"{_SINCE}\tthere, derived again" in told
    acts = {row["act"] for row in await shell.rows("audit")}
    assert acts >= {"run", "schedule", "unschedule", "pause", "resume", "restart"}
    assert "Unknown job: nothing" in await shell("run", "reminder", "nothing", code=1)


async def _gates(shell: Shell) -> None:
    """A domain to which nobody writes is held, and let go."""
    shut = await shell("gates", "shut", "domain", "--name", "Example.NET", "--reason", "trying it")
    assert shut == "It is stopped; see gates list.\n"
    (gate,) = await shell.rows("gates", "list")
    assert (gate["scope"], gate["name"], gate["cause"]) == ("domain", "example.net", "operator")
    assert await shell("gates", "open", gate["id"]) == "The gate is open.\n"
    assert await shell.rows("gates", "list") == []
    assert "There is no job 'nothing'" in await shell(
        "gates", "shut", "job", "--name", "nothing", "--reason", "x", code=2
    )


async def _suppressions(shell: Shell, pool: asyncpg.Pool) -> None:
    """Somebody complained, and asks for mail again."""
    insert = "INSERT INTO service.suppression (address, reason) VALUES ('cas@example.net', 'complaint')"
    await pool.execute(insert)
    (row,) = await shell.rows("suppressions", "list", "--address", "cas@", "--reason", "complaint")
    assert "address\tcas@example.net\n" in await shell("suppressions", "show", row["id"])
    lift = ("suppressions", "lift", row["id"], "--reason", "they wrote to us")
    assert "the person asked" in await shell(*lift, code=1)
    assert await shell(*lift, "--person-asked", "--same-words") == "The address is written to again.\n"
    assert await shell.rows("suppressions", "list", "--address", "cas@") == []
    await shell("complaints")


async def _failed_slots(shell: Shell, pool: asyncpg.Pool) -> None:
    """Two slots of dataCleanup, whose schedule is far away, that failed."""
    first, second = [
        row["id"]
        for row in await pool.fetch(
            "INSERT INTO service.job_run (job, trigger, nominal_at, not_before, state, finished_at)"
            " SELECT 'analytics.dataCleanup', 'cron', now() - n * interval '1 day', now(), 'failed', now()"
            " FROM generate_series(0, 1) AS n RETURNING id"
        )
    ]
    assert "runs retry" in await shell("health", code=1)
    assert await shell("runs", "retry", str(first)) == "The run goes on; see runs watch.\n"
    assert "succeeded" in await shell("runs", "watch", str(first))
    assert await shell("runs", "waive", str(second), "--reason", "tried") == "The run is waived.\n"
    assert "waived because\ttried" in await shell("runs", "show", str(second))
    assert (await shell("health")).startswith("The service is healthy.\n")


async def _full_sync(shell: Shell, pool: asyncpg.Pool) -> None:
    """The service reads everything again in the background: what was broken in the copy is mended."""
    await pool.execute("UPDATE service.goals SET title = 'Broken here'")
    assert "goals" in await shell("sync", "--full", "--reason", "edited by hand")
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM service.goals WHERE title = 'Broken here'"):
            await asyncio.sleep(0.05)
    assert "nothing to confirm" in await shell("sync", "--confirm", "users", "--reason", "gone", code=1)
    assert "Say one of full and confirmLoss" in await shell("sync", "--reason", "nothing", code=2)


async def _messages(shell: Shell, pool: asyncpg.Pool, tmp_path: Path) -> None:
    found = await shell.rows("messages", "list", "--channel", "email", "--limit", "4")
    assert len(found) == 4
    ids = [row["id"] for row in found]
    for id_, state in zip(ids, ("planned", "failed", "failed", "unconfirmed"), strict=True):
        await pool.execute("UPDATE service.delivery SET user_id = 'u-' || id WHERE id = $1", int(id_))
        await pool.execute(
            "UPDATE service.delivery_state SET claim = CASE WHEN $2 <> 'planned' THEN 0 END, state = $2,"
            " reason = 'smtp_timeout', not_before = now() + interval '5 h',"
            " expires_at = now() + interval '9 h' WHERE id = $1",
            int(id_), state,
        )  # fmt: skip
    assert [row["id"] for row in await shell.rows("messages", "unconfirmed")] == [ids[3]]
    assert await shell("messages", "cancel", ids[0]) == "The message is cancelled.\n"
    assert await shell("messages", "retry", ids[1]) == "The message is planned.\n"
    counted = await shell.facts("messages", "retry-failed", "--reason", "smtp_timeout", "--dry-run")
    assert counted["can be sent again"] == "1"
    assert (await shell.facts("messages", "try-now", "--domain", "example.net"))["wait"] == "0"
    assert await shell("messages", "resend", ids[3]) == "The message is planned again.\n"
    assert "is cancelled" in await shell("messages", "cancel", ids[0], code=1)
    assert {"at", "state", "next try", "reply"} <= set(
        (await shell("messages", "attempts", ids[2])).splitlines()[0].split("\t")
    )
    source = await shell("messages", "show", ids[2], "--format", "source")
    assert "Message-ID: <" in source

    assert "Ada" in await shell("preview", "weeklyReview")
    assert "<html" in await shell("preview", "weeklyReview", "--format", "html")
    await shell("test-send", "weeklyReview", "--to", "you@example.org")
    assert "message id" in await shell("preview", "weeklyReview", "--to", "you@example.org")
    (tmp_path / "report.eml").write_text("From: a@example.org\n\nIt came back.\n")
    assert (await shell.facts("bounce", str(tmp_path / "report.eml")))["understood as"] == "ignored"
    assert all(
        row["state"] in {"bounced", "complained"} for row in await shell.rows("bounces", "--days", "7")
    )
    assert "An upper bound" in await shell("forecast", "--days", "1")
    exact = await shell.facts("forecast", "--job", "dailyCheck", "--exact")
    assert exact["job"] == "reminder.dailyCheck"
    await pool.execute("INSERT INTO service.alert (name, detail) VALUES ('lateness', 'for two hours')")
    assert (await shell.rows("alerts", "--open"))[0]["alert"] == "lateness"


async def _people(shell: Shell, pool: asyncpg.Pool, tmp_path: Path) -> None:
    user = await pool.fetchval(
        "SELECT user_id FROM service.user_profile AS p JOIN service.notification USING (user_id) LIMIT 1"
    )
    assert (await shell("explain", "dailyCheck", "--user", user)).count("\n# Rules for ") >= 1
    assert (await shell.facts("user", "profile", user))["user"] == user
    assert len(await shell.rows("user", "days", user)) > 1
    notifications = await shell.rows("user", "notifications", user, "--unread")
    assert notifications
    assert (await shell.facts("user", "read", user, "--ids", notifications[0]["id"]))["marked"] == "1"
    target = tmp_path / "person.json"
    assert await shell("user", "export", user, "--out", str(target)) == ""
    assert json.loads(target.read_text())["users"]
    assert json.loads(await shell("user", "erase", user))["deleted"]["users"] == 1
    assert "Unknown user: nobody" in await shell("user", "export", "nobody", "--out", str(target), code=1)
    assert json.loads(target.read_text())["users"]
    assert [path.name for path in tmp_path.glob("*.part")] == []


async def _analytics(shell: Shell, tmp_path: Path) -> None:
    for view in ("daily", "weekly", "monthly", "behaviour"):
        assert (await shell.rows("analytics", view))[0]["period"]
    for view in ("performance", "insights", "anomalies"):
        await shell.rows("analytics", view)
    day = (await shell.rows("analytics", "daily", "--from", _SINCE, "--limit", "1"))[0]["period"]
    assert day == _SINCE
    assert (await shell.rows("analytics", "revisions", "daily", day))[0]["revision"]
    assert (await shell.rows("analytics", "retention", "--kind", "weekly"))[-1]["cohort"] == "all"
    assert "daily" in {row["statistic"] for row in await shell.rows("analytics", "watermarks")}
    assert "day.sessions" in {row["series"] for row in await shell.rows("analytics", "series")}
    assert "at\tvalue\texpected" in await shell("analytics", "points", "day.sessions")
    for words in (("export", "daily"), ("analytics", "daily", "--format", "csv")):
        assert (await shell(*words, "--from", _SINCE)).startswith("period,revision,final,")
        whole = json.loads(await shell(*words, "--from", _SINCE, "--json"))
        assert (whole["success"], whole["data"][0]["period"]) == (True, _SINCE)
    target = tmp_path / "days.parquet"
    await shell("export", "user_day", "--format", "parquet", "--out", str(target))
    assert target.read_bytes()[:4] == b"PAR1"
    assert (await shell("contract")).encode() == Path("openapi.yaml").read_bytes()


async def test_pages_are_followed_as_far_as_is_asked(shell: Shell) -> None:
    await shell("run", "analytics", "dailyAnalytics")
    since = str(_TODAY - timedelta(days=30))
    every = await shell.rows("analytics", "daily", "--from", since, "--all", "--limit", "4")
    assert [row["period"] for row in every] == sorted({row["period"] for row in every})
    assert len(every) >= 29
    raw = json.loads(await shell("analytics", "daily", "--from", since, "--limit", "4", "--json"))
    assert (len(raw["data"]), raw["success"]) == (4, True)
    whole = json.loads(await shell("analytics", "daily", "--from", since, "--all", "--json"))
    assert [row["period"] for row in whole["data"]] == [row["period"] for row in every]
    assert whole["next"] is None


async def test_the_same_words_ask_this_machine_where_no_service_is_named(
    shell: Shell, dsn: str, dashboard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DASHBOARD_URL", dashboard)
    monkeypatch.setenv("LOG_LEVEL", "error")
    monkeypatch.setenv("JOB_SCHEDULES", _SCHEDULES)
    near, afar = [
        [line.split("\t")[0] for line in (await shell(*where, "forecast", "--days", "1")).splitlines()]
        for where in (("--url", ""), ())
    ]
    assert near[:8] == afar[:8]
    assert "weeklyReview" in near[:10]
    exact = await shell.facts("forecast", "--job", "weeklyReview", "--exact")
    assert await shell.facts("--url", "", "forecast", "--job", "weeklyReview", "--exact") == exact
    assert "--exact needs --job" in await shell("--url", "", "forecast", "--exact", code=2)
    assert "goalDeadlines" in await shell("--url", "", "jobs", "--json")
