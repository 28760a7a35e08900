"""The links at the end of every mail."""

import asyncpg

from tests.admin.given import admin, delivery


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
    assert len(stopped) == 7


async def test_unknown_tokens_get_the_same_answers(pool: asyncpg.Pool) -> None:
    await delivery(pool, "a-token")
    async with admin(pool) as given:
        for method, path, form in [
            ("GET", "/preferences/{}", None),
            ("GET", "/u/{}", None),
            ("POST", "/u/{}", {"List-Unsubscribe": "One-Click"}),
            ("POST", "/preferences/{}", {"weekly": "on"}),
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
