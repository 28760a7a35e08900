"""Operators at work in a real browser: looking, running, watching, explaining, pausing."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from playwright.async_api import Browser, expect

from tests.admin.consoles import Console, console, people
from tests.browser.given import Visit, faults, visit
from tests.chromium import Scheme
from tests.given import World


@pytest.fixture
async def given(pool: asyncpg.Pool) -> AsyncIterator[Console]:
    """Ann's mail of today is planned, and Bob's slot is still to come."""
    world = World(pool)
    await people(world)
    async with console(world) as opened:
        await opened.ledger.beat_replica("1.2.3", {"loopLagMs": {"p99": 12.3}, "rssBytes": 91_000_000})
        yield opened


async def sign_in(seen: Visit, to: str = "/console", token: str = "the-admin") -> None:
    await seen.open(to)
    await seen.page.get_by_label("Token").fill(token)
    await seen.page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light"), (1280, "dark")])
async def test_every_page_fits_reads_and_keeps_to_itself(
    browser: Browser, given: Console, width: int, scheme: Scheme
) -> None:
    await given.manager.pause("reminder", "breakReminders", "Jo (admin)", "Too many")
    await given.manager.run_job("reminder", "goalDeadlines", user_id="ann")
    waiting = await given.manager.run_job("reminder", "dailyCheck", wait=False)
    pool = given.world.pool
    await pool.execute(
        "UPDATE service.job_run SET error = 'Traceback: no', state = 'failed' WHERE job LIKE '%Deadlines'"
    )
    await pool.execute("INSERT INTO service.alert (name, detail) VALUES ('slow', 'The API is slow.')")
    mail = await pool.fetchval("SELECT id FROM service.delivery WHERE channel = 'email'")
    note = await pool.fetchval("SELECT id FROM service.delivery WHERE channel = 'in_app'")
    done = await pool.fetchval("SELECT run_id FROM service.delivery WHERE id = $1", mail)
    async with visit(browser, given.client.server, width=width, scheme=scheme) as seen:
        await sign_in(seen)
        await expect(seen.page.get_by_role("heading", level=1)).to_have_text("2 things to look at")
        for path in (
            "/console",
            "/console/jobs",
            "/console/jobs/reminder/goalDeadlines",
            "/console/jobs/reminder/breakReminders",
            "/console/jobs/analytics/dataCleanup",
            f"/console/runs/{done}",
            f"/console/runs/{waiting.run_id}",
            "/console/messages",
            "/console/messages?state=bounced",
            f"/console/messages/{mail}",
            f"/console/messages/{mail}?part=source",
            f"/console/messages/{note}",
            "/console/people?person=b",
            "/console/people/ann?job=goalDeadlines",
        ):
            if path != "/console/people?person=b":
                await seen.open(path)
            else:
                await seen.page.goto(seen.base + path)
            assert await seen.width() == width, path
            assert await faults(seen.page) == [], path


async def test_a_job_is_run_after_a_dry_run_and_watched_until_it_ends(
    browser: Browser, given: Console
) -> None:
    async with visit(browser, given.client.server) as seen:
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


async def test_a_person_is_found_and_explained_by_keyboard(browser: Browser, given: Console) -> None:
    async with visit(browser, given.client.server) as seen:
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


async def test_a_job_is_paused_and_resumed(browser: Browser, given: Console) -> None:
    async with visit(browser, given.client.server) as seen:
        await sign_in(seen, "/console/jobs/reminder/dailyCheck")
        page = seen.page
        await page.get_by_label("Who").fill("Jo")
        await page.get_by_label("Why").fill("Holiday")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status")).to_contain_text("Paused by Jo (admin)")
        await expect(page.get_by_role("status")).to_contain_text("Holiday")
        assert await faults(page) == []
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_count(0)
    assert [act for _, act, _ in await given.audit()] == ["pause", "resume"]


async def test_a_message_that_waits_is_taken_back(browser: Browser, given: Console) -> None:
    await given.manager.run_job("reminder", "goalDeadlines", user_id="ann")
    mail = await given.world.pool.fetchval("SELECT id FROM service.delivery WHERE channel = 'email'")
    async with visit(browser, given.client.server) as seen:
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
