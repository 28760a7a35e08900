"""``make screenshots``: every mail, the preference page and the console, narrow and wide, in light and dark.

All pictures go to ``artefacts/screenshots``; those that the README shows to ``docs/screenshots``.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp.test_utils import BaseTestServer, TestServer
from playwright.async_api import Browser
from prometheus_client import CollectorRegistry

from service.engine import embedded
from service.engine.database import migrate, open_pool
from service.engine.ledger import Ledger
from service.messages.mail.sample_goals import RECIPIENT
from service.settings import Settings
from service.web import AdminDeps, build_app
from tests import chromium, lived, worked
from tests.chromium import Scheme
from tests.given import World
from tests.messages.mail.cast import composer
from tests.samples import SAMPLES, MailSample
from tests.web.console.consoles import console
from tests.web.parts import web_parts

ROOT = Path(__file__).parents[1]
ALL = ROOT / "artefacts/screenshots"
KEPT = ROOT / "docs/screenshots"
_IN_README = {
    ("goal_deadlines_full", 800, "light"),
    ("weekly_review_full", 800, "dark"),
    ("weekly_review_full", 320, "light"),
    ("console_mails", 1280, "light"),
    ("console_analytics", 1280, "light"),
    ("console_overview", 1280, "light"),
}
_WIDTHS = (320, 800)
_CONSOLE_WIDTHS = (360, 1280)
_CONSOLE = {
    "console_mails": "/console/mails?scheme={scheme}",
    "console_mail": "/console/mails/monthly_report?scheme={scheme}",
    "console_source": "/console/mails/daily_check?part=source",
    "console_problem": "/console/mails/break_reminders?variant=none",
}
_LIVED = {
    "console_analytics": "/console/analytics",
    "console_analytics_year": "/console/analytics?range=1y&kind=monthly&mode=unbounded",
    "console_system": "/console/system",
}
"""Pages of a service that has been at work for a year."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture. ``page``: HTML, or the address of a page. ``width`` in CSS pixels."""

    name: str
    page: str
    width: int
    scheme: Scheme

    @property
    def file(self) -> str:
        return f"{self.name}-{self.width}-{self.scheme}.png"


def page_of(sample: MailSample) -> str:
    """The HTML of a sample."""
    made = composer()
    return made.render(
        sample.template,
        sample.facts,
        locale="en",
        name=RECIPIENT,
        links=made.links("Zx8QmN3vR5tY7uI9oP1aSd"),
    ).html


def shots(pages: dict[str, str], widths: tuple[int, int]) -> list[Shot]:
    """Every page, at both widths and in both schemes, which an address may name."""
    schemes: tuple[Scheme, ...] = ("light", "dark")
    return [
        Shot(name, page.replace("{scheme}", scheme), width, scheme)
        for name, page in pages.items()
        for width in widths
        for scheme in schemes
    ]


class NoDatabase:
    """Answers like a database that knows nobody: pages show what they show to a stranger, and samples."""

    async def fetchrow(self, *_: Any) -> None:
        return None

    async def fetchval(self, *_: Any) -> datetime:
        return datetime(2026, 3, 10, 8, tzinfo=UTC)

    async def fetch(self, *_: Any) -> list[Any]:
        return []

    async def progress(self, *_: Any) -> None:
        return None


def our_pages() -> TestServer:
    """The pages behind the links in the mails and those of the console, on this machine."""
    nothing: Any = NoDatabase()
    deps = AdminDeps(
        nothing,
        nothing,
        {},
        loopback=True,
        registry=CollectorRegistry(),
        frontend_url="/",
        **web_parts(nothing, Ledger(nothing, "", timedelta()), nothing),
    )
    return TestServer(build_app(deps), host="127.0.0.1")


@asynccontextmanager
async def lived_pages() -> AsyncIterator[tuple[BaseTestServer, dict[str, str]]]:
    """The console of a hundred people's year, after a week of work; and where its pages are, by name."""
    with tempfile.TemporaryDirectory(prefix="screenshots-", ignore_cleanup_errors=True) as folder:
        dsn, server = await asyncio.to_thread(embedded.start, Path(folder) / "data")
        pool = await open_pool(dsn)
        try:
            await migrate(pool)
            await lived.year(pool, 100)
            settings = Settings().described()
            async with console(World(pool), tokens={}, version="1.0.0", settings=settings) as given:
                found = asdict(await worked.week(given))
                pages = {name: path.format(**found) for name, path in worked.PAGES.items()}
                yield given.client.server, _LIVED | pages
        finally:
            await pool.close()
            await asyncio.to_thread(server.stop)


async def main() -> int:
    """Take them all; 1 where there is no browser."""
    if chromium.find() is None:
        print(chromium.MISSING, file=sys.stderr)
        return 1
    ALL.mkdir(parents=True, exist_ok=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    async with chromium.browser() as browser, our_pages() as server, lived_pages() as (busy, lively):
        base = str(server.make_url("/")).rstrip("/")
        pages = {sample.name: page_of(sample) for sample in SAMPLES} | {
            "preferences": f"{base}/preferences/nobody"
        }
        console = {name: base + path for name, path in _CONSOLE.items()}
        console |= {name: str(busy.make_url("/")).rstrip("/") + path for name, path in lively.items()}
        taken = shots(pages, _WIDTHS) + shots(console, _CONSOLE_WIDTHS)
        for shot in taken:
            await photograph(browser, shot)
    print(f"{len(taken)} pictures in {ALL.relative_to(ROOT)}")
    return 0


async def photograph(browser: Browser, shot: Shot) -> None:
    """One picture of the whole page; a page that is wider than its window is a fault."""
    page = await browser.new_page(viewport={"width": shot.width, "height": 400}, color_scheme=shot.scheme)
    try:
        await (page.goto(shot.page) if shot.page.startswith("http") else page.set_content(shot.page))
        wide, high = await page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        if wide > shot.width:
            raise RuntimeError(f"{shot.file}: {wide} px wide, the window has {shot.width}")
        if await page.locator("iframe").count():
            # What lies below the window is not painted in frames.
            await page.set_viewport_size({"width": shot.width, "height": high})
            await page.wait_for_load_state("networkidle")  # frames load when they come into view
        await page.screenshot(path=ALL / shot.file, full_page=True)
    finally:
        await page.close()
    if (shot.name, shot.width, shot.scheme) in _IN_README:
        shutil.copyfile(ALL / shot.file, KEPT / shot.file)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
