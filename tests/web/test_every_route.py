"""Who may ask what, for every route of the contract; the rules stand here, the routes in openapi.yaml."""

import hmac as real_hmac
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace

import asyncpg
import pytest
from aiohttp import ClientResponse

from service.web import auth
from service.web.auth import role_of
from tests.given import World
from tests.web.console.consoles import Console, console, people
from tests.web.given import ADMIN, DASHBOARD, VIEWER, admin
from tests.web.operations import ALL, BEARER, CONSOLE, PUBLIC, Operation

WRONG = {
    "nothing": {},
    "another token": {"Authorization": "Bearer the-admi"},
    "a longer token": {"Authorization": "Bearer the-admin2"},
    "another scheme": {"Authorization": "Basic the-admin"},
    "no token": {"Authorization": "Bearer "},
    "only a token": {"Authorization": "the-admin"},
    "no ASCII": {"Authorization": "Bearer the-ädmin"},
    "what is not seen": {"Authorization": "Bearer the-\u200badmin"},
}
FOREIGN = {"Origin": "https://evil.example"}


@pytest.fixture
async def seen(world: World) -> AsyncIterator[Console]:
    await people(world)
    async with console(world) as opened:
        yield opened


async def ask(
    seen: Console, one: Operation, headers: dict[str, str] | None = None, **more: str
) -> ClientResponse:
    data = more if one.method == "POST" and one.body == "application/x-www-form-urlencoded" else None
    return await seen.client.request(
        one.method, one.path, headers=headers or {}, data=data, allow_redirects=False
    )


async def traces(seen: Console) -> tuple[int, ...]:
    """What acting would leave; signing in and out leaves entries of its own."""
    tables = ("job_run", "delivery", "preference_override")
    pool = seen.world.pool
    counts = [await pool.fetchval(f"SELECT count(*) FROM service.{name}") for name in tables]
    return len(await seen.audit()), *counts


def test_each_route_says_who_may_ask_it() -> None:
    assert len(BEARER) + len(CONSOLE) + len(PUBLIC) == len(ALL)
    assert {one.pattern for one in BEARER} == {
        one.pattern for one in ALL if one.pattern.startswith(("/api/admin/", "/api/users/"))
    }
    assert {one.pattern for one in ALL if one.pattern.startswith("/console/") and one.acts} <= {
        one.pattern for one in CONSOLE
    } | {"/console/sign-in"}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_without_a_known_token_every_route_refuses_in_the_one_shape(
    seen: Console, headers: dict[str, str]
) -> None:
    before = await traces(seen)
    for one in BEARER:
        answer = await ask(seen, one, headers)
        assert answer.status == 401, one
        body = await answer.json()
        assert (body["success"], type(body["error"])) == (False, str), one
    assert await traces(seen) == before


def _forbidden_to_viewers(one: Operation) -> bool:
    everything_about_one = one.pattern == "/api/admin/users/{id}/data"
    return one.acts or everything_about_one or one.pattern.startswith("/api/users/")


async def test_a_viewer_reads_and_does_nothing(seen: Console) -> None:
    before = await traces(seen)
    for one in BEARER:
        answer = await ask(seen, one, VIEWER)
        assert answer.status != 401, one
        assert (answer.status == 403) is _forbidden_to_viewers(one), one
    assert await traces(seen) == before


async def test_a_dashboard_reaches_the_inbox_of_its_users_only(seen: Console) -> None:
    for one in BEARER:
        answer = await ask(seen, one, DASHBOARD)
        assert (answer.status == 403) is not one.pattern.startswith("/api/users/"), one


async def test_an_admin_is_let_in_everywhere(seen: Console) -> None:
    for one in BEARER:
        assert (await ask(seen, one, ADMIN)).status not in {401, 403}, one


async def test_what_is_for_everybody_needs_nothing(seen: Console) -> None:
    for one in PUBLIC:
        assert (await ask(seen, one, seen.origin)).status in one.statuses - {401}, one


async def test_the_word_for_where_a_state_lies_is_told_nowhere(seen: Console) -> None:
    run = await seen.manager.run_job("reminder", "goalDeadlines")
    await seen.manager.run_job("analytics", "performanceMetrics")
    mail = await seen.world.pool.fetchval(
        "SELECT id FROM service.delivery WHERE state = 'in_delivery_state' AND user_id = 'ann'"
    )
    assert mail
    await seen.sign_in()
    texts = {}
    for one in [one for one in ALL if one.method == "GET"]:
        id_ = "ann" if re.search("/(users|people)/", one.pattern) else mail
        id_ = run.run_id if "/runs/" in one.pattern else id_
        query = "?job=goalDeadlines" if one.pattern.endswith("/explain") else ""
        path = one.filled(id=str(id_)) + query
        answer = await seen.client.get(path, headers=ADMIN, allow_redirects=False)
        texts[path] = await answer.text()

    assert [path for path, text in texts.items() if "in_delivery_state" in text] == []
    for path in ("/api/admin/users/ann/data", "/api/admin/users/ann/explain?job=goalDeadlines"):
        states = re.findall(r'"state": ?"(\w+)"', texts[path])
        assert states.count("planned") == 1, path
    assert ">planned<" in " ".join(texts[f"/console/messages/{mail}"].split())
    waiting = r'jobs_backlog{job_name="reminder.goalDeadlines",state="planned",what="delivery"} [1-9]'
    assert re.search(waiting, texts["/metrics"])


# ── The console ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_strangers_are_led_to_the_door_of_the_console(seen: Console) -> None:
    before = await traces(seen)
    forged = "9999999999.nonce." + "0" * 64
    for cookie in ("", "console=the-admin", f"console={forged}"):
        for one in CONSOLE:
            answer = await ask(seen, one, seen.origin | {"Cookie": cookie})
            assert answer.status == 303, one
            assert answer.headers["Location"].startswith("/console/sign-in"), one
    assert await traces(seen) == before


async def form_token(seen: Console) -> str:
    text = await seen.read("/console/mails")
    return text.partition('name="form_token" value="')[2].partition('"')[0]


async def test_no_form_acts_without_its_token_or_from_elsewhere(seen: Console) -> None:
    await seen.sign_in()
    mine = {"form_token": await form_token(seen)}
    before = await traces(seen)
    refused: list[tuple[dict[str, str], dict[str, str]]] = [
        (seen.origin, {}),
        (seen.origin, {"form_token": "0" * 64}),
        (seen.origin, {"form_token": "é"}),
        (seen.origin, {"form_token": mine["form_token"][:-1]}),
        ({}, mine),
        (FOREIGN, mine),
        ({"Origin": "null"}, mine),
        (FOREIGN | {"Referer": str(seen.client.make_url("/console"))}, mine),
        (seen.origin | {"Sec-Fetch-Site": "cross-site"}, mine),
    ]
    for one in CONSOLE:
        for headers, form in refused if one.method == "POST" else ():
            answer = await ask(seen, one, headers, **form)
            assert answer.status == 403, (one, headers, form)
            assert answer.content_type == "text/html", one
    assert await traces(seen) == before


async def test_the_form_token_of_another_session_is_none_of_this_one(seen: Console) -> None:
    await seen.sign_in()
    other = await form_token(seen)
    await seen.sign_in()
    for one in CONSOLE:
        if one.method == "POST":
            assert (await ask(seen, one, seen.origin, form_token=other)).status == 403, one


async def test_a_viewer_looks_at_every_page_and_no_form_acts(seen: Console) -> None:
    await seen.sign_in("the-viewer")
    mine = await form_token(seen)
    before = await traces(seen)
    for one in CONSOLE:
        answer = await ask(seen, one, seen.origin, form_token=mine)
        if one.pattern == "/console/sign-out":
            await seen.sign_in("the-viewer")
            mine = await form_token(seen)
        elif one.acts or one.pattern == "/console/people/{id}/data":
            assert answer.status == 403, one
        else:
            assert answer.status not in {303, 403}, one
    assert await traces(seen) == before


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────


class Unlike(str):
    """A text that must not be compared character by character until they differ."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared in a time that depends on the text")


@pytest.mark.parametrize("presented", ["first", "second", "third", "fourth", "", "zweité", "f"])
def test_every_known_token_is_compared_in_constant_time_whichever_fits(
    presented: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[str, str] = {
        Unlike("first"): "admin",
        Unlike("second"): "viewer",
        Unlike("third"): "dashboard",
    }
    compared: list[bytes] = []

    def spy(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return real_hmac.compare_digest(a, b)

    monkeypatch.setattr(auth, "hmac", SimpleNamespace(compare_digest=spy))
    role_of(known, presented)

    assert compared == [b"first", b"second", b"third"]


async def test_a_token_may_have_any_characters(pool: asyncpg.Pool) -> None:
    async with admin(pool, tokens={"gehëim-ключ": "admin"}) as given:
        for token, expected in (("gehëim-ключ", 200), ("gehëim", 401), ("geheim-ключ", 401)):
            answer = await given.client.get(
                "/api/admin/jobs/status", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status == expected
