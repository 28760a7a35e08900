"""The whole service behind a port, in a thread of its own, and the contract to ask it by."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings
from schemathesis import Case, CheckContext, Response, SerializationContext
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from service.app import Service, open_service
from service.demo import sample
from service.settings import Settings
from tests.acme import KINDS
from tests.clock import stop_clock
from tests.conftest import LONG, with_database
from tests.web.contract import contract

TODAY = date(2026, 3, 22)
NOW = "2026-03-22T20:00:00Z"
PEOPLE = sample.people(1, TODAY, count=30, days=45)
JOBS = (
    ("reminder", "goalDeadlines"),
    ("reminder", "weeklyReview"),
    ("analytics", "dailyAnalytics"),
    ("analytics", "weeklyAggregation"),
    ("analytics", "userBehavior"),
)
TOKENS = {"ADMIN_TOKEN": "the-admin-of-the-fuzz", "VIEWER_TOKEN": "the-viewer-of-the-fuzz"}
SAYS = {
    "admin": {"Authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"},
    "viewer": {"Authorization": f"Bearer {TOKENS['VIEWER_TOKEN']}"},
    "nobody": {"Authorization": ""},
}
_PHASES = ("examples", "coverage", "fuzzing") if LONG else ("examples", "fuzzing")
TOKEN = "a-token"
"""Of the links in one mail."""

_USERS = [str(row["id"]) for row in PEOPLE.users[:3]]
_KNOWN: dict[str, dict[str, list[Any]]] = {
    "/users/": {"id": _USERS},
    "/people/": {"id": _USERS},
    "/deliveries/": {"id": [1, 2, 3]},
    "/messages/": {"id": [1, 2, 3]},
    "/runs/": {"id": [1, 2, 3]},
    "/jobs/": {"type": ["reminder", "analytics"], "name": [name for _, name in JOBS]},
    "/series/": {"name": ["hour.sessions"]},
    "/mails/": {"template": sorted(kind.template for kind in KINDS.values())},
    "/{token}": {"token": [TOKEN]},
}
"""What is there, by a part of the path and the parameter's name: chance alone would never ask for it."""


def world_of(found: dict[str, Any]) -> dict[str, Any]:
    """The contract, in which path parameters may also be what this world holds."""
    paths = {path: _item(path, item) for path, item in found["paths"].items()}
    return {**found, "paths": paths}


def _item(path: str, item: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, list[Any]] = {}
    for part, names in _KNOWN.items():
        known |= names if part in path else {}
    return {**item, "parameters": [_widened(one, known) for one in item.get("parameters", [])]}


def _widened(parameter: dict[str, Any], known: dict[str, list[Any]]) -> dict[str, Any]:
    if "$ref" in parameter:
        parameter = contract()["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
    if parameter["in"] != "path" or parameter["name"] not in known or "enum" in parameter["schema"]:
        return parameter
    schema = parameter["schema"]
    return {**parameter, "schema": {"anyOf": [{"enum": known[parameter["name"]]}, schema]}}


def asked(*phases: str) -> OpenApiSchema:
    """The contract as schemathesis reads it; ``phases``: only these of examples, coverage and fuzzing.

    Coverage is for the long form alone: every worker of pytest-xdist makes all of its cases.
    """
    made = schemathesis.openapi.from_dict(world_of(contract()))
    made.config.phases.update(phases=list(phases or _PHASES))
    return made


def by(*who: str) -> pytest.MarkDecorator:
    """Parametrizes ``who``. Without parameters of pytest all operations would be one test to pytest-xdist."""
    return pytest.mark.parametrize("who", who)


def bounded(examples: int) -> settings:
    """So many examples by chance for each operation, 16 times as many in the long form; always the same."""
    return settings(
        max_examples=examples * 16 if LONG else examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@schemathesis.serializer("message/rfc822")
def _mail(_context: SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


# ── The server ──────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def databases(postgres: str, template: str) -> AsyncIterator[tuple[str, str]]:
    ours, theirs = (f"test_{uuid.uuid4().hex[:12]}" for _ in range(2))
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {ours} TEMPLATE {template} STRATEGY file_copy")
    await connection.execute(f"CREATE DATABASE {theirs}")
    try:
        yield with_database(postgres, ours), with_database(postgres, theirs)
    finally:
        for name in (ours, theirs):
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@asynccontextmanager
async def _service(postgres: str, template: str, folder: Path) -> AsyncIterator[Service]:
    async with databases(postgres, template) as (ours, theirs):
        await sample.write(theirs, PEOPLE)
        environ = {
            "DATABASE_URL": ours,
            "DASHBOARD_URL": theirs,
            "DATA_DIR": str(folder),
            "BOUNCE_ADDRESS": "bounce@example.org",
            "BOUNCE_SECRET": "the secret of the fuzz",
            "SHUTDOWN_GRACE_SECONDS": "1",
            "CLAIM_JITTER_SECONDS": "0",
            **TOKENS,
        }
        async with open_service(Settings.load(environ)) as service:
            await _live(service)
            stop = asyncio.Event()
            heartbeat = asyncio.create_task(service.presence.serve(stop))
            yield service
            stop.set()
            await heartbeat


async def _live(service: Service) -> None:
    """A little of everything: figures, mails sent and planned, notifications, runs that are over."""
    await stop_clock(service.pool, NOW)
    await service.presence.beat()
    await service.sync.run_once()
    for kind, name in JOBS:
        await service.manager.run_job(kind, name)
    await service.delivery.run_once()
    await service.pool.execute("UPDATE service.delivery SET token = $1 WHERE id = 1", TOKEN)


@contextmanager
def served(postgres: str, template: str, folder: Path) -> Iterator[str]:
    """The base URL of a service with a past, whose loops stand still unless they are asked to start."""
    ready: threading.Event = threading.Event()
    told: dict[str, Any] = {}

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        told["end"] = lambda: loop.call_soon_threadsafe(stop.set)
        async with (
            _service(postgres, template, folder) as service,
            TestServer(await service.web_app(), host="127.0.0.1") as server,
        ):
            told["base"] = str(server.make_url("/")).rstrip("/")
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as problem:
            told["problem"] = problem
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="service")
    thread.start()
    ready.wait()
    try:
        if "problem" in told:
            raise told["problem"]
        yield told["base"]
    finally:
        if "end" in told and thread.is_alive():
            told["end"]()
        thread.join()


# ── What an answer must be ──────────────────────────────────────────────────────────────────────────────────

_PROMISES = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_UNWELL = "/api/admin/jobs/health"
"""Says 503, because the loops stand still."""


def no_failure(_context: CheckContext, response: Response, case: Case[Any]) -> None:
    """Whatever is asked, the service is not to blame."""
    if response.status_code >= 500 and case.operation.path != _UNWELL:
        raise AssertionError(f"{response.status_code} for {case.operation.label}: {response.text[:500]}")


def hold(case: Case[Any], base: str, headers: Mapping[str, str]) -> int:
    """Ask, and hold the answer against the contract; the status."""
    answer = case.call_and_validate(
        base_url=base,
        headers=dict(headers),
        checks=[*_PROMISES, no_failure],
        allow_redirects=False,
        timeout=60,
    )
    return answer.status_code
