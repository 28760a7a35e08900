"""/metrics: what it tells, and that the rules and the dashboard for it ask for what there is, all of it."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.parser import text_string_to_metric_families

from service.engine.run import RunState, Trigger
from service.jobs import all_jobs
from tests.clock import stop_clock
from tests.given import GOALS
from tests.web.given import ADMIN, Admin, admin, delivery, job

RULES = Path("deploy/prometheus/rules.yaml")
DASHBOARD = Path("deploy/grafana/dashboard.json")
WAITING = {"jobs_undecided_slot_age_seconds", "jobs_stale_after_seconds"}
_NAME = re.compile(r"\b(?:jobs|process)[_:][a-z0-9_:]+")


async def samples(given: Admin) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) to value."""
    text = await (await given.client.get("/metrics")).text()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def asked_for() -> set[str]:
    """The metrics that expressions of rules and dashboard name."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    expressions = [rule["expr"] for rule in rules()]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    return {name for expression in expressions for name in _NAME.findall(expression)}


async def test_rules_and_dashboard_ask_for_what_there_is_and_for_all_of_it(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        text = await (await given.client.get("/metrics")).text()
    told = {family.name: family.type for family in text_string_to_metric_families(text)}
    ours = {name for name in told if not name.endswith("_created")}
    known: set[str] = set()
    for name in ours:
        endings = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(told[name], ("",))
        known |= {name + ending for ending in endings}
    processes = {family.name for family in PROCESS_COLLECTOR.collect()} | {"process_cpu_seconds_total"}
    recorded = {rule["record"] for rule in rules() if "record" in rule}

    assert asked_for() - known - processes - recorded == set()
    unused = {name for name in ours if not any(asked.startswith(name) for asked in asked_for())}
    assert unused == set()
    assert recorded <= asked_for()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 10
    for rule in alerts:
        assert set(rule["annotations"]) == {"summary", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook"].endswith(".")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say_about_names_and_units(pool: asyncpg.Pool) -> None:
    async with admin(pool, mails=lambda: {"sent": 3}) as given:
        await given.client.get("/api/admin/jobs/status", headers=ADMIN)
        text = await (await given.client.get("/metrics")).text()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_rules_and_dashboard_name_no_job() -> None:
    text = RULES.read_text("utf-8") + DASHBOARD.read_text("utf-8")

    assert [job.name for job in all_jobs().values() if job.name in text] == []


async def test_any_job_has_a_limit_for_the_age_of_its_last_success(pool: asyncpg.Pool) -> None:
    weekdays = replace(job("acme.stalledGoals"), schedule="0 9 * * 1-5")
    async with admin(pool, jobs=(job(), weekdays)) as given:
        limits = await samples(given)

    name = "jobs_stale_after_seconds"
    assert limits[name, "daily", GOALS] == 36 * 3600
    assert limits[name, "rare", "reminder.acme.stalledGoals"] == 108 * 3600


async def test_nobody_waits_for_a_job_that_was_taken_away(pool: asyncpg.Pool) -> None:
    async with admin(pool, jobs=(job("acme.stalledGoals"),)):
        pass
    async with admin(pool) as given:
        ages = await samples(given)

    jobs_waited_for = {labels[-1] for name, *labels in ages if name in WAITING}
    assert jobs_waited_for == {GOALS}


async def test_the_ledger_is_told_in_gauges(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        await stop_clock(pool, "2026-03-10T09:00:00Z")
        await pool.execute("UPDATE service.job_def SET materialized_through = '2026-03-10T08:58:00Z'")
        for state, hour, late in (("succeeded", 5, 90), ("failed", 7, 30), ("succeeded", 8, 45)):
            at = f"2026-03-10 0{hour}:00Z"
            await pool.execute(
                "INSERT INTO service.job_run"
                " (job, trigger, nominal_at, not_before, state, started_at, finished_at)"
                f" VALUES ($1, 'cron', '{at}', '{at}', $2, timestamptz '{at}' + {late} * interval '1 second',"
                f" timestamptz '{at}' + interval '10 minutes')",
                GOALS, state,
            )  # fmt: skip
        waiting = await delivery(pool)
        await pool.execute(
            "UPDATE service.delivery_state SET not_before = '2026-03-10T08:50Z', expires_at = '2026-03-11'"
            " WHERE id = $1",
            waiting,
        )
        await pool.execute("INSERT INTO service.alert (name, detail) VALUES ('api.errorRate', 'x')")

        told = await samples(given)

    assert told["jobs_database_up",] == 1
    assert told["jobs_undecided_slot_age_seconds", GOALS] == 120
    assert (told["jobs_recent_runs", GOALS, "succeeded"], told["jobs_recent_runs", GOALS, "failed"]) == (2, 1)
    assert told["jobs_start_lateness_seconds", GOALS] == 45
    assert told["jobs_last_success_age_seconds", GOALS] == 3000
    assert told["jobs_outbox_oldest_due_age_seconds",] == 600
    assert told["jobs_alert_open", "api.errorRate"] == 1
    assert told["jobs_anomalies_open", "critical"] == 0


async def test_a_process_tells_its_own_answers_mails_lag_and_pool(pool: asyncpg.Pool) -> None:
    vitals = {"loopLagMs": {"p50": 1.0, "p95": None, "p99": 12.5}, "changeStreamLag": 0.25}
    mails = {"sent": 3, "failed:hard_bounce": 1, "failed:content_refused": 1}
    async with admin(pool, runtime_metrics=lambda: vitals, mails=lambda: mails) as given:
        run = await given.ledger.request(GOALS, Trigger.MANUAL)
        for path in (f"runs/{run.id}", "runs/999999", "no/such/route", "another/one"):
            await given.client.get(f"/api/admin/{path}", headers=ADMIN)
        await given.client.request("PROPFIND", "/api/admin/alerts", headers=ADMIN)
        told = await samples(given)

    count = "jobs_http_request_duration_seconds_count"
    assert told[count, "GET", "/api/admin/runs/{id}", "2xx"] == 1
    assert told[count, "GET", "/api/admin/runs/{id}", "4xx"] == 1
    assert told[count, "GET", "unknown", "4xx"] == 2
    assert told[count, "other", "unknown", "4xx"] == 1
    assert (told["jobs_mails_total", "sent"], told["jobs_mails_total", "failed"]) == (3, 2)
    assert (told["jobs_loop_lag_seconds", "0.5"], told["jobs_loop_lag_seconds", "0.99"]) == (0.001, 0.0125)
    assert told["jobs_change_stream_lag_seconds",] == 0.25
    assert told["jobs_pool_connections", "idle"] + told["jobs_pool_connections", "busy"] >= 1
    assert run.state == RunState.PENDING
