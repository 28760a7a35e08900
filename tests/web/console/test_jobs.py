"""The page of a job: its two weeks, running it after a dry run, pausing and resuming it."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.web.console.jobs.calendar import DUE, clock_of, days_around, next_slot, upcoming, warnings
from tests.acme import JOBS
from tests.given import World
from tests.web.console.consoles import Console, console, people

JOB = "/console/jobs/reminder/goalDeadlines"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


async def test_every_job_is_listed_and_introduced(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        page = await given.read("/console/jobs")
        for job in world.jobs.values():
            assert f'href="/console/jobs/{job.type}/{job.name}"' in page
            await given.read(f"/console/jobs/{job.type}/{job.name}")
        assert "At 09:00 every day, by each user&#39;s clock" in page
        assert "At 01:00 every day, in Europe/Berlin" in page
        assert "There is no job of this name" in await given.read("/console/jobs/reminder/nothing", 404)
        assert "There is no job of this name" in await given.read("/console/jobs/x/goalDeadlines", 404)


async def test_slots_that_were_skipped_or_missed_say_why(world: World) -> None:
    await people(world, "2026-03-08T00:00:00Z")
    async with console(world) as given:
        await given.sign_in()
        await given.trigger.sweep_once()
        await given.manager.pause("reminder", "goalDeadlines", "Jo (admin)", "holiday")
        await world.at("2026-03-09T09:00:00Z")
        await given.trigger.sweep_once()
        await given.manager.resume("reminder", "goalDeadlines", "Jo")
        await world.at("2026-03-11T12:00:00Z")
        await given.trigger.sweep_once()
        page = await given.read(JOB)

    assert "skipped</span> <a" in page
    assert ": paused" in page
    assert "missed</span> <a" in page
    assert ": too late" in page


async def test_a_dry_run_shows_what_would_happen_and_writes_nothing(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        _, page = await given.act(f"{JOB}/dry-run", 200, JOB)

        assert "nothing was written" in page
        assert '<th scope="row">Mails to be sent</th><td class="n">2</td>' in page
        assert '<a href="/console/people/bob">bob</a>' in page
        assert await world.pool.fetchval("SELECT count(*) FROM service.job_run") == 0
        assert await world.mails() == {}
        [(who, act, what)] = await given.audit()
        assert (who, act, what["job"]) == ("admin", "dry-run", "reminder.goalDeadlines")


async def test_a_run_begins_where_the_form_is_confirmed(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        answer, _ = await given.act(f"{JOB}/run", 303, JOB, user="ann")
        run = await world.pool.fetchrow("SELECT * FROM service.job_run")
        assert run
        assert answer.headers["Location"] == f"/console/runs/{run['id']}"
        assert (run["state"], run["trigger"], run["options"]["userId"]) == ("pending", "manual", "ann")

        assert await given.runner.run_one()
        assert await world.mails() == {"ann": ("planned", None)}
        assert [(act, what["run"]) for _, act, what in await given.audit()] == [("run", run["id"])]


@pytest.mark.parametrize(
    ("act", "form", "said"),
    [
        ("dry-run", {"at": "yesterday"}, "The moment is not a time; use one like 2026-03-10T09:00"),
        ("run", {"at": "2026-03-11T09:00"}, "asOf lies in the future"),
        ("run", {"force": "on"}, "force needs userId"),
        ("pause", {"who": "Jo"}, "Say who pauses it and why"),
        ("pause", {"who": "Jo", "reason": "r", "until": "2026-03-09T00:00"}, "Until lies in the past"),
        ("pause", {"who": "Jo", "reason": "r", "until": "soon"}, "Until is not a time"),
    ],
)
async def test_what_cannot_be_meant_is_said_and_changes_nothing(
    world: World, act: str, form: dict[str, str], said: str
) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        _, page = await given.act(f"{JOB}/{act}", 400, JOB, **form)
        assert said in page
        assert await given.audit() == []
        assert await world.pool.fetchval("SELECT count(*) FROM service.job_run") == 0


async def test_a_pause_says_who_why_and_until_and_ends(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        form = {"who": "Jo", "reason": "Wrong texts", "until": "2026-03-12T09:00"}
        await given.act(f"{JOB}/pause", 303, JOB, **form)
        page = await given.read(JOB)
        assert "<b>Paused</b> by Jo (admin) since" in page
        assert "Thu 12 Mar 10:00</time>: Wrong texts" in page
        assert 'class="slot paused"' in page
        assert f'class="slot {DUE}"' in page  # from the 12th on

        await given.act(f"{JOB}/resume", 303, JOB)
        assert "<b>Paused</b>" not in await given.read(JOB)
        assert [(who, act) for who, act, _ in await given.audit()] == [
            ("Jo (admin)", "pause"),
            ("admin", "resume"),
        ]


async def refused(given: Console, path: str) -> None:
    """Neither a viewer nor a foreign or old form acts."""
    await given.act(path, 403)
    for headers in ({}, {"Origin": "https://evil.example"}):
        assert (await given.client.post(path, headers=headers)).status == 403


@pytest.mark.parametrize("act", ["dry-run", "run", "pause", "resume"])
async def test_viewers_look_and_do_not_act(world: World, act: str) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        page = await given.read(JOB)
        assert "Only admins run jobs." in page
        assert f'action="{JOB}/' not in page
        await refused(given, f"{JOB}/{act}")
        assert await given.audit() == []
        await given.sign_in()
        answer = await given.client.post(f"{JOB}/{act}", headers=given.origin, data={"form_token": "old"})
        assert answer.status == 403


async def test_clock_changes_of_the_coming_month_are_told(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        await world.pool.execute(
            "UPDATE service.job_def SET cron = '30 2 * * *' WHERE job = $1", "reminder.goalDeadlines"
        )
        page = await given.read(JOB)
    assert "<b>Sun 29 Mar 02:30</b> does not exist in Europe/Berlin: the slot comes later" in page


# ── Pure ────────────────────────────────────────────────────────────────────────────────────────────────────

_NOW = datetime(2026, 3, 10, 8, tzinfo=UTC)
_PLACES: list[tuple[str, dict[str, int]]] = [
    ("Europe/Berlin", {}),
    ("Asia/Tokyo", {}),
    ("Europe/Berlin", {"deadlines": 7}),
]


def test_the_next_slot_is_that_of_whoever_comes_first() -> None:
    users = clock_of("0 9 * * *", "user", JOBS["reminder.goalDeadlines"], _PLACES, BERLIN)
    assert users.groups == ("Asia/Tokyo", "Europe/Berlin", "Europe/Berlin@7")
    found = next_slot(users, _NOW)
    assert found
    assert (found.zone, found.local, found.at.hour) == ("Asia/Tokyo", datetime(2026, 3, 11, 9), 0)
    assert next_slot(clock_of("0 9 * * *", "user", None, [], BERLIN), _NOW) is None
    service = next_slot(clock_of("0 9 * * *", "service", None, _PLACES, BERLIN), _NOW)
    assert service
    assert service.at == datetime(2026, 3, 11, 8, tzinfo=UTC)


def test_slots_to_come_are_shared_by_groups() -> None:
    twins: list[tuple[str, dict[str, int]]] = [("Europe/Berlin", {}), ("Europe/Paris", {})]
    users = clock_of("0 9 * * *", "user", JOBS["reminder.goalDeadlines"], twins, BERLIN)
    assert upcoming(users, _NOW, _NOW.replace(day=12)) == [_NOW.replace(day=11), _NOW.replace(day=12)]


def test_warnings_gather_the_groups_that_share_a_change() -> None:
    twins: list[tuple[str, dict[str, int]]] = [
        ("Europe/Berlin", {}),
        ("Europe/Paris", {}),
        ("Asia/Tokyo", {}),
    ]
    users = clock_of("30 2 * * *", "user", JOBS["reminder.goalDeadlines"], twins, BERLIN)
    [one] = warnings(users, _NOW, _NOW.replace(month=4))
    assert (str(one.change), one.groups) == ("gap", ("Europe/Berlin", "Europe/Paris"))


def test_each_hour_shows_what_asks_for_attention_most() -> None:
    slots = [(_NOW, "succeeded"), (_NOW, "missed"), (_NOW.replace(day=11), DUE)]
    days = days_around(slots, _NOW, BERLIN, 1)
    assert [day.day for day in days] == [date(2026, 3, 9), date(2026, 3, 10), date(2026, 3, 11)]
    [cell] = days[1].cells
    assert (cell.hour, cell.state, cell.description) == (9, "missed", "09:00: 1 missed, 1 succeeded")
    assert (days[0].cells, days[1].now, days[2].now) == ((), 9.0, None)
