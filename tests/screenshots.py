"""``make screenshots``: every mail and the preference page, narrow and wide, in light and dark.

All pictures go to ``artefacts/screenshots``; those that the README shows to ``docs/screenshots``.
"""

import asyncio
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, async_playwright
from prometheus_client import CollectorRegistry

from service.admin import AdminDeps, build_app
from service.mail.samples import NAME, SAMPLES, Sample
from tests.mail.cast import composer

ROOT = Path(__file__).parents[1]
ALL = ROOT / "artefacts/screenshots"
KEPT = ROOT / "docs/screenshots"
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_IN_README = {
    ("goal_deadlines_full", 800, "light"),
    ("weekly_review_full", 800, "dark"),
    ("weekly_review_full", 320, "light"),
}

Scheme = Literal["light", "dark"]


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


def page_of(sample: Sample) -> str:
    """The HTML of a sample."""
    made = composer()
    return made.render(
        sample.template,
        sample.facts,
        locale="en",
        name=NAME,
        links=made.links("Zx8QmN3vR5tY7uI9oP1aSd"),
        kind=sample.kind,
    ).html


def shots(pages: dict[str, str]) -> list[Shot]:
    """Every page, at both widths and in both schemes."""
    schemes: tuple[Scheme, ...] = ("light", "dark")
    return [
        Shot(name, page, width, scheme)
        for name, page in pages.items()
        for width in (320, 800)
        for scheme in schemes
    ]


class NoDatabase:
    """Answers like a database that knows nobody: the page shows what it shows to a stranger."""

    async def fetchrow(self, *_: Any) -> None:
        return None

    async def fetchval(self, *_: Any) -> None:
        return None

    async def fetch(self, *_: Any) -> list[Any]:
        return []


def recipient_pages() -> TestServer:
    """The pages behind the links in the mails, on this machine."""
    nothing: Any = NoDatabase()
    deps = AdminDeps(nothing, nothing, {}, loopback=True, registry=CollectorRegistry(), frontend_url="/")
    return TestServer(build_app(deps), host="127.0.0.1")


async def main() -> int:
    """Take them all; 1 where there is no browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("There is no Chromium on the PATH. On Debian: apt-get install chromium", file=sys.stderr)
        return 1
    ALL.mkdir(parents=True, exist_ok=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as driver, recipient_pages() as server:
        browser = await driver.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        pages = {sample.name: page_of(sample) for sample in SAMPLES}
        taken = shots({**pages, "preferences": str(server.make_url("/preferences/nobody"))})
        for shot in taken:
            await photograph(browser, shot)
        await browser.close()
    print(f"{len(taken)} pictures in {ALL.relative_to(ROOT)}")
    return 0


async def photograph(browser: Browser, shot: Shot) -> None:
    """One picture of the whole page; a page that is wider than its window is a fault."""
    page = await browser.new_page(viewport={"width": shot.width, "height": 400}, color_scheme=shot.scheme)
    try:
        await (page.goto(shot.page) if shot.page.startswith("http") else page.set_content(shot.page))
        wide = await page.evaluate("document.documentElement.scrollWidth")
        if wide > shot.width:
            raise RuntimeError(f"{shot.file}: {wide} px wide, the window has {shot.width}")
        await page.screenshot(path=ALL / shot.file, full_page=True)
    finally:
        await page.close()
    if (shot.name, shot.width, shot.scheme) in _IN_README:
        shutil.copyfile(ALL / shot.file, KEPT / shot.file)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
