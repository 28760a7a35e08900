"""Operators at work in a real browser: looking, running, watching, explaining, pausing."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from playwright.async_api import Browser, expect

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.engine.run import RunRequest
from tests import worked
from tests.browser.given import Visit, faults, visit
from tests.given import World, goal, user
from tests.web.console.consoles import Console, console, people

pytestmark = pytest.mark.long(only=True)


@pytest.fixture
async def given(pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[Console]:
    """Ann's mail of today is planned, and Bob's slot is still to come."""
    world, no_dashboard = World(pool), None
    await people(world)
    keeper = PersonalData(pool, Archive(pool, tmp_path, cast("Any", no_dashboard)))
    async with console(world, people=keeper) as opened:
        await opened.ledger.beat_replica("1.2.3", {"loopLagMs": {"p99": 12.3}, "rssBytes": 91_000_000})
        yield opened


_MORE = (
    "/console/messages?state=bounced",
    "/console/messages/{mail}?part=source",
    "/console/jobs/analytics/dataCleanup",
    "/console/acts",
    "/console/people?person=nobody",
    "/console/people?erased=done",
)


async def sign_in(seen: Visit, to: str = "/console", token: str = "the-admin") -> None:
    await seen.open(to)
    await seen.page.get_by_label("Token").fill(token)
    await seen.page.get_by_role("button", name="Sign in").click()


@pytest.fixture(params=[(1280, "light"), (360, "dark")], ids=["wide-light", "narrow-dark"])
def look(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How the browser is set up: every way is gone in both."""
    width, scheme = request.param
    return {"width": width, "scheme": scheme}


async def test_every_page_fits_reads_and_keeps_to_itself(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    more = [(user(f"u{n}"), goal(f"m{n}", f"u{n}", due="2026-03-11")) for n in range(14)]
    await given.world.live(*(one for pair in more for one in pair))
    ids = asdict(await worked.week(given))
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen)
        await expect(seen.page.get_by_role("heading", level=1)).to_have_text("4 things to look at")
        for path in [*worked.PAGES.values(), *_MORE]:
            await seen.open(path.format(**ids))
            for details in await seen.page.locator("details > summary").all():
                if not await details.evaluate("one => one.parentElement.open"):
                    await details.click()
            assert await seen.width() == look["width"], path
            assert await faults(seen.page) == [], path


async def test_a_job_is_run_after_a_dry_run_and_watched_until_it_ends(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen)
        page = seen.page
        await expect(page.get_by_role("heading", level=1)).to_have_text("All is well")
        await page.get_by_role("link", name="goalDeadlines", exact=True).click()
        await page.get_by_role("button", name="Dry run").click()
        await expect(page.get_by_role("row", name="Mails to be sent")).to_contain_text("2")
        assert await faults(page) == []
        await page.get_by_role("button", name="Run it for real").click()

        await expect(page.get_by_role("status")).to_contain_text("pending")
        await expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        assert await given.runner.run_one()
        # The page finds out by itself.
        await expect(page.get_by_role("status")).to_contain_text("succeeded", timeout=60_000)
        await expect(page.get_by_role("row", name="Mails planned")).to_contain_text("2")
        assert await faults(page) == []

        await page.get_by_role("link", name="planned 2").click()
        hers = page.get_by_role("row").filter(has=page.get_by_role("link", name="Ann", exact=True))
        await hers.get_by_role("link").first.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Due tomorrow: Read ten books")
        frame = page.frame_locator(".stage iframe")
        await expect(frame.get_by_text("Read ten books")).to_be_visible()
        await page.get_by_role("link", name="Explain it").click()
        await expect(page.get_by_role("status")).to_contain_text("The mail is planned")
        await expect(page.get_by_role("heading", name="goalDeadlines on 2026-03-10")).to_be_visible()
    assert [act for _, act, _ in await given.audit()] == ["dry-run", "run"]


async def test_a_person_is_found_and_explained_by_keyboard(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, "/console/people", "the-viewer")
        page = seen.page
        await page.get_by_label("Person").press_sequentially("bob@example.org")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Bob")
        await page.get_by_label("Job").select_option("Deadline reminders")
        await page.get_by_label("Their date").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("It would go out on Tue 10 Mar at 09:00")
        assert await faults(page) == []


async def test_a_job_is_paused_and_resumed(browser: Browser, given: Console, look: dict[str, Any]) -> None:
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, "/console/jobs/reminder/dailyCheck")
        page = seen.page
        await page.locator("summary", has_text="Pause").click()
        await page.get_by_label("Who").fill("Jo")
        await page.get_by_label("Why").fill("Holiday")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status")).to_contain_text("Paused by Jo (admin)")
        await expect(page.get_by_role("status")).to_contain_text("Holiday")
        assert await faults(page) == []
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("summary", has_text="Pause")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_count(0)
    assert [act for _, act, _ in await given.audit()] == ["pause", "resume"]


async def test_a_message_that_waits_is_taken_back(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    await given.manager.run_job("reminder", "goalDeadlines", RunRequest(user_id="ann"))
    mail = await given.world.pool.fetchval(
        "SELECT id FROM service.delivery_with_state WHERE channel = 'email'"
    )
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, f"/console/messages/{mail}")
        await seen.page.get_by_role("button", name="Cancel").click()
        await expect(seen.page.get_by_role("button", name="Resend")).to_be_visible()
    assert (await given.world.mails())["ann"] == ("cancelled", None)


async def test_the_overview_looks_again_and_the_focus_stays(browser: Browser, given: Console) -> None:
    async with visit(browser, given.client.server) as seen:
        await sign_in(seen)
        page = seen.page
        await expect(page).to_have_title("All is well · Dashboard jobs")
        await page.get_by_role("link", name="goalDeadlines", exact=True).focus()
        await given.manager.pause("reminder", "goalDeadlines", "Jo (admin)", "Holiday")
        await given.world.pool.execute("INSERT INTO service.alert (name, detail) VALUES ('slow', 'It is.')")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.get_by_role("heading", level=1)).to_have_text("1 thing to look at")
        await expect(page).to_have_title("1 thing to look at · Dashboard jobs")
        await expect(page.locator(".card").filter(has_text="goalDeadlines")).to_contain_text("paused by Jo")
        await expect(page.locator("#job-goalDeadlines")).to_be_focused()
        assert await faults(page) == []


async def test_a_page_says_so_when_it_can_no_longer_look(browser: Browser, given: Console) -> None:
    run = await given.manager.run_job("reminder", "goalDeadlines", RunRequest(wait=False))
    async with visit(browser, given.client.server) as seen:
        page, again = seen.page, "document.dispatchEvent(new Event('visibilitychange'))"
        await sign_in(seen)
        await expect(page.get_by_role("heading", level=1)).to_have_text("All is well")
        await page.route("**/console", lambda route: route.abort())
        await page.evaluate(again)
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached now")
        await page.unroute("**/console")
        await page.evaluate(again)
        await expect(page.get_by_role("alert")).to_be_hidden()

        await page.route("**/events", lambda route: route.fulfill(status=503))
        await seen.open(f"/console/runs/{run.run_id}")
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached now")
        await page.unroute("**/events")
        await expect(page.get_by_role("alert")).to_be_hidden(timeout=60_000)
        assert await given.runner.run_one()
        await expect(page.get_by_role("status")).to_contain_text("succeeded", timeout=60_000)
        seen.complaints.clear()  # the browser's own words about what it could not load


async def test_without_scripts_everything_works(browser: Browser, given: Console) -> None:
    async with visit(browser, given.client.server, java_script_enabled=False) as seen:
        await sign_in(seen)
        page = seen.page
        await expect(page.get_by_role("heading", level=1)).to_have_text("All is well")
        await page.get_by_role("link", name="goalDeadlines", exact=True).click()
        await page.get_by_role("button", name="Dry run").click()
        await page.get_by_role("button", name="Run it for real").click()
        await expect(page.get_by_role("status")).to_contain_text("pending")
        assert await given.runner.run_one()
        await expect(page.get_by_role("status")).to_contain_text("succeeded", timeout=60_000)


async def test_a_run_is_planned_and_taken_back(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, "/console/jobs/analytics/dailyAnalytics")
        page = seen.page
        await page.locator("summary", has_text="Once, later").press("Enter")
        await page.get_by_label("Or at this moment").fill("2026-03-11T06:30")
        await page.get_by_role("button", name="Plan a run").click()
        await expect(page.locator(".plans")).to_contain_text("Wed 11 Mar 07:30")
        assert await seen.width() == look["width"]
        assert await faults(page) == []
        await page.get_by_role("button", name="Take back").click()
        await expect(page.locator(".plans")).to_have_count(0)
    assert [act for _, act, _ in await given.audit()] == ["schedule", "unschedule"]


async def test_a_range_is_shown_and_derived_again(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    await given.world.pool.execute(
        "INSERT INTO service.timer_sessions"
        " (id, user_id, kind, focus, status, started_at, ended_at, focus_seconds)"
        " VALUES ('s', 'ann', 'focus', true, 'completed', '2026-03-01T10:00Z', '2026-03-01T10:25Z', 1500)"
    )
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, "/console/jobs/analytics/dailyAnalytics")
        page = seen.page
        await page.locator("summary", has_text="Back-fill").click()
        await page.get_by_label("First date").fill("2026-03-01")
        await page.get_by_label("Last date").fill("2026-03-05")
        await page.get_by_role("button", name="Show the periods").click()
        await expect(page.get_by_role("status")).to_contain_text("2026-03-01, 2026-03-02")
        await expect(page.get_by_label("Last date")).to_have_value("2026-03-05")
        assert await seen.width() == look["width"]
        assert await faults(page) == []
        await page.get_by_role("button", name="Derive 5 periods").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("of dailyAnalytics"))
        assert await given.runner.run_one()
        await expect(page.get_by_role("status")).to_contain_text("succeeded", timeout=60_000)
    days = await given.world.pool.fetchval("SELECT count(*) FROM service.rollup WHERE statistic = 'daily'")
    assert days >= 5


async def test_failed_mails_are_tried_again(browser: Browser, given: Console, look: dict[str, Any]) -> None:
    await given.manager.run_job("reminder", "goalDeadlines")
    await given.world.pool.execute(
        "UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'failed', reason = 'smtp_451'"
    )
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, "/console/messages?state=failed")
        page = seen.page
        await expect(page.get_by_text("not all failed mails at once")).to_be_visible()
        await page.get_by_label("Job").select_option("goalDeadlines")
        await page.get_by_role("button", name="Find").click()
        await page.get_by_role("button", name="Count them").click()
        await expect(page.get_by_role("row", name="Still useful")).to_contain_text("2")
        assert await seen.width() == look["width"]
        assert await faults(page) == []
        await page.get_by_role("button", name="Plan 2 mails again").click()
        await expect(page.get_by_role("status")).to_contain_text("2 mails planned again")
    assert await given.world.mails() == {"ann": ("planned", None), "bob": ("planned", None)}


async def test_somebody_takes_their_data_along_and_is_erased(
    browser: Browser, given: Console, look: dict[str, Any]
) -> None:
    async with visit(browser, given.client.server, **look) as seen:
        await sign_in(seen, "/console/people/ann")
        page = seen.page
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Everything that is stored").click()
        file = await (await download.value).path()
        assert json.loads(file.read_text("utf-8"))["users"][0]["id"] == "ann"

        await page.locator("summary", has_text="Erase for good").press("Enter")
        await page.get_by_label("Type ann to confirm").fill("ann")
        assert await seen.width() == look["width"]
        assert await faults(page) == []
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("Erased for good")
    assert [act for _, act, _ in await given.audit()] == ["export", "erase"]
    assert await given.world.pool.fetchval("SELECT count(*) FROM service.users WHERE id = 'ann'") == 0
