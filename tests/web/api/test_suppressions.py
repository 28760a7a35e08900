"""Suppressions over HTTP: found, shown with what led to them, lifted once; and the rates of complaints."""

import asyncpg

from service.messages.complaint_rate import ComplaintWatch
from service.messages.mail.transport import SmtpPhase
from tests.given import GOALS, Scripted, World, goal, refused, user
from tests.web.contract import promised
from tests.web.given import ADMIN, VIEWER, admin

_LIST = "/api/admin/suppressions"
_ONE = f"{_LIST}/{{id}}"
_LIFT = f"{_ONE}/lift"


async def test_a_suppression_is_found_shown_and_lifted(world: World) -> None:
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    nobody = Scripted(lambda envelope: refused(envelope, SmtpPhase.RCPT, 550, "5.1.1 no such user"))
    await world.delivery(nobody).run_once()

    async with admin(world.pool) as given:
        client = given.client
        for filters in ("", "?address=ANN@", "?reason=hard_bounce&from=2026-03-10&to=2026-03-10&limit=1"):
            answer = await client.get(_LIST + filters, headers=VIEWER)
            (row,) = (await promised(answer, "GET", _LIST))["data"]
        assert (row["address"], row["since"]) == ("ann@example.org", "2026-03-10T08:00:00Z")
        for filters in ("?address=bob", "?reason=complaint", "?to=2026-03-09", f"?before={row['id']}"):
            assert (await (await client.get(_LIST + filters, headers=VIEWER)).json())["data"] == []
        assert (await client.get(f"{_LIST}?adress=ann", headers=VIEWER)).status == 400

        shown = await promised(await client.get(f"{_LIST}/{row['id']}", headers=VIEWER), "GET", _ONE)
        (report,) = shown["data"]["evidence"]
        assert (report["smtpCode"], report["said"], report["counted"]) == (550, "5.1.1 no such user", True)
        assert shown["data"]["users"] == ["ann"]

        lift, why = f"{_LIST}/{row['id']}/lift", {"reason": "made anew"}
        assert (await client.post(lift, headers=VIEWER, json=why)).status == 403
        assert (await client.post(lift, headers=ADMIN, json={})).status == 400
        await promised(await client.post(lift, headers=ADMIN, json=why), "POST", _LIFT)
        again = await client.post(lift, headers=ADMIN, json=why)
        assert (again.status, (await client.get(f"{_LIST}/{row['id']}", headers=ADMIN)).status) == (404, 404)


async def test_a_complaint_is_lifted_only_where_the_own_request(pool: asyncpg.Pool) -> None:
    insert = "INSERT INTO service.suppression (address, reason) VALUES ('a@example.org', 'complaint')"
    id_ = await pool.fetchval(f"{insert} RETURNING id")
    async with admin(pool) as given:
        lift, body = f"{_LIST}/{id_}/lift", {"reason": "they wrote to us"}

        refusal = await given.client.post(lift, headers=ADMIN, json=body)
        assert "the person asked" in (await promised(refusal, "POST", _LIFT))["error"]

        asked = await given.client.post(lift, headers=ADMIN, json=body | {"personAsked": True})
        await promised(asked, "POST", _LIFT)


async def test_rates_of_complaints_are_told_and_measured(world: World) -> None:
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    for name in ("ann", "bob"):
        await world.live(user(name), goal(f"g-{name}", name, due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    await world.delivery(Scripted()).run_once()
    await world.pool.execute(
        "UPDATE service.delivery_state SET state = 'complained'"
        " WHERE id = (SELECT min(id) FROM service.delivery_state)"
    )
    async with admin(world.pool) as given:
        path = "/api/admin/complaints"
        assert (await promised(await given.client.get(path, headers=VIEWER), "GET", path))["asOf"] is None
        await ComplaintWatch(world.pool, ()).count()

        told = await promised(await given.client.get(path, headers=VIEWER), "GET", path)
        assert told["data"] == [
            {"kind": "deadlines", "domain": "example.org", "sent": 2, "complaints": 1, "rate": 0.5}
        ]
        assert (told["kinds"][0]["rate"], told["days"]) == (0.5, 30)
        metrics = await (await given.client.get("/metrics")).text()
        assert 'jobs_recent_complaints{domain="example.org",kind="deadlines"} 1.0' in metrics
        assert 'jobs_recent_mails{domain="example.org",kind="deadlines"} 2.0' in metrics
