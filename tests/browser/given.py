"""What happens in a page: which requests it sends, what the browser complains about, what axe finds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from aiohttp.test_utils import BaseTestServer
from playwright.async_api import Browser, ConsoleMessage, Page, Request

from tests.chromium import Scheme

AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
SERIOUS = {"serious", "critical"}


@dataclass
class Visit:
    """A page of a browser that looks at one server, and what it did there."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Go there; it must be found."""
        answer = await self.page.goto(self.base + path)
        assert answer is not None
        assert answer.status == 200, path

    async def width(self) -> int:
        """How wide the page is, in CSS pixels."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth"))

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def watch(self, request: Request) -> None:
        if urlsplit(request.url).scheme != "data" and not request.url.startswith(f"{self.base}/"):
            self.foreign.append(request.url)


@asynccontextmanager
async def visit(
    browser: Browser, server: BaseTestServer, *, width: int = 1280, scheme: Scheme = "light", **more: Any
) -> AsyncIterator[Visit]:
    """A fresh browser profile. At its end: nothing was complained about, no request left the server."""
    context = await browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
    page = await context.new_page()
    found = Visit(page, str(server.make_url("/")).rstrip("/"))
    context.on("request", found.watch)
    context.on("console", found.hear)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        yield found
    finally:
        await context.close()
    assert found.complaints == [], found.complaints
    assert found.foreign == [], found.foreign


async def faults(page: Page) -> list[str]:
    """What axe finds serious or critical, element by element; frames are asked for themselves."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run(document, {iframes: false, resultTypes: ['violations']})")
    assert found["passes"]
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]
