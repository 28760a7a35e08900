"""Who was silenced by refusals that were not of the address is written to again; nobody else is."""

import asyncpg
import pytest

from service.engine.schema import MIGRATIONS

_HEAL = (MIGRATIONS / "0020_refusals.sql").read_text("utf-8")
_THREE = "three hard bounces within 30 days"
_AT_ONCE = "the server says that there is no such address"
_DELIVERY = """
INSERT INTO service.delivery (dedupe_key, job, kind, channel, user_id, zone, local_date, template, locale,
    address, facts, message_id, message_date, token, state, reason, not_before, expires_at, smtp_code,
    smtp_reply)
VALUES ($1, 'reminder.goalDeadlines', 'deadlines', 'email', 'ann', 'UTC', '2026-03-10', 'goal', 'en',
    'Ann@example.org', '{}', $1, service.now(), $1, $2, 'hard_bounce', service.now(), service.now(), $3, $4)
RETURNING id
"""

US, POLICY = (
    (504, "5.5.2 <localhost>: Helo command rejected"),
    (554, "5.7.1 <a@b.example>: Relay access denied"),
)
FULL, QMAIL = (552, "5.2.2 Mailbox full"), (553, "not in my list of allowed rcpthosts (#5.7.1)")
LOGIN, HELO = (530, "Log in first"), (504, "a full host name is needed")
UNKNOWN, NOBODY, SYNTAX = (550, "5.1.1 no such user"), (550, "no such user"), (501, "5.1.3 bad address")
QUOTED = (550, "Blocked, see https://check.example/?ip=5.7.1.23")


async def _silenced(pool: asyncpg.Pool, answers: list[tuple[int, str]], detail: str, state: str) -> bool:
    for number, (code, reply) in enumerate(answers):
        id_ = await pool.fetchval(_DELIVERY, f"key-{number}", state, code, reply)
        await pool.execute("INSERT INTO service.hard_bounce VALUES ('ann@example.org', $1)", id_)
    await pool.execute(
        "INSERT INTO service.suppression VALUES ('ann@example.org', 'hard_bounce', $1)", detail
    )
    await pool.execute(_HEAL)
    return bool(await pool.fetchval("SELECT count(*) FROM service.suppression"))


@pytest.mark.parametrize(
    ("answers", "detail", "silenced", "counted"),
    [
        ([US, POLICY, FULL], _THREE, False, 0),
        ([QMAIL, LOGIN, HELO], _THREE, False, 0),
        ([NOBODY, POLICY, NOBODY], _THREE, False, 2),
        ([POLICY], _AT_ONCE, False, 0),
        ([NOBODY, NOBODY, NOBODY], _THREE, True, 3),
        ([NOBODY, NOBODY, NOBODY, POLICY], _THREE, True, 3),
        ([POLICY, UNKNOWN], _AT_ONCE, True, 1),
        ([SYNTAX, SYNTAX, SYNTAX], _THREE, True, 3),
        ([QUOTED, QUOTED, QUOTED], _THREE, True, 3),
    ],
)
async def test_a_suppression_is_lifted_where_nothing_else_carries_it(
    pool: asyncpg.Pool, answers: list[tuple[int, str]], detail: str, silenced: bool, counted: int
) -> None:
    assert await _silenced(pool, answers, detail, "failed") is silenced
    assert await pool.fetchval("SELECT count(*) FROM service.hard_bounce") == counted
    noted = await pool.fetchval("SELECT what FROM service.audit WHERE act = 'suppression.lift'")
    assert noted == (None if silenced else {"addresses": 1})


async def test_what_a_bounce_reported_stays(pool: asyncpg.Pool) -> None:
    assert await _silenced(pool, [POLICY, POLICY, POLICY], _THREE, "bounced")


async def test_a_complaint_stays(pool: asyncpg.Pool) -> None:
    await pool.execute("INSERT INTO service.suppression VALUES ('ann@example.org', 'complaint')")
    id_ = await pool.fetchval(_DELIVERY, "key", "failed", *POLICY)
    await pool.execute("INSERT INTO service.hard_bounce VALUES ('ann@example.org', $1)", id_)

    await pool.execute(_HEAL)

    assert await pool.fetchval("SELECT reason FROM service.suppression") == "complaint"
