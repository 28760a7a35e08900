"""The door of the console: who may in, which forms count, and what a page may do."""

import re
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.web.given import Admin, admin

HOME, MAILS = "/console", "/console/mails"
SIGN_IN, SIGN_OUT = "/console/sign-in", "/console/sign-out"


def origin(given: Admin) -> dict[str, str]:
    """What a browser says of a form that is sent from our own page."""
    return {"Origin": str(given.client.make_url("/")).rstrip("/")}


async def sign_in(given: Admin, token: str = "the-admin", **form: str) -> Any:
    return await given.client.post(
        SIGN_IN, data={"token": token} | form, headers=origin(given), allow_redirects=False
    )


async def form_token(given: Admin, path: str = MAILS) -> str:
    found = re.search(r'name="form_token" value="(\w+)"', await (await given.client.get(path)).text())
    assert found
    return found[1]


async def test_whoever_is_not_signed_in_is_asked_for_a_token(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        for path, on in [
            ("/console", SIGN_IN),
            (MAILS, f"{SIGN_IN}?next=%2Fconsole%2Fmails"),
            ("/console/nothing?x=1&y=2", f"{SIGN_IN}?next=%2Fconsole%2Fnothing%3Fx%3D1%26y%3D2"),
        ]:
            answer = await given.client.get(path, allow_redirects=False)
            assert (answer.status, answer.headers["Location"]) == (303, on)
        assert (await given.client.get(SIGN_IN)).status == 200
        assert (await given.client.get("/console/console.css")).status == 200
        bearer = {"Authorization": "Bearer the-admin"}
        assert (await given.client.get(MAILS, headers=bearer, allow_redirects=False)).status == 303


@pytest.mark.parametrize("token", ["the-admin", "the-viewer"])
async def test_operators_sign_in_and_out(pool: asyncpg.Pool, token: str) -> None:
    async with admin(pool) as given:
        answer = await sign_in(given, token)

        assert (answer.status, answer.headers["Location"]) == (303, HOME)
        cookie = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Lax", "Path=/console"} <= set(cookie.split("; "))
        assert token not in cookie
        assert (await given.client.get(MAILS, allow_redirects=False)).status == 200
        form = {"form_token": await form_token(given)}
        out = await given.client.post(SIGN_OUT, data=form, headers=origin(given), allow_redirects=False)
        assert out.headers["Location"] == SIGN_IN
        assert (await given.client.get(MAILS, allow_redirects=False)).status == 303


async def test_a_copied_cookie_opens_nothing_after_signing_out(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        copied = {"Cookie": (await sign_in(given)).headers["Set-Cookie"].partition(";")[0]}
        form = {"form_token": await form_token(given)}
        await given.client.post(SIGN_OUT, data=form, headers=origin(given), allow_redirects=False)

        assert (await given.client.get(MAILS, headers=copied, allow_redirects=False)).status == 303
        answer = await given.client.get(MAILS, headers=copied | {"HX-Request": "true"})
        assert answer.headers["HX-Refresh"] == "true"
        rows = await pool.fetch("SELECT who, act, what FROM service.audit ORDER BY id")
        assert [(row["who"], row["act"]) for row in rows] == [("admin", "sign_in"), ("admin", "sign_out")]
        assert rows[0]["what"] == {"remote": "127.0.0.1"}


async def test_who_guesses_is_refused_and_logged_but_locks_nobody_out(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        with capture_logs() as logs:
            form = [(await sign_in(given, f"guess-{n}")).status for n in range(8)]
            bearer = []
            for n in range(8, 14):
                guess = {"Authorization": f"Bearer guess-{n}"}
                bearer.append(await given.client.get("/api/admin/jobs/status", headers=guess))
            late = await sign_in(given, "guess-15")

        assert form == [403] * 8
        assert [answer.status for answer in bearer] == [401] * 2 + [429] * 4
        assert bearer[0].headers["WWW-Authenticate"] == "Bearer"
        assert 0 < int(bearer[-1].headers["Retry-After"]) <= 60
        assert (late.status, "try again in a minute" in await late.text()) == (429, True)
        refused = [line for line in logs if line["event"].endswith("_refused")]
        assert [line["too_many"] for line in refused] == [False, True]
        assert (await sign_in(given)).status == 303


async def test_a_client_that_repeats_a_wrong_token_is_told_so_each_time(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        wrong = {"Authorization": "Bearer of-last-year"}
        asked = [await given.client.get("/api/admin/jobs/status", headers=wrong) for _ in range(20)]
        assert {answer.status for answer in asked} == {401}


@pytest.mark.parametrize("token", ["", "wrong", "the-dashboard", "caf\u00e9", "the-admin\0"])
async def test_other_tokens_open_nothing(pool: asyncpg.Pool, token: str) -> None:
    async with admin(pool) as given:
        answer = await sign_in(given, token)

        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
        assert "neither the admin nor the viewer token" in await answer.text()


async def test_the_cookie_travels_over_tls_only_where_the_browser_came_by_tls(pool: asyncpg.Pool) -> None:
    async with admin(pool, public_url="https://jobs.example.org") as given:
        plain = await sign_in(given)
        tls = await given.client.post(
            SIGN_IN,
            data={"token": "the-admin"},
            headers={"Origin": "https://jobs.example.org"},
            allow_redirects=False,
        )
    assert "Secure" not in plain.headers["Set-Cookie"]
    assert "Secure" in tls.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("wanted", "goes_to"),
    [
        ("/console/mails/weekly_review?part=text", "/console/mails/weekly_review?part=text"),
        ("", HOME),
        ("https://evil.example/console", HOME),
        ("//evil.example", HOME),
        ("/consolee", HOME),
        ("/console\r\nSet-Cookie: a=b", HOME),
        (SIGN_IN, HOME),
        ("/api/admin/jobs/status", HOME),
    ],
)
async def test_signing_in_leads_to_a_page_of_the_console_only(
    pool: asyncpg.Pool, wanted: str, goes_to: str
) -> None:
    async with admin(pool) as given:
        answer = await sign_in(given, next=wanted)
        assert answer.headers["Location"] == goes_to


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "https://127.0.0.1:1"}]
)
async def test_a_form_of_another_site_is_refused(pool: asyncpg.Pool, headers: dict[str, str]) -> None:
    async with admin(pool) as given:
        answer = await given.client.post(SIGN_IN, data={"token": "the-admin"}, headers=headers)
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
        await sign_in(given)
        form = {"form_token": await form_token(given)}
        assert (await given.client.post(SIGN_OUT, data=form, headers=headers)).status == 403


async def test_a_form_without_the_token_of_its_page_is_refused(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        await sign_in(given)
        earlier = await form_token(given)
        await sign_in(given)
        for form in ({}, {"form_token": ""}, {"form_token": "é"}, {"form_token": earlier}):
            answer = await given.client.post(SIGN_OUT, data=form, headers=origin(given))
            assert answer.status == 403
            assert "earlier session" in await answer.text()


async def test_without_tokens_this_machine_alone_is_let_in(pool: asyncpg.Pool) -> None:
    async with admin(pool, tokens={}) as given:
        answer = await given.client.get(MAILS, allow_redirects=False)
        assert answer.status == 200
        assert "Sign out" not in await answer.text()
        assert (await given.client.get(SIGN_IN, allow_redirects=False)).headers["Location"] == HOME
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert (await given.client.get(MAILS, headers=headers, allow_redirects=False)).status == 403
    async with admin(pool, tokens={}, loopback=False) as given:
        answer = await given.client.get(MAILS, allow_redirects=False)
        assert answer.status == 503
        assert "ADMIN_TOKEN is not configured" in await answer.text()


async def test_every_refusal_is_a_page_and_every_page_is_strict(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        await sign_in(given)
        for method, path, status in [
            ("GET", MAILS, 200),
            ("GET", "/console/nothing", 404),
            ("GET", "/console/mails/nothing", 404),
            ("GET", "/console/mails?scheme=green", 400),
            ("PUT", MAILS, 403),
        ]:
            answer = await given.client.request(method, path)
            assert (answer.status, answer.content_type) == (status, "text/html")
            policy = answer.headers["Content-Security-Policy"]
            assert {"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"} <= set(
                policy.split("; ")
            )
            assert "script-src" not in policy
            assert "unsafe" not in policy
            text = await answer.text()
            assert "<script" not in text
            assert "style=" not in text
            assert not re.search(r'(?:src|href|action)="(?!/|\?|data:,|#content)', text)
