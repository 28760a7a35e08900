"""A real Chromium, and the real pages with a mail for Ann."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from aiohttp.test_utils import BaseTestServer
from playwright.async_api import Browser

from service.messages.mail.maildir import MaildirTransport
from service.messages.preview import Previewer
from tests import chromium
from tests.acme import JOBS
from tests.given import World, composer, goal, user
from tests.web.given import admin, delivery


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if chromium.find() is None:
        pytest.skip(chromium.MISSING)
    async with chromium.browser() as started:
        yield started


@pytest.fixture
async def server(pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[BaseTestServer]:
    """Ann has a goal due on 11 March 2026 and a mail with the token ``a-token``; mails go to a Maildir."""
    world = World(pool)
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g1", due="2026-03-11", title="Read ten books"))
    await delivery(pool, "a-token", "ann")
    made, box = composer(), MaildirTransport(tmp_path)
    previewer = Previewer(pool, await world.runner(), JOBS, made, made.compose, box)
    async with admin(pool, previewer=previewer) as given:
        yield given.client.server
