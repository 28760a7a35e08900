"""Rules and dashboard where they are used: a Prometheus scrapes the service and raises its alerts."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
import yaml
from jsonschema import Draft202012Validator

from service.demo import sample
from service.setup.databases import ensure_database
from tests.process import free_port, process_of, spawn

RULES = Path("deploy/prometheus/rules.yaml")
TESTS = Path("deploy/prometheus/rules_test.yaml")
DASHBOARD = json.loads(Path("deploy/grafana/dashboard.json").read_text("utf-8"))
SCHEMA = Path(__file__).with_name("dashboard.schema.json")
JOB = "reminder.dailyCheck"

installed = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


class Prometheus:
    """A server that evaluates our rules every second, and what its API says."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def ask(self, what: str) -> Any:
        """``data`` of an answer of its API; None while it does not answer yet."""
        try:
            async with self._http.get(f"{self._url}/api/v1/{what}") as answer:
                return (await answer.json())["data"] if answer.status == 200 else None
        except aiohttp.ClientError:
            return None

    async def until(self, what: str, true: Callable[[Any], Any]) -> Any:
        """What its API says once that is true."""
        async with asyncio.timeout(120):
            while not ((said := await self.ask(what)) and true(said)):
                await asyncio.sleep(0.1)
        return said

    async def fires(self, alert: str, **labels: str) -> dict[str, Any]:
        """The alert, once it fires."""

        def found(said: Any) -> list[dict[str, Any]]:
            wanted = {"alertname": alert, **labels}.items()
            return [a for a in said["alerts"] if a["state"] == "firing" and wanted <= a["labels"].items()]

        return found(await self.until("alerts", found))[0]


def _impatient(rules: str) -> str:
    """The same rules, which wait for a second only."""
    return re.sub(r"(?m)^( +)for: \w+$", r"\1for: 1s", rules)


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Prometheus]:
    (folder / "rules.yaml").write_text(_impatient(RULES.read_text("utf-8")))
    scrape = {"job_name": "dashboard-jobs", "static_configs": [{"targets": [target]}]}
    pace = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = {"global": pace, "rule_files": ["rules.yaml"], "scrape_configs": [scrape]}
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await spawn(
            "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
        try:
            async with aiohttp.ClientSession() as http:
                yield Prometheus(f"http://127.0.0.1:{port}", http)
        finally:
            process.kill()
            await process.wait()


async def _miss_slots(dsn: str) -> None:
    """As if nobody had looked at the job's schedule for nearly a day."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE service.job_schedule SET materialized_through = now() - interval '23 hours' WHERE job = $1",
        JOB,
    )
    await connection.close()


@pytest.fixture
async def dashboard(postgres: str, dsn: str) -> AsyncIterator[str]:
    """A database with some people in it."""
    name = f"{urlsplit(dsn).path[1:]}_dashboard"
    made = await ensure_database(postgres, name)
    await sample.write(made, sample.people(1, datetime.now(UTC).date(), 60))
    yield made
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@installed
@pytest.mark.long(only=True)
async def test_a_missed_slot_and_a_dead_process_raise_their_alerts(
    dsn: str, dashboard: str, tmp_path: Path
) -> None:
    more = {"DATABASE_URL": dsn, "DASHBOARD_URL": dashboard, "SWEEP_SECONDS": "1"}
    async with (
        process_of(tmp_path / "data", "serve", **more) as (process, url),
        prometheus(tmp_path, url.removeprefix("http://")) as server,
    ):
        await server.until("targets", lambda said: {one["health"] for one in said["activeTargets"]} == {"up"})
        up = await server.until("query?query=max(jobs_database_up)", lambda said: said["result"])
        await _miss_slots(dsn)
        missed = await server.fires("JobsSlotMissed", job_name=JOB)
        groups = await server.until("rules", _all_evaluated)
        process.kill()
        await process.wait()
        await server.fires("JobsServiceAbsent", severity="page")

    assert up["result"][0]["value"][1] == "1"
    assert re.fullmatch(
        r"\d+ slots of reminder.dailyCheck were missed in the last 24 hours.",
        missed["annotations"]["summary"],
    )
    assert {rule["health"] for group in groups["groups"] for rule in group["rules"]} == {"ok"}


def _all_evaluated(said: Any) -> bool:
    return all(rule["health"] != "unknown" for group in said["groups"] for rule in group["rules"])


@installed
def test_each_alert_rings_when_it_should_and_not_before() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", str(TESTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_test_of_each_alert_on_both_sides() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
    asked = [
        one for test in yaml.safe_load(TESTS.read_text("utf-8"))["tests"] for one in test["promql_expr_test"]
    ]
    for alert in (rule["alert"] for rule in rules if "alert" in rule):
        rings = {bool(one["exp_samples"]) for one in asked if f'alertname="{alert}"' in one["expr"]}
        assert rings == {True, False}, alert


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    errors = [f"{list(e.path)}: {e.message}" for e in Draft202012Validator(schema).iter_errors(DASHBOARD)]
    assert errors == []
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    known = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= known | {"__rate_interval", "__range"}
    for one in panels:
        assert one["gridPos"]["x"] + one["gridPos"]["w"] <= 24
        assert len({target["refId"] for target in one["targets"]}) == len(one["targets"])
    for a, b in combinations((panel["gridPos"] for panel in panels), 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)
