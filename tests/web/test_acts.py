"""Every act of openapi.yaml leaves exactly one trace, and what is refused leaves none."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from tests.given import World
from tests.messages.mail.providers.listening import listening
from tests.messages.mail.providers.sns import Outside
from tests.messages.mail.test_bounce_intake import intake
from tests.web.acts import CASES, SILENT, carry_out, operations
from tests.web.console.consoles import Console, console, people
from tests.web.contract import contract, promised

ACTS = operations()
API = [one for one in ACTS if " /api/" in one]
BY_ROLE = [one for one in ACTS if one in CASES and CASES[one].who not in {"recipient", "ses"}]


@pytest.fixture
async def given(world: World, tmp_path: Path) -> AsyncIterator[Console]:
    """Ann and Bob have a mail and a notification each, by the real job."""
    await people(world)
    no_dashboard: Any = None
    keeper = PersonalData(world.pool, Archive(world.pool, tmp_path, no_dashboard))
    hooks = listening(world.pool, Outside())
    async with console(world, people=keeper, bounces=intake(world), webhooks=hooks) as made:
        await made.manager.run_job("reminder", "goalDeadlines")
        yield made


async def everything(pool: asyncpg.Pool) -> dict[str, str]:
    """All that is stored, but for the keys and the signing in."""
    tables = await pool.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'service'"
        " AND table_type = 'BASE TABLE' AND table_name <> 'idempotency'"
    )
    digest = "SELECT coalesce(string_agg(md5(t::text), ',' ORDER BY t::text), '') FROM service.{} AS t"
    acts = "(SELECT * FROM service.audit WHERE act <> 'sign_in') AS t"
    return {
        name: await pool.fetchval(digest.format(name).replace("service.audit AS t", acts))
        for (name,) in tables
    }


def test_every_act_of_the_contract_is_carried_out_here() -> None:
    assert sorted(CASES) == ACTS


def test_every_act_of_the_api_takes_a_key_and_says_when_it_cannot() -> None:
    for operation in API:
        method, pattern = operation.split(" ")
        told = contract()["paths"][pattern][method.lower()]
        assert {"$ref": "#/components/parameters/IdempotencyKey"} in told["parameters"], operation
        assert {"400", "409"} <= told["responses"].keys(), operation


@pytest.mark.parametrize("operation", ACTS)
async def test_an_act_has_one_effect_and_one_trace_and_a_refused_one_has_neither(
    given: Console, operation: str
) -> None:
    """One world for all of it: what is refused leaves it as it was."""
    facts = await CASES[operation].given(given)
    stored = await everything(given.world.pool)

    if operation in BY_ROLE:
        assert (await carry_out(given, operation, facts, "the-viewer")).status == 403
        assert await everything(given.world.pool) == stored
    unknown = await carry_out(given, operation, facts, unknown=True)
    assert (unknown.status < 400) == (operation in SILENT), unknown.status
    assert await everything(given.world.pool) == stored

    if operation in API:
        await _act_twice(given, operation, facts)
    else:
        answer = await carry_out(given, operation, facts)
        assert answer.status < 400, await answer.text()
    [(who, act, what)] = await given.audit()
    assert (who, act) == (CASES[operation].who, CASES[operation].act)
    assert CASES[operation].told(facts).items() <= what.items()


async def _act_twice(given: Console, operation: str, facts: Any) -> None:
    """With the same key: the second answer is the first one's, and nothing else changes."""
    first = await carry_out(given, operation, facts, key="k")
    told, stored = await promised(first, *operation.split(" ")), await everything(given.world.pool)
    again = await carry_out(given, operation, facts, key="k")

    assert (again.status, await again.json()) == (first.status, told)
    assert first.status < 400
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert await everything(given.world.pool) == stored
