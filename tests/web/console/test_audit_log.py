"""/console/acts: who did what, in pages, for whoever may look."""

import asyncpg

from service.web.console.audit_log.views import detail_texts
from tests.given import World
from tests.web.console.consoles import console, people

_PAUSE = "/console/jobs/reminder/dailyCheck/pause"


async def test_an_act_of_the_console_stands_there_with_who_and_why(pool: asyncpg.Pool) -> None:
    await people(world := World(pool))
    async with console(world) as given:
        await given.sign_in()
        await given.act(_PAUSE, who="Ann <b>", reason="too many mails")
        await given.sign_in("the-viewer")

        page = await given.read("/console/acts")

        assert "<td>Ann &lt;b&gt; (admin)</td>" in page
        assert '<th scope="row">pause</th>' in page
        assert "too many mails" in page
        assert "That was all." in page


async def test_acts_are_found_by_who_and_what_and_come_in_pages(pool: asyncpg.Pool) -> None:
    await people(world := World(pool))
    await pool.execute(
        "INSERT INTO service.audit (who, act, what)"
        " SELECT CASE WHEN n = 7 THEN 'eve' ELSE 'admin' END, 'run', jsonb_build_object('run', n)"
        " FROM generate_series(1, 60) AS n ORDER BY n"
    )
    async with console(world) as given:
        await given.sign_in("the-viewer")

        first = await given.read("/console/acts?act=run")
        older = first.partition('<a href="?')[2].partition('"')[0].replace("&amp;", "&")
        second = await given.read(f"/console/acts?{older}")
        eves = await given.read("/console/acts?who=eve")

        runs = [[n for n in range(1, 61) if f'"/console/runs/{n}"' in page] for page in (first, second, eves)]
        assert runs == [list(range(11, 61)), list(range(1, 11)), [7]]
        assert "Nobody did that." in await given.read("/console/acts?who=nobody")
        await given.read("/console/acts?before=x", 400)


def test_what_is_empty_is_not_told() -> None:
    assert detail_texts(
        {"run": 7, "reason": "", "filter": {"job": "x"}, "until": None, "force": False, "retried": 0}
    ) == {
        "run": "7",
        "retried": "0",
        "filter": '{"job": "x"}',
    }
