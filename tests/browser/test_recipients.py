"""The pages behind the links in mails, in a real browser."""

import asyncpg
import pytest
from aiohttp.test_utils import BaseTestServer
from playwright.async_api import Browser, expect

from tests.browser.given import faults, visit
from tests.chromium import Scheme

pytestmark = pytest.mark.long(only=True)


@pytest.mark.parametrize(
    ("width", "scheme", "language"), [(320, "light", "de"), (360, "dark", "en"), (1280, "dark", "de")]
)
async def test_the_pages_fit_read_and_keep_to_themselves(
    browser: Browser, server: BaseTestServer, width: int, scheme: Scheme, language: str
) -> None:
    async with visit(browser, server, width=width, scheme=scheme, locale=language) as seen:
        for path in ("/u/nobody", "/u/nobody?all=1", "/preferences/nobody"):
            await seen.open(path)
            assert await seen.page.locator("html").get_attribute("lang") == language
            assert await seen.width() == width, path
            assert await faults(seen.page) == [], path


async def test_a_recipient_chooses_and_it_is_kept(
    browser: Browser, server: BaseTestServer, pool: asyncpg.Pool
) -> None:
    async with visit(browser, server) as seen:
        await seen.open("/preferences/a-token")
        page, weekly = seen.page, seen.page.get_by_role("group", name="Weekly review")
        await weekly.get_by_label("Mail").uncheck()
        await weekly.get_by_label("at").select_option("20:00")
        await page.get_by_label("Time zone").fill("Europe/Lisbon")
        await page.get_by_role("button", name="Save").click()

        await expect(page.get_by_role("status")).to_contain_text("Saved.")
        assert await faults(page) == []
        await seen.open("/preferences/a-token")
        await expect(weekly.get_by_label("Mail")).not_to_be_checked()
        await expect(weekly.get_by_label("at")).to_have_value("20")
        await expect(page.get_by_label("Time zone")).to_have_value("Europe/Lisbon")
    assert await pool.fetchval("SELECT count(*) FROM service.audit WHERE act = 'preferences'") == 1


async def test_a_mistake_is_named_and_nothing_is_kept(browser: Browser, server: BaseTestServer) -> None:
    async with visit(browser, server) as seen:
        await seen.open("/preferences/a-token")
        await seen.page.get_by_label("Time zone").fill("Mars/Olympus")
        await seen.page.get_by_role("button", name="Save").click()

        await expect(seen.page.get_by_role("alert")).to_contain_text("There is no time zone of this name")
        await expect(seen.page.get_by_label("Time zone")).to_have_value("Mars/Olympus")
        assert await faults(seen.page) == []


async def test_a_mail_is_stopped_with_one_press(
    browser: Browser, server: BaseTestServer, pool: asyncpg.Pool
) -> None:
    async with visit(browser, server) as seen:
        await seen.open("/u/a-token")
        await seen.page.get_by_role("button", name="Unsubscribe", exact=True).click()
        heading = seen.page.get_by_role("heading", level=1)
        await expect(heading).to_have_text("You are unsubscribed from these mails")
        assert await faults(seen.page) == []
    assert await pool.fetchval("SELECT enabled FROM service.preference_override") is False
