"""The page of the contract in a real browser."""

import pytest
from aiohttp.test_utils import BaseTestServer
from playwright.async_api import Browser, Page, expect

from tests.browser.given import Visit, faults, visit
from tests.browser.test_console import sign_in
from tests.chromium import Scheme
from tests.web.contract import contract

pytestmark = pytest.mark.long(only=True)

_STATUS = "/api/admin/jobs/status"
_LONG = 60_000
"""Milliseconds: the whole contract is drawn by a script."""

_BEYOND_REACH = "scrollable-region-focusable (serious): <pre "
"""RapiDoc's box of an answer scrolls without the keyboard; the way round is its copy button."""


async def _opened(seen: Visit) -> Page:
    await seen.open("/api/docs")
    await expect(seen.page.get_by_text(_STATUS, exact=True)).to_be_visible(timeout=_LONG)
    return seen.page


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_every_operation_is_listed_and_the_page_fits_and_keeps_to_itself(
    browser: Browser, server: BaseTestServer, width: int, scheme: Scheme
) -> None:
    async with visit(browser, server, width=width, scheme=scheme) as seen:
        page = await _opened(seen)
        listed = await page.locator("[part='section-operation-summary'], .endpoint-head").count()
        assert listed == sum(
            method in {"get", "post", "delete"} for item in contract()["paths"].values() for method in item
        )
        assert await faults(page) == []
        assert await seen.width() == width


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_a_route_is_tried_with_a_token(
    browser: Browser, server: BaseTestServer, width: int, scheme: Scheme
) -> None:
    async with visit(browser, server, width=width, scheme=scheme) as seen:
        page = await _opened(seen)
        await page.get_by_placeholder("api-token").fill("the-viewer")
        await page.get_by_role("button", name="Set").click()
        await page.get_by_text(_STATUS, exact=True).click()
        async with page.expect_response(f"**{_STATUS}") as told:
            await page.get_by_role("button", name="Try").click()
        answer = await told.value
        assert answer.status == 200
        await expect(page.get_by_text("isInitialized").first).to_be_visible()
        assert [one for one in await faults(page) if not one.startswith(_BEYOND_REACH)] == []
        assert await seen.width() == width


async def test_the_console_leads_there(browser: Browser, server: BaseTestServer) -> None:
    async with visit(browser, server) as seen:
        await sign_in(seen)
        await seen.page.get_by_role("contentinfo").get_by_role("link", name="API").click()
        await expect(seen.page).to_have_url(f"{seen.base}/api/docs")
        await expect(seen.page.get_by_text(_STATUS, exact=True)).to_be_visible(timeout=_LONG)
