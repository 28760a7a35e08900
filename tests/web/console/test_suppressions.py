"""The console's list of suppressed addresses, what led to each, and lifting one."""

from service.messages.complaint_rate import ComplaintWatch
from service.messages.mail.transport import SmtpPhase
from tests.given import GOALS, Scripted, World, refused
from tests.web.console.consoles import console, people


async def test_an_operator_sees_why_an_address_is_suppressed_and_lifts_it(world: World) -> None:
    await people(world)
    async with console(world) as opened:
        await opened.runner.run_manual(GOALS)
        nobody = Scripted(lambda envelope: refused(envelope, SmtpPhase.RCPT, 550, "5.1.1 <no such user>"))
        await world.delivery(nobody).run_once()
        await ComplaintWatch(world.pool, ()).count()
        id_ = await world.pool.fetchval("SELECT id FROM service.suppression WHERE address LIKE 'ann@%'")
        await opened.sign_in()

        listed = await opened.read("/console/suppressions?address=ann&reason=hard_bounce&since=2026-03-10")
        assert f'<a href="/console/suppressions/{id_}">ann@example.org</a>' in listed
        assert "bob@" not in listed
        assert "No address is like that" in await opened.read("/console/suppressions?reason=complaint")
        await opened.read("/console/suppressions?since=yesterday", 400)
        shown = await opened.read(f"/console/suppressions/{id_}")
        assert "550 5.1.1 &lt;no such user&gt;" in shown
        assert '<a href="/console/people/ann">ann</a>' in shown
        assert f"/console/suppressions/{id_}" in await opened.read("/console/people/ann")

        lift = f"/console/suppressions/{id_}/lift"
        await opened.act(lift, 400, who="Zoe", reason=" ")
        await opened.act(lift, who="Zoe", reason="made anew")
        assert "Lifted" in await opened.read("/console/suppressions?lifted=1")
        await opened.read(f"/console/suppressions/{id_}", 404)
        (act,) = await opened.audit()
        assert (act[0], act[2]["reason"]) == ("Zoe (admin)", "made anew")


async def test_a_complaint_needs_the_word_of_the_person(world: World) -> None:
    await people(world)
    insert = "INSERT INTO service.suppression (address, reason) VALUES ('ann@example.org', 'complaint')"
    id_ = await world.pool.fetchval(f"{insert} RETURNING id")
    async with console(world) as opened:
        await opened.sign_in()
        lift = f"/console/suppressions/{id_}/lift"

        _, text = await opened.act(lift, 400, who="Zoe", reason="why not")
        assert "only where the person asked" in text
        await opened.act(lift, who="Zoe", reason="they wrote to us", asked="on")

    assert not await world.pool.fetchval("SELECT count(*) FROM service.suppression")


async def test_without_a_filter_an_empty_list_says_that_nobody_is_suppressed(world: World) -> None:
    async with console(world) as opened:
        await opened.sign_in()
        assert "No address is suppressed." in await opened.read("/console/suppressions")
