"""The console over real parts: all jobs, a real runner, outbox and explainer, and signing in."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from service.engine.ledger import Ledger
from service.engine.runner import Runner
from service.engine.trigger import TriggerLoop, timing_of
from service.manager import JobManager
from service.messages.outbox import Outbox
from service.web import AdminDeps, build_app
from tests.given import World, goal, user
from tests.web.given import TOKENS
from tests.web.parts import web_parts

NOW = "2026-03-10T08:00:00Z"
"""Nine in Berlin, and the clocks of New York changed two days ago."""


@dataclass
class Console:
    """A browser without a screen, the parts behind the pages, and whoever is signed in."""

    client: TestClient[Any, Any]
    world: World
    ledger: Ledger
    runner: Runner
    trigger: TriggerLoop
    manager: JobManager
    outbox: Outbox
    zone: ZoneInfo

    @property
    def origin(self) -> dict[str, str]:
        """What a browser says of a form of our own pages."""
        return {"Origin": str(self.client.make_url("/")).rstrip("/")}

    async def sign_in(self, token: str = "the-admin") -> None:
        """Come in."""
        answer = await self.client.post(
            "/console/sign-in", data={"token": token}, headers=self.origin, allow_redirects=False
        )
        assert answer.status == 303

    async def read(self, path: str, status: int = 200) -> str:
        """A page, as text of its HTML with runs of space made one."""
        answer = await self.client.get(path, allow_redirects=False)
        text = await answer.text()
        assert answer.status == status, (path, answer.status, text)
        return " ".join(text.split())

    async def form_token(self, page: str) -> str:
        """What the forms of a page carry."""
        found = re.search(r'name="form_token" value="(\w+)"', await self.read(page))
        assert found
        return found[1]

    async def act(self, path: str, status: int = 303, page: str = "/console/mails", **form: str) -> Any:
        """Send a form with the token of ``page``; the answer with its text read."""
        data = {"form_token": await self.form_token(page), **form}
        answer = await self.client.post(path, data=data, headers=self.origin, allow_redirects=False)
        text = " ".join((await answer.text()).split())
        assert answer.status == status, (path, answer.status, text)
        return answer, text

    async def audit(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Who did what, in order, but for signing in and out."""
        rows = await self.world.pool.fetch(
            "SELECT who, act, what FROM service.audit WHERE act NOT LIKE 'sign\\_%' ORDER BY id"
        )
        return [(row["who"], row["act"], row["what"]) for row in rows]


async def people(world: World, now: str = NOW) -> None:
    """Ann in Berlin, Bob in New York, Cleo in Tokyo; Ann and Bob have a goal that is due tomorrow."""
    await world.at(now)
    await world.live(
        user("ann"),
        user("bob", "America/New_York"),
        user("cleo", "Asia/Tokyo", email=None),
        goal("g1", due="2026-03-11", title="Read ten books"),
        goal("g2", "bob", due="2026-03-11", title="Run a mile"),
    )


@asynccontextmanager
async def console(world: World, **more: Any) -> AsyncIterator[Console]:
    """The pages, served; the loops are left to the test."""
    ledger, runner = await world.ledger(), await world.runner()
    timings = {job.id: timing_of(job) for job in world.jobs.values()}
    zone = ZoneInfo("Europe/Berlin")
    manager = JobManager(world.pool, ledger, runner, world.jobs)
    await manager.initialize()
    parts = web_parts(world.pool, ledger, runner, zone, more.pop("transport", None))
    deps = AdminDeps(
        world.pool,
        manager,
        more.pop("tokens", TOKENS),
        loopback=True,
        registry=CollectorRegistry(),
        **{**parts, "service_zone": zone, **more},
    )
    trigger = TriggerLoop(ledger, world.jobs, timings, zone, asyncio.Event(), use_crons=False)
    async with TestClient(TestServer(build_app(deps), host="127.0.0.1")) as client:
        yield Console(client, world, ledger, runner, trigger, manager, deps.outbox, zone)
    await manager.shutdown()
