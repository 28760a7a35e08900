"""A real browser: where it is, how it is started, and what it must not do."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from playwright.async_api import Browser, async_playwright

Scheme = Literal["light", "dark"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "There is no Chromium: install one (Debian: apt-get install chromium), or name it in CHROMIUM"
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


def find() -> str | None:
    """The path of a Chromium: that of ``CHROMIUM``, else the first on the PATH; None: there is none."""
    wanted = (os.environ["CHROMIUM"],) if os.environ.get("CHROMIUM") else NAMES
    return next(filter(None, map(shutil.which, wanted)), None)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser of its own, that reaches this machine only. Raises RuntimeError where there is none."""
    path = find()
    if path is None:
        raise RuntimeError(MISSING)
    async with async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield started
        finally:
            await started.close()
