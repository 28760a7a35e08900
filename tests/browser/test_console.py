"""Operators in a real browser: signing in, the gallery, a mail in every way to look at it, a test mail."""

from pathlib import Path

import pytest
from aiohttp.test_utils import BaseTestServer
from playwright.async_api import Browser, expect

from tests.browser.given import Visit, faults, visit
from tests.chromium import Scheme
from tests.given import inbox
from tests.messages.mail.reading import parsed
from tests.samples import SAMPLES

pytestmark = pytest.mark.long(only=True)

DARK_CARD, LIGHT_CARD = "rgb(24, 29, 36)", "rgb(255, 255, 255)"


async def sign_in(seen: Visit, token: str = "the-admin", to: str = "/console/mails") -> None:
    await seen.open(to)
    await seen.page.get_by_label("Token").fill(token)
    await seen.page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (360, "dark"), (1280, "light")])
async def test_every_page_fits_reads_and_keeps_to_itself(
    browser: Browser, server: BaseTestServer, width: int, scheme: Scheme
) -> None:
    async with visit(browser, server, width=width, scheme=scheme) as seen:
        await seen.open("/console/mails")
        assert await faults(seen.page) == []
        await sign_in(seen)
        await expect(seen.page.get_by_role("heading", level=1)).to_have_text("Mails")
        for path in (
            "/console/mails?scheme=dark",
            "/console/mails/weekly_review",
            "/console/mails/weekly_review?part=text",
            "/console/mails/goal_deadlines?user=ann&part=source",
        ):
            await seen.open(path)
            assert await seen.width() == width
            assert await faults(seen.page) == [], path


async def test_the_way_in_leads_back_and_the_way_out_closes(browser: Browser, server: BaseTestServer) -> None:
    async with visit(browser, server) as seen:
        await sign_in(seen, "the-viewer", "/console/mails/monthly_report?part=text")
        await expect(seen.page).to_have_url(f"{seen.base}/console/mails/monthly_report?part=text")
        await expect(seen.page.get_by_text("Only admins send test mails.")).to_be_visible()
        [cookie] = await seen.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")

        await seen.page.get_by_role("button", name="Sign out").click()
        await seen.open("/console/mails")
        await expect(seen.page).to_have_url(f"{seen.base}/console/sign-in?next=%2Fconsole%2Fmails")
        assert await seen.page.context.cookies() == []


async def test_the_gallery_leads_to_each_mail(browser: Browser, server: BaseTestServer) -> None:
    async with visit(browser, server) as seen:
        await sign_in(seen)
        for sample in SAMPLES:
            frame = seen.page.frame_locator(
                f'iframe[src*="/{sample.template}/html?variant={sample.variant}"]'
            )
            await expect(frame.locator("h1")).to_have_count(1)
        await seen.page.get_by_role("link", name="Weekly review, quiet").click()
        await expect(seen.page.get_by_role("heading", level=1)).to_have_text("Weekly review")
        await expect(seen.page.get_by_role("link", name="quiet")).to_have_attribute("aria-current", "true")


@pytest.mark.parametrize("own", ["light", "dark"])
async def test_a_mail_is_seen_light_and_dark_narrow_and_wide(
    browser: Browser, server: BaseTestServer, own: Scheme
) -> None:
    async with visit(browser, server, scheme=own) as seen:
        await sign_in(seen, to="/console/mails/monthly_report")
        frame = seen.page.frame_locator(".stage iframe")
        for scheme, card in (("Dark", DARK_CARD), ("Light", LIGHT_CARD)):
            await seen.page.get_by_label("Colours").get_by_role("link", name=scheme).click()
            for name, width in (("Narrow", 320), ("Wide", 800)):
                await seen.page.get_by_label("Width").get_by_role("link", name=name).click()
                await expect(seen.page.locator(f".stage iframe[width='{width}']")).to_be_visible()
                await expect(frame.locator(".card")).to_have_css("background-color", card)
                inside = await frame.locator("html").evaluate("html => [innerWidth, html.scrollWidth]")
                assert inside == [width, width]


async def test_nothing_runs_in_the_frame(browser: Browser, server: BaseTestServer) -> None:
    async with visit(browser, server) as seen:
        await sign_in(seen, to="/console/mails/goal_deadlines")
        answer = await seen.page.goto(f"{seen.base}/console/mails/goal_deadlines/html")
        assert answer is not None
        assert await seen.page.evaluate("origin") == "null"


async def test_a_test_mail_is_sent_by_keyboard_and_arrives(
    browser: Browser, server: BaseTestServer, tmp_path: Path
) -> None:
    async with visit(browser, server) as seen:
        await sign_in(seen, to="/console/mails/goal_deadlines")
        page = seen.page
        await page.get_by_label("User").fill("ann")
        await page.get_by_label("Moment").fill("2026-03-11T08:00")
        await page.keyboard.press("Enter")
        await expect(page.locator(".subject")).to_contain_text("Due today: Read ten books")
        await page.get_by_label("Address").fill("me@example.org")
        await page.keyboard.press("Enter")

        await expect(page.get_by_role("status")).to_contain_text("Sent.")
        [raw] = inbox(tmp_path)
        assert parsed(raw)["Subject"] == "Due today: Read ten books"


async def test_the_keyboard_reaches_the_content_first(browser: Browser, server: BaseTestServer) -> None:
    async with visit(browser, server) as seen:
        await sign_in(seen)
        await expect(seen.page.get_by_role("heading", level=1)).to_have_text("Mails")
        await seen.page.keyboard.press("Tab")
        await expect(seen.page.locator(":focus")).to_have_text("Skip to the content")
        await seen.page.keyboard.press("Enter")
        await expect(seen.page.locator("main")).to_be_focused()
        await seen.page.keyboard.press("Tab")
        await expect(seen.page.locator(":focus")).to_have_text("English")
