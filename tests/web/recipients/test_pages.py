"""The links at the end of every mail."""

import asyncio
import re
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service import zones
from service.engine.schedule import Schedule
from service.engine.trigger import TriggerLoop, slot_groups
from service.jobs import hours_of_kinds
from service.jobs.goal_deadlines import JOB
from service.messages.kind import Channel, MessageKind
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from service.settings import Settings as Configured
from service.setup.timings import timings_of
from service.web.recipients.preference_form import (
    PreferenceForm,
    RecipientSettings,
    read_preferences,
    switch_name,
)
from tests.acme import JOBS, KINDS
from tests.given import GOALS, Scripted, World, goal, user
from tests.kinds import DAILY, DEADLINES, INACTIVE, MONTHLY, WEEKLY
from tests.web.given import admin, delivery
from tests.zone_cases import CASES, Case


async def _off(pool: asyncpg.Pool) -> dict[str, bool]:
    rows = await pool.fetch("SELECT kind, enabled FROM service.preference_override WHERE channel = 'email'")
    return {row["kind"]: row["enabled"] for row in rows}


async def test_opening_the_pages_changes_nothing(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    async with admin(pool) as given:
        for path in ("/u/a-token", "/u/a-token?all=1", "/preferences/a-token"):
            answer = await given.client.get(path)
            assert answer.status == 200
            assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
    assert await _off(pool) == {}


async def test_one_click_stops_this_kind_without_a_session_and_may_be_repeated(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    async with admin(pool) as given:
        for _ in range(2):
            answer = await given.client.post("/u/a-token", data={"List-Unsubscribe": "One-Click"})
            assert answer.status == 200
    assert await _off(pool) == {"deadlines": False}
    assert await pool.fetchval("SELECT count(*) FROM service.audit WHERE act = 'unsubscribe'") == 1


@pytest.mark.parametrize(
    ("language", "word", "account"),
    [
        ("en", "unsubscribe", "Another account with the same address chooses for itself."),
        ("de", "abbestell", "Ein anderes Konto mit derselben Adresse entscheidet für sich."),
    ],
)
async def test_the_pages_say_unsubscribe_and_for_whom(
    pool: asyncpg.Pool, language: str, word: str, account: str
) -> None:
    async with admin(pool) as given:
        for method in ("GET", "POST"):
            headers = {"Accept-Language": language}
            answer = await given.client.request(method, "/u/a-token", headers=headers)
            page = await answer.text()
            assert account in page
            assert word in re.findall(r"<h1>(.*)</h1>", page)[0].lower()


async def test_of_two_accounts_with_one_mailbox_each_unsubscribes_for_itself(world: World) -> None:
    """Bounces and complaints end the mails to an address, and so those of both."""
    await world.at("2026-03-10T08:00:00Z")
    people = [user(name, email="Both@example.org") for name in ("ann", "bob")]
    await world.live(*people, *(goal(f"g{p.id}", p.id, due="2026-03-11") for p in people))
    await (await world.runner()).run_manual(GOALS)
    rows = await world.pool.fetch("SELECT id, user_id, token FROM service.delivery WHERE channel = 'email'")
    mails = {row["user_id"]: row for row in rows}
    async with admin(world.pool) as given:
        await given.client.post(f"/u/{mails['ann']['token']}", data={"List-Unsubscribe": "One-Click"})
    transport = Scripted()
    await world.delivery(transport).run_once()
    assert await world.mails() == {"ann": ("skipped", "pref_category_off"), "bob": ("sent", None)}

    outbox = Outbox(world.pool, "a", timedelta(seconds=60))
    await Suppressions(world.pool, outbox).record_complaint(mails["bob"]["id"], "abuse")
    assert {row["address"] for row in await world.pool.fetch("SELECT address FROM service.suppression")} == {
        "both@example.org"
    }


async def test_stopping_all_beats_an_earlier_wish_for_one_kind(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    await pool.execute(
        "INSERT INTO service.preference_override VALUES ('u1', 'weekly', 'email', true, 'preferences')"
    )
    async with admin(pool) as given:
        await given.client.post("/u/a-token", data={"scope": "all"})
    stopped = await _off(pool)
    assert stopped["weekly"] is False
    assert set(stopped.values()) == {False}
    assert len(stopped) == len(KINDS) + 1


async def test_unknown_tokens_get_the_same_answers(pool: asyncpg.Pool) -> None:
    await delivery(pool, "a-token")
    all_off = {"shown": " ".join(SWITCHES)}
    async with admin(pool) as given:
        for method, path, form in [
            ("GET", "/preferences/{}", None),
            ("GET", "/u/{}", None),
            ("POST", "/u/{}", {"List-Unsubscribe": "One-Click"}),
            ("POST", "/preferences/{}", all_off | {"timezone": "Mars/Olympus"}),
            ("POST", "/preferences/{}", all_off | {"weekly": "on"}),
            (
                "POST",
                "/preferences/{}",
                all_off | {"timezone": "Asia/Tokyo", "pause_days": "3", "hour.daily": "7"},
            ),
        ]:
            known, unknown = [
                await given.client.request(method, path.format(token), data=form)
                for token in ("a-token", "b-token")
            ]
            assert known.status == unknown.status
            assert (await known.text()).replace("a-token", "") == (await unknown.text()).replace(
                "b-token", ""
            )


async def test_only_touched_switches_are_stored(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    form = dict.fromkeys(["deadlines", "daily", "inactive", "monthly"], "on")
    form["shown"] = "deadlines daily weekly inactive monthly breaks"
    async with admin(pool) as given:
        await given.client.post("/preferences/a-token", data=form)
        assert await _off(pool) == {"weekly": False}
        page = await (await given.client.get("/preferences/a-token")).text()
        assert 'name="weekly" value="on" aria-describedby="weekly-hint">' in page
        await given.client.post("/preferences/a-token", data=form | {"weekly": "on"})
    assert await _off(pool) == {"weekly": True}


async def test_hostile_tokens_are_ordinary_unknown_ones(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        for token in ("%00", "%22%3E%3Cscript%3E", "x" * 3000, "%F0%9F%98%80"):
            answer = await given.client.post(f"/u/{token}", data={"List-Unsubscribe": "One-Click"})
            assert answer.status in {200, 400, 404}
            assert "<script" not in await answer.text()


NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HERE = RecipientSettings(dashboard_timezone="Europe/Berlin", now=NOON)


def read(form: dict[str, str], before: RecipientSettings = HERE) -> PreferenceForm:
    return read_preferences(form, before, KINDS.values(), hours_of_kinds(JOBS))


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        ({}, {}),
        ({"timezone": "Europe/Berlin", "language": "", "quiet_start": "", "quiet_end": "08:00"}, {}),
        ({"timezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}),
        ({"language": "de"}, {"locale": "de"}),
        ({"quiet_start": "22:30", "quiet_end": "07:00"}, {"quiet_start": time(22, 30), "quiet_end": time(7)}),
        ({"quiet_start": "none", "quiet_end": "07:00"}, {"quiet_start": time(0), "quiet_end": time(0)}),
        ({"hour.daily": "7", "hour.weekly": ""}, {"hours": {"daily": 7}}),
        ({"hour.breaks": "7"}, {}),
        ({"pause_days": "14"}, {"paused_until": NOON + timedelta(days=14)}),
        ({"pause_days": "0"}, {}),
    ],
)
def test_what_is_chosen_is_stored_and_the_rest_follows_the_dashboard(
    form: dict[str, str], changed: dict[str, Any]
) -> None:
    wishes = read(form)

    assert not wishes.problems
    found = {name: getattr(wishes.settings, name) for name in RecipientSettings.__slots__}
    assert found == {name: getattr(HERE, name) for name in RecipientSettings.__slots__} | changed


def test_a_zone_of_ones_own_is_given_up_by_choosing_the_dashboards() -> None:
    own = RecipientSettings(timezone="Asia/Tokyo", dashboard_timezone="Europe/Berlin", now=NOON)

    assert read({"timezone": "Asia/Tokyo"}, own).settings.timezone == "Asia/Tokyo"
    assert read({"timezone": "Europe/Berlin"}, own).settings.timezone is None
    assert (
        read({"resume": "on"}, RecipientSettings(paused_until=NOON, now=NOON)).settings.paused_until is None
    )


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": "localtime"}, "timezone"),
        ({"timezone": "Europe/Berlin\0"}, "timezone"),
        ({"language": "xx"}, "language"),
        ({"quiet_start": "22:30", "quiet_end": "25:00"}, "quiet"),
        ({"quiet_start": "22:30"}, "quiet"),
        ({"hour.daily": "24"}, "hour"),
        ({"hour.daily": "-1"}, "hour"),
        ({"hour.daily": "21"}, "hour"),
        ({"hour.deadlines": "22"}, "hour"),
        ({"pause_days": "366"}, "pause"),
        ({"pause_days": "-1"}, "pause"),
        ({"pause_days": "9" * 400}, "pause"),
        ({"pause_days": "٣"}, "pause"),
    ],
)
def test_what_cannot_be_meant_is_named_and_changes_nothing(form: dict[str, str], problem: str) -> None:
    wishes = read(form)

    assert wishes.problems == {problem}
    assert wishes.settings == HERE


async def _everything(pool: asyncpg.Pool) -> list[list[asyncpg.Record]]:
    tables = ("preference_override", "recipient_setting", "audit", "delivery", "suppression", "user_zone")
    return [await pool.fetch(f"SELECT * FROM service.{table} ORDER BY 1, 2") for table in tables]


SWITCHES = [switch_name(kind, channel) for kind in KINDS for channel in Channel]
ALL_ON = dict.fromkeys(SWITCHES, "on") | {"shown": " ".join(SWITCHES)}
del ALL_ON["breaks"]


async def test_a_mistake_stores_nothing_and_shows_what_was_typed(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    before = await _everything(pool)
    async with admin(pool) as given:
        answer = await given.client.post("/preferences/a-token", data={"timezone": 'Mars/"Olympus'})
        page = await answer.text()
    assert 'value="Mars/&#34;Olympus"' in page
    assert "There is no time zone of this name" in page
    assert await _everything(pool) == before


async def _mailed(world: World) -> str:
    """Ann got a mail about a goal; the token of its links."""
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    await (await world.runner()).run_manual(JOB.id)
    await world.delivery(Scripted()).run_once()
    return str(
        await world.pool.fetchval("SELECT token FROM service.delivery_with_state WHERE channel = 'email'")
    )


def _offered(page: str, kind: MessageKind) -> tuple[list[str], str]:
    """The hours on the page for a kind, and the one that is chosen; empty: the usual time."""
    found = re.search(rf'<select name="hour.{kind}">(.*?)</select>', page, re.DOTALL)
    assert found
    options = re.findall(r'<option value="(\d*)"( selected)?>', found[1])
    [chosen] = [value for value, selected in options if selected]
    return [value for value, _ in options if value], chosen


async def test_an_hour_at_which_it_would_be_missed_is_neither_offered_nor_stored(world: World) -> None:
    token = await _mailed(world)
    before = await _everything(world.pool)
    async with admin(world.pool) as given:
        page = await (await given.client.get(f"/preferences/{token}")).text()
        for kind, hour in (
            (DEADLINES, 22),
            (DEADLINES, 20),
            (DAILY, 21),
            (INACTIVE, 23),
        ):
            form = ALL_ON | {f"hour.{kind}": str(hour)}
            answer = await (await given.client.post(f"/preferences/{token}", data=form)).text()
            assert "One of the choices cannot be" in answer
            assert str(hour) not in _offered(page, kind)[0]

    assert await _everything(world.pool) == before
    assert _offered(page, DEADLINES) == ([str(hour) for hour in range(20)], "")
    assert "22" in _offered(page, WEEKLY)[0]


async def test_the_hours_on_the_page_are_those_of_the_operators_schedule(world: World) -> None:
    token = await _mailed(world)
    hours = hours_of_kinds(JOBS, {"reminder.monthlyReport": Schedule.parse("0 9 5 * *")})
    async with admin(world.pool, hours=hours) as given:
        page = await (await given.client.get(f"/preferences/{token}")).text()

    assert _offered(page, MONTHLY)[0][-1] == "19"


async def test_an_hour_stored_long_ago_at_which_it_would_be_missed_counts_as_not_chosen(world: World) -> None:
    """The mail comes at the usual time, and the page says so; other decisions do not bring the hour back."""
    token = await _mailed(world)
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, hours) VALUES ('ann', $1)",
        {"deadlines": 22, "weekly": 22},
    )
    await world.live(goal("g2", due="2026-03-12"))
    ledger = await world.ledger()
    trigger = TriggerLoop(
        ledger, {JOB.id: JOB}, timings_of(world.jobs, Configured.load({})), ZoneInfo("UTC"), asyncio.Event(),
        use_crons=False,
    )  # fmt: skip
    await trigger.sweep_once()
    await world.at("2026-03-11T08:00:10Z")
    await trigger.sweep_once()
    run = await world.pool.fetchrow("SELECT * FROM service.job_run WHERE trigger = 'cron'")
    assert run
    assert (run["state"], run["zones"]) == ("pending", ["Europe/Berlin", "Europe/Berlin@22"])

    assert await (await world.runner()).run_one()
    await world.delivery(Scripted()).run_once()
    sent = "SELECT count(*) FROM service.delivery_with_state"
    sent += " WHERE run_id = $1 AND channel = 'email' AND state = 'sent'"
    assert await world.pool.fetchval(sent, run["id"]) == 1

    async with admin(world.pool) as given:
        page = await (await given.client.get(f"/preferences/{token}")).text()
        assert _offered(page, DEADLINES)[1] == ""
        assert _offered(page, WEEKLY)[1] == "22"
        await given.client.post(f"/preferences/{token}", data=ALL_ON | {"language": "de"})
    stored = await world.pool.fetchval("SELECT hours FROM service.recipient_setting")
    assert stored == {"weekly": 22}


async def test_a_chosen_hour_and_zone_are_when_and_where_the_next_one_comes(world: World) -> None:
    token = await _mailed(world)
    chosen = {"hour.deadlines": "7", "timezone": "Asia/Tokyo", "language": "de"}
    async with admin(world.pool) as given:
        page = await (await given.client.post(f"/preferences/{token}", data=ALL_ON | chosen)).text()

    ledger = await world.ledger()
    group = "SELECT service.slot_group(timezone, hours, $1) FROM service.recipient"
    for kind, expected in ((DEADLINES, "Asia/Tokyo@7"), (WEEKLY, "Asia/Tokyo")):
        assert await world.pool.fetchval(group, kind.name) == expected
        assert expected in slot_groups(await ledger.places(), kind.name)
    zones = await world.pool.fetch("SELECT timezone FROM service.user_zone ORDER BY since")
    assert [row["timezone"] for row in zones] == ["Europe/Berlin", "Asia/Tokyo"]
    assert await world.pool.fetchval("SELECT locale FROM service.recipient") == "de"
    assert '<html lang="de"' in page
    assert "Gespeichert. Es gilt ab jetzt." in page
    assert await world.pool.fetchval("SELECT count(*) FROM service.preference_override") == 0


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_zone_is_taken_or_refused_as_the_table_says(world: World, case: Case) -> None:
    """The chosen name stays and is shown again; its zone is used. What is refused changes nothing."""
    await world.live(user("u1", "Asia/Tokyo"))
    await delivery(world.pool)
    async with admin(world.pool) as given:
        answer = await given.client.post("/preferences/a-token", data=ALL_ON | {"timezone": case.name})
        page = await answer.text()
        again = await (await given.client.get("/preferences/a-token")).text()

    stored = await world.pool.fetchval("SELECT timezone FROM service.recipient_setting")
    used = await world.pool.fetchval("SELECT timezone FROM service.recipient")
    assert answer.status == 200
    if case.accepted:
        assert "Saved" in page
        assert stored.lower() == case.name.strip().lower()
        assert f'value="{stored}"' in again
        assert used in case.accepted
    else:
        assert ("There is no time zone of this name" in page) is bool(case.name)  # nothing: the dashboard's
        assert (stored, used) == (None, "Asia/Tokyo")


async def test_places_are_offered(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    async with admin(pool) as given:
        page = await (await given.client.get("/preferences/a-token")).text()

    assert re.findall('<option value="([^"]*/[^"]*)">', page) == list(zones.places())


async def test_a_former_name_is_kept_beside_the_dashboards_zone(world: World) -> None:
    await world.live(user("u1", "Asia/Kolkata"))
    await delivery(world.pool)
    async with admin(world.pool) as given:
        chosen = ALL_ON | {"timezone": "Asia/Calcutta"}
        page = await (await given.client.post("/preferences/a-token", data=chosen)).text()

    assert 'value="Asia/Calcutta"' in page
    assert await world.pool.fetchval("SELECT timezone FROM service.recipient") == "Asia/Kolkata"
    assert await world.pool.fetchval("SELECT count(*) FROM service.user_zone") == 1


async def test_a_pause_holds_what_is_planned_already(world: World) -> None:
    token = await _mailed(world)
    await world.live(goal("g2", due="2026-03-12"))
    await world.at("2026-03-11T08:00:00Z")
    await (await world.runner()).run_manual(JOB.id)
    async with admin(world.pool) as given:
        await given.client.post(f"/preferences/{token}", data=ALL_ON | {"pause_days": "7"})
        page = await (await given.client.get(f"/preferences/{token}")).text()
    await world.delivery(transport := Scripted()).run_once()

    assert "Nothing is sent until Wed 18 Mar." in page
    assert transport.received == []
    assert await world.mails() == {"ann": ("skipped", "paused_until")}


async def test_quiet_hours_defer_and_one_channel_may_be_silent(world: World) -> None:
    token = await _mailed(world)
    quiet = {"quiet_start": "08:00", "quiet_end": "10:30"}
    form = {name: on for name, on in (ALL_ON | quiet).items() if name != "app.deadlines"}
    async with admin(world.pool) as given:
        await given.client.post(f"/preferences/{token}", data=form)
    await world.live(goal("g2", due="2026-03-12"))
    await world.at("2026-03-11T08:00:00Z")
    await (await world.runner()).run_manual(JOB.id)

    rows = await world.pool.fetch(
        "SELECT channel, not_before FROM service.delivery_with_state WHERE local_date = '2026-03-11'"
    )
    half_past_ten = datetime(2026, 3, 11, 10, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert [tuple(row) for row in rows] == [(str(Channel.EMAIL), half_past_ten)]


async def test_a_robot_that_opens_every_link_changes_nothing(world: World) -> None:
    token = await _mailed(world)
    before = await _everything(world.pool)
    async with admin(world.pool) as given:
        for path in (f"/u/{token}", f"/u/{token}?all=1", f"/preferences/{token}", "/pages.css"):
            for method in ("GET", "HEAD"):
                assert (await given.client.request(method, path)).status == 200
    assert await _everything(world.pool) == before
