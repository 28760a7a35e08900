"""The figures in a real browser: charts that fit, an anomaly that is seen, tables and files by keyboard."""

import re
from datetime import timedelta

import asyncpg
import pytest
from playwright.async_api import Browser, expect

from service.settings import Settings
from service.web.console.chart_svg import day_name
from tests import lived
from tests.browser.given import faults, visit
from tests.browser.test_console import sign_in
from tests.chromium import Scheme
from tests.web.given import admin

pytestmark = pytest.mark.long(only=True)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_both_pages_fit_read_and_keep_to_themselves(
    browser: Browser, year: asyncpg.Pool, width: int, scheme: Scheme
) -> None:
    async with (
        admin(year, settings=Settings().described()) as given,
        visit(browser, given.client.server, width=width, scheme=scheme) as seen,
    ):
        await sign_in(seen, "the-viewer", "/console/system")
        for path in (
            "/console/analytics",
            "/console/analytics?range=1y&mode=unbounded",
            "/console/analytics?from=2026-03-01&to=2026-03-21&kind=monthly",
            "/console/analytics?from=2030-01-01",
            "/console/system",
        ):
            await seen.open(path)
            assert await seen.width() == width, path
            for details in await seen.page.locator("details summary").all():
                await details.click()
            assert await seen.width() == width, path
            assert await faults(seen.page) == [], path


async def test_the_collapse_is_seen_on_the_chart_and_in_words(browser: Browser, year: asyncpg.Pool) -> None:
    """As the server draws it, for whoever runs no scripts."""
    async with (
        admin(year) as given,
        visit(browser, given.client.server, java_script_enabled=False) as seen,
    ):
        await sign_in(seen, "the-viewer", "/console/analytics?range=4w")
        panel = seen.page.locator("section[aria-labelledby=sessions]")
        mark = panel.locator("circle.mark")
        await expect(mark).to_be_visible()
        await expect(mark.locator("title")).to_contain_text(f"{lived.COLLAPSE.isoformat()}: ")
        await expect(panel.locator(".unusual li")).to_contain_text("lower than every one")
        name = await panel.locator("svg.chart").get_attribute("aria-label")
        assert name is not None
        assert f"Unusual: Sessions on Wednesday, {lived.COLLAPSE.isoformat()}" in name

        # The mark stands where the line has its lowest day: over the column of that day, near the axis.
        place, chart = await mark.bounding_box(), await panel.locator("svg.chart").bounding_box()
        column = await panel.locator("rect.hit", has_text=day_name(lived.COLLAPSE)).bounding_box()
        assert place
        assert chart
        assert column
        middle = place["x"] + place["width"] / 2
        assert column["x"] <= middle <= column["x"] + column["width"]
        assert place["y"] > chart["y"] + chart["height"] / 2


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_the_pointer_finds_the_values_of_a_day(
    browser: Browser, year: asyncpg.Pool, width: int, scheme: Scheme
) -> None:
    async with (
        admin(year) as given,
        visit(browser, given.client.server, width=width, scheme=scheme) as seen,
    ):
        await sign_in(seen, "the-viewer", "/console/analytics?range=4w")
        panel = seen.page.locator("section[aria-labelledby=sessions]")
        chart = panel.locator("svg.chart")
        await expect(chart).to_be_visible()
        await expect(chart).to_have_attribute("aria-label", re.compile("Unusual: Sessions on Wednesday"))

        # A column for each day, named by its date: the newest is provisional, on one nearly nobody came.
        days = panel.locator("rect.hit title")
        await expect(days).to_have_count(28)
        newest = re.escape(day_name(lived.TODAY - timedelta(days=1)))
        await expect(days.last).to_have_text(re.compile(rf"{newest}: Sessions \d+,.* provisional"))
        collapse = re.compile(rf"{re.escape(day_name(lived.COLLAPSE))}: Sessions \d+, expected \d+ to \d+")
        await expect(panel.locator("rect.hit", has_text=collapse)).to_have_count(1)

        # What lies under the pointer: the first day at the left edge, and the mark above its column.
        place = await chart.bounding_box()
        assert place
        await chart.hover(position={"x": 3, "y": place["height"] / 2})
        await expect(panel.locator("rect.hit:hover title")).to_have_text(
            re.compile(re.escape(day_name(lived.TODAY - timedelta(days=28))))
        )
        await panel.locator("circle.mark").hover()
        await expect(panel.locator("circle.mark:hover title")).to_contain_text("lower than every one")
        assert await seen.width() == width
        assert await faults(seen.page) == []


async def test_ranges_tables_and_files_are_reached_without_a_mouse(
    browser: Browser, year: asyncpg.Pool
) -> None:
    async with admin(year) as given, visit(browser, given.client.server) as seen:
        page = seen.page
        await sign_in(seen, "the-viewer", "/console/analytics")
        await page.get_by_label("Range").get_by_role("link", name="4 weeks").press("Enter")
        await expect(page).to_have_url(f"{seen.base}/console/analytics?range=4w")
        await expect(page.locator("main .head p").first).to_contain_text("22 Feb 2026 to 21 Mar 2026")
        await page.get_by_label("First date").fill("2026-03-02")
        await page.get_by_label("Last date").fill("2026-03-08")
        await page.get_by_role("button", name="Show").press("Enter")
        await expect(page.locator("main .head p").first).to_contain_text("2 Mar 2026 to 8 Mar 2026")

        panel = page.locator("section[aria-labelledby=sessions]")
        await panel.locator("summary", has_text="The figures").press("Enter")
        await expect(panel.get_by_role("row")).to_have_count(8)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="daily as CSV").press("Enter")
        assert (await download.value).suggested_filename == "daily.csv"
