"""How each operation of openapi.yaml that acts is carried out once, and what the audit log says of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse

from service.engine import gates
from service.engine.run import Trigger
from tests.given import GOALS
from tests.messages.mail.providers.reports import ses_bounce
from tests.messages.mail.providers.sns import signed
from tests.messages.mail.test_bounce_intake import report, sender
from tests.web.console.consoles import Console
from tests.web.contract import contract
from tests.web.given import TOKENS

JOB = {"jobType": "reminder", "jobName": "goalDeadlines"}
NO_ACTS = {"POST /api/admin/preview", "POST /console/sign-in", "POST /console/sign-out"}
"""They change nothing of ours, and leave no trace."""
SILENT = {
    "POST /u/{token}",
    "POST /preferences/{token}",
    "POST /api/users/{id}/notifications/read",
    "POST /api/admin/bounces",
    "POST /webhooks/{provider}",
}
"""They answer with success where there is nothing to act on, and do nothing."""
_METHODS = {"post", "put", "patch", "delete"}

Facts = dict[str, Any]
Given = Callable[[Console], Awaitable[Facts]]


def operations() -> list[str]:
    """Everything that openapi.yaml lets somebody do, but what is no act."""
    paths = contract()["paths"].items()
    named = {f"{method.upper()} {path}" for path, item in paths for method in _METHODS & item.keys()}
    return sorted(named - NO_ACTS)


def _job(type_: str = "reminder", name: str = "goalDeadlines") -> Given:
    async def given(_: Console) -> Facts:
        return {"type": type_, "name": name, "job": f"{type_}.{name}"}

    return given


def _mail(state: str) -> Given:
    async def given(console: Console) -> Facts:
        row = await console.world.pool.fetchrow(
            "UPDATE service.delivery_state AS s SET claim = CASE WHEN $1 <> 'planned' THEN 0 END, state = $1,"
            " settled_at = service.now()"
            " FROM service.delivery AS d WHERE d.id = s.id AND d.user_id = 'ann' RETURNING d.id, d.token",
            state,
        )
        assert row
        return dict(row)

    return given


async def _throttled(console: Console) -> Facts:
    """Ann's mail waits for its next try."""
    row = await console.world.pool.fetchrow(
        "UPDATE service.delivery_state AS s"
        " SET reason = 'throttled', not_before = service.now() + interval '1 h' FROM service.delivery AS d"
        " WHERE d.id = s.id AND d.user_id = 'ann' RETURNING d.id"
    )
    assert row
    return dict(row)


async def _gate(console: Console) -> Facts:
    pool = console.world.pool
    id_, _ = await gates.shut(pool, gates.Scope.ALL, gates.Cause.OPERATOR, by="ann")
    return {"id": id_}


async def _suppression(console: Console) -> Facts:
    insert = "INSERT INTO service.suppression (address, reason) VALUES ('ann@example.org', 'complaint')"
    return {"id": await console.world.pool.fetchval(f"{insert} RETURNING id")}


def _run(trigger: Trigger) -> Given:
    async def given(console: Console) -> Facts:
        return {"id": (await console.ledger.request(GOALS, trigger)).id, **(await _job()(console))}

    return given


async def _failed_run(console: Console) -> Facts:
    run = await console.ledger.request(GOALS, Trigger.ONCE)
    await console.world.pool.execute("UPDATE service.job_run SET state = 'failed' WHERE id = $1", run.id)
    return {"id": run.id, **(await _job()(console))}


async def _lost(console: Console) -> Facts:
    """The dashboard lost two of three people, and nobody knows whether that was meant."""
    await console.world.pool.execute(
        "INSERT INTO service.sync_state (collection, phase, lost_since, lost_of, lost_gone)"
        " VALUES ('users', 'live', service.now(), 3, 0), ('goals', 'live', NULL, NULL, NULL)"
    )
    await console.world.pool.execute(
        "INSERT INTO service.missing_row (collection, id, since) SELECT 'users', id, service.now()"
        " FROM unnest(ARRAY['ann', 'bob']) AS id"
    )
    return {}


async def _ann(_: Console) -> Facts:
    return {"id": "ann"}


async def _nothing(_: Console) -> Facts:
    return {}


async def _template(_: Console) -> Facts:
    return {"template": "goal_deadlines"}


@dataclass(frozen=True)
class Case:
    """One operation.

    ``given``: what its path and the rest speak of. ``what``: what the log must say, by names of given or as
    it is. ``unknown``: a body that cannot be acted on, where the path names nothing.
    """

    act: str
    given: Given = _nothing
    body: Mapping[str, Any] = field(default_factory=dict)
    what: Mapping[str, Any] = field(default_factory=dict)
    who: str = "admin"
    unknown: Mapping[str, Any] | None = None

    def told(self, facts: Facts) -> Facts:
        """What the log must say, among others."""
        return {name: facts.get(value, value) for name, value in self.what.items()}


_PLAN = JOB | {"delayMs": 60_000}
_TO_ME = {"to": "me@example.org"}
_DATES = {"from": "2026-03-08", "to": "2026-03-08"}
_DAILY = _job("analytics", "dailyAnalytics")
_OF_ALL = {"job": "job"}
_MEANT = {"reason": "it was meant"}

CASES = {
    "POST /api/admin/jobs/run": Case(
        "run", body=JOB, what={"job": GOALS}, unknown=JOB | {"jobName": "nothing"}
    ),
    "POST /api/admin/jobs/restart": Case(
        "restart", body={"jobType": "reminder"}, what={"jobType": "reminder"}, unknown={"jobType": "nothing"}
    ),
    "POST /api/admin/jobs/schedule": Case(
        "schedule", body=_PLAN, what={"job": GOALS, "delayMs": 60_000}, unknown=_PLAN | {"jobName": "nothing"}
    ),
    "DELETE /api/admin/jobs/schedule/{id}": Case("unschedule", _run(Trigger.ONCE), what={"run": "id"}),
    "POST /api/admin/jobs/{type}/{name}/pause": Case(
        "pause", _job(), {"reason": "holiday"}, _OF_ALL | {"reason": "holiday"}
    ),
    "POST /api/admin/jobs/{type}/{name}/resume": Case("resume", _job(), what=_OF_ALL),
    "POST /api/admin/jobs/{type}/{name}/backfill": Case("backfill", _DAILY, _DATES, _OF_ALL | _DATES),
    "POST /api/admin/gates": Case(
        "shut-gate",
        body={"scope": "job", "name": "goalDeadlines"} | _MEANT,
        what={"scope": "job", "name": GOALS} | _MEANT,
        unknown={"scope": "job", "name": "nothing"} | _MEANT,
    ),
    "POST /api/admin/gates/{id}/open": Case("open-gate", _gate, what={"gate": "id", "scope": "all"}),
    "POST /api/admin/runs/{id}/cancel": Case("cancel-run", _run(Trigger.MANUAL), what={"run": "id"}),
    "POST /api/admin/runs/{id}/retry": Case("retry-run", _failed_run, what={"run": "id"}),
    "POST /api/admin/runs/{id}/waive": Case(
        "waive-run", _failed_run, {"reason": "stale"}, _OF_ALL | {"run": "id", "reason": "stale"}
    ),
    "POST /api/admin/sync": Case(
        "confirm loss",
        _lost,
        {"confirmLoss": "users", "rows": 2} | _MEANT,
        {"rows": 2} | _MEANT,
        unknown={"confirmLoss": "goals"} | _MEANT,
    ),
    "POST /console/system/full-sync": Case(
        "full-sync",
        _lost,
        {"who": "Zoe"} | _MEANT,
        _MEANT,
        "Zoe (admin)",
        unknown={"who": "Zoe"},
    ),
    "POST /console/system/confirm-loss": Case(
        "confirm loss",
        _lost,
        {"who": "Zoe", "table": "users", "rows": "2"} | _MEANT,
        {"table": "users", "rows": 2} | _MEANT,
        "Zoe (admin)",
        unknown={"who": "Zoe", "table": "users", "rows": "3"} | _MEANT,
    ),
    "POST /api/admin/test-send": Case(
        "test-send",
        body=JOB | _TO_ME,
        what={"job": GOALS, "accepted": True} | _TO_ME,
        unknown=JOB | _TO_ME | {"jobName": "nothing"},
    ),
    "POST /api/admin/suppressions/{id}/lift": Case(
        "lift-suppression",
        _suppression,
        {"personAsked": True} | _MEANT,
        {"suppression": "id", "address": "ann@example.org", "personAsked": True} | _MEANT,
    ),
    "POST /console/suppressions/{id}/lift": Case(
        "lift-suppression",
        _suppression,
        {"who": "Zoe", "asked": "on"} | _MEANT,
        {"suppression": "id", "address": "ann@example.org"} | _MEANT,
        "Zoe (admin)",
    ),
    "POST /webhooks/{provider}": Case(
        "bounce", _mail("sent"), what={"delivery": "id", "kind": "failed"}, who="ses"
    ),
    "POST /api/admin/bounces": Case("bounce", _mail("sent"), what={"delivery": "id", "kind": "failed"}),
    "POST /api/admin/deliveries/{id}/resend": Case("resend", _mail("unconfirmed"), what={"delivery": "id"}),
    "POST /api/admin/deliveries/{id}/cancel": Case("cancel", _mail("planned"), what={"delivery": "id"}),
    "POST /api/admin/deliveries/{id}/retry": Case("retry", _mail("failed"), what={"delivery": "id"}),
    "POST /api/admin/deliveries/retry": Case(
        "retry-failed", _mail("failed"), {"user": "ann"}, {"retried": 1}, unknown={"user": ""}
    ),
    "POST /api/admin/deliveries/try-now": Case(
        "try-now", _throttled, {"user": "ann"}, {"tried": 1}, unknown={"user": ""}
    ),
    "POST /api/users/{id}/notifications/read": Case(
        "read", _ann, what={"userId": "ann", "notifications": 1}, who="dashboard"
    ),
    "DELETE /api/admin/users/{id}/data": Case("erase", _ann, what={"users": 1}),
    "POST /console/mails/{template}/test-send": Case(
        "test-send", _template, _TO_ME, {"job": GOALS, "accepted": True} | _TO_ME
    ),
    "POST /console/jobs/{type}/{name}/dry-run": Case("dry-run", _job(), what=_OF_ALL),
    "POST /console/jobs/{type}/{name}/run": Case("run", _job(), what=_OF_ALL),
    "POST /console/jobs/{type}/{name}/pause": Case(
        "pause", _job(), {"who": "Zoe", "reason": "holiday"}, _OF_ALL | {"reason": "holiday"}, "Zoe (admin)"
    ),
    "POST /console/jobs/{type}/{name}/resume": Case("resume", _job(), what=_OF_ALL),
    "POST /console/jobs/{type}/{name}/schedule": Case("schedule", _job(), {"minutes": "5"}, _OF_ALL),
    "POST /console/jobs/{type}/{name}/unschedule": Case(
        "unschedule", _run(Trigger.ONCE), {"run": "id"}, {"run": "id"}
    ),
    "POST /console/jobs/{type}/{name}/backfill": Case(
        "backfill", _DAILY, _DATES | {"confirm": "on"}, _OF_ALL | _DATES
    ),
    "POST /console/runs/{id}/cancel": Case("cancel-run", _run(Trigger.MANUAL), what={"run": "id"}),
    "POST /console/runs/{id}/retry": Case("retry-run", _failed_run, what={"run": "id"}),
    "POST /console/runs/{id}/waive": Case(
        "waive-run", _failed_run, {"who": "Zoe", "reason": "stale"}, {"run": "id"}, "Zoe (admin)"
    ),
    "POST /console/messages/retry": Case(
        "retry-failed", _mail("failed"), {"person": "ann", "confirm": "on"}, {"retried": 1}, unknown={}
    ),
    "POST /console/messages/{id}/resend": Case("resend", _mail("unconfirmed"), what={"delivery": "id"}),
    "POST /console/messages/{id}/cancel": Case("cancel", _mail("planned"), what={"delivery": "id"}),
    "POST /console/messages/{id}/try-now": Case("try-now", _throttled, what={"delivery": "id"}),
    "POST /console/people/{id}/erase": Case("erase", _ann, {"typed": "ann"}, {"users": 1}),
    "POST /u/{token}": Case("unsubscribe", _mail("sent"), what={"user": "ann"}, who="recipient"),
    "POST /preferences/{token}": Case(
        "preferences", _mail("sent"), {"timezone": "Asia/Tokyo"}, {"user": "ann"}, "recipient"
    ),
}
_NOBODY = {"id": "999999", "name": "nothing", "template": "nothing", "token": "nothing"}


async def carry_out(
    console: Console,
    operation: str,
    facts: Facts,
    token: str | None = None,
    *,
    unknown: bool = False,
    key: str | None = None,
) -> ClientResponse:
    """Ask for it as somebody would. ``unknown``: for something that does not exist."""
    case, (method, pattern) = CASES[operation], operation.split(" ")
    if pattern == "/webhooks/{provider}":
        message = signed(ses_bounce(sender(999_999 if unknown else facts["id"])))
        return await console.client.post("/webhooks/ses", json=message)
    token = token or next(t for t, role in TOKENS.items() if case.who in {role, "recipient", "Zoe (admin)"})
    body = {name: facts.get(value, value) for name, value in case.body.items()}
    if unknown:
        facts = facts | _NOBODY
        body = dict(case.unknown) if case.unknown is not None else body
    path = pattern.format_map(facts)
    if path.startswith("/api/"):
        bearer = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        if pattern.endswith("/bounces"):
            return await _bounce(console, 999_999 if unknown else facts["id"], bearer)
        return await console.client.request(method, path, headers=bearer, json=body or None)
    if path.startswith("/console/"):
        await console.sign_in(token)
        body |= {"form_token": await console.form_token("/console/mails")}
    return await console.client.request(
        method, path, data=body, headers=console.origin, allow_redirects=False
    )


async def _bounce(console: Console, delivery: int, headers: dict[str, str]) -> ClientResponse:
    return await console.client.post(
        "/api/admin/bounces",
        params={"recipient": sender(delivery)},
        data=report("postfix_user_unknown", {"ann": delivery}, "ann"),
        headers=headers | {"Content-Type": "message/rfc822"},
    )
