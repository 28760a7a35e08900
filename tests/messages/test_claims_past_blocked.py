"""Where the oldest mails are all blocked, a claim looks up the oldest of each domain, job and kind."""

from datetime import timedelta

import asyncpg

from service.messages.outbox import Outbox
from tests.given import ADOPT, GOALS

_LEASE = timedelta(seconds=60)
_MAIL = """
INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
    address, recipient_name, facts, message_id, message_date, token, unconfirmed_policy, not_before,
    expires_at)
SELECT key, 'email', CASE key WHEN 'unknown job' THEN 'acme.other' ELSE $1 END,
    CASE key WHEN 'kind is held' THEN 'held' ELSE 'deadlines' END,
    key, 'Europe/Berlin', '2026-03-10', 'goal_deadlines', 'en',
    'a@' || domain, key, '{}', key || '@x', service.now(), key, 'hold',
    service.now() - interval '1 hour' + age, service.now() + interval '1 day'
FROM unnest($2::text[], $3::text[], $4::interval[]) AS mail(key, domain, age)"""


async def _planned(pool: asyncpg.Pool, *mails: tuple[str, str]) -> None:
    """Mails with these keys to these domains; the first named are the oldest in the queue."""
    ages = [timedelta(seconds=n) for n in range(len(mails))]
    keys, domains = zip(*mails, strict=True)
    await pool.execute(_MAIL, GOALS, keys, domains, ages)
    await pool.execute(ADOPT)


def _outbox(pool: asyncpg.Pool) -> Outbox:
    return Outbox(pool, "a", _LEASE, [GOALS])


async def test_what_may_not_be_sent_is_not_claimed_past_the_blocked_either(pool: asyncpg.Pool) -> None:
    full = [(f"full {n}", "full.example") for n in range(20)]
    others = ("sent", "too old", "too early", "unknown job", "kind is held", "may be sent")
    await _planned(pool, *full, *((key, "example.org") for key in others))
    await pool.execute(
        "INSERT INTO service.gate (scope, name, cause, by) VALUES ('kind', 'held', 'operator', 'test');"
        " UPDATE service.delivery_state AS s SET"
        " not_before = s.not_before + CASE dedupe_key WHEN 'too early' THEN interval '2 hours' ELSE '0' END,"
        " expires_at = s.expires_at - CASE dedupe_key WHEN 'too old' THEN interval '1 day' ELSE '0' END,"
        " state = CASE dedupe_key WHEN 'sent' THEN 'sent' ELSE s.state END,"
        " claim = CASE dedupe_key WHEN 'sent' THEN 0 END"
        " FROM service.delivery AS d WHERE d.id = s.id"
    )

    claimed = await _outbox(pool).claim(6, {"full.example": 0})

    assert [mail.dedupe_key for mail in claimed] == ["may be sent"]


async def test_jobs_share_the_room_of_a_domain(pool: asyncpg.Pool) -> None:
    full = [(f"full {n}", "full.example") for n in range(20)]
    await _planned(pool, *full, ("unknown job", "example.org"), ("ours", "example.org"))

    claimed = await Outbox(pool, "a", _LEASE).claim(6, {"full.example": 0}, 1)

    assert [mail.dedupe_key for mail in claimed] == ["unknown job"]
