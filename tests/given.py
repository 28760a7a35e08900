"""The cast: a small world of people and goals in the canonical tables, and the parts that work on it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import asyncpg

from service.analytics.maintenance import AnalyticsSettings
from service.archive.manifest import RetentionPolicy
from service.clock import SystemClock
from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.model import Goal, Preferences, User
from service.engine.context import Resources
from service.engine.job import Job
from service.engine.ledger import JobDefinition, Ledger
from service.engine.runner import Runner, RunnerSettings
from service.engine.schedule import Schedule
from service.jobs import all_jobs
from service.messages.delivery import DeliveryLoop
from service.messages.delivery_settings import DeliverySettings
from service.messages.eligibility import ContactHistory
from service.messages.kind import nudges
from service.messages.mail.compose import Composer
from service.messages.mail.transport import (
    Envelope,
    MailQueue,
    SendResult,
    SmtpPhase,
    Transport,
)
from service.messages.outbox import ClaimedDelivery, Outbox
from service.messages.planner import Planner, PlannerSettings
from service.messages.reminder import Reminder, reminders
from service.messages.replacement import Replacements
from service.setup.parts import email_of_delivery
from tests.acme import KINDS
from tests.clock import stop_clock

GOALS = "reminder.goalDeadlines"
ADOPT = "SELECT service.adopt_deliveries(array_agg(id)) FROM service.delivery"
"""For tests that insert mails themselves: they get a row that says how they stand."""


def user(id: str = "ann", zone: str = "Europe/Berlin", **changes: Any) -> User:
    """Somebody with an account in order."""
    values: dict[str, Any] = {
        "name": id.title(),
        "email": f"{id}@example.org",
        "locale": "en",
        "active": True,
        "created_at": None,
        "last_login_at": None,
        "preferences": Preferences(),
    }
    return User(id=id, timezone=zone, **{**values, **changes})


def goal(id: str, owner: str = "ann", due: str | None = None, **changes: Any) -> Goal:
    """An open goal; ``due`` is a floating date."""
    values: dict[str, Any] = {
        "title": f"Goal {id}",
        "category": None,
        "open": True,
        "priority": "medium",
        "target_value": 10.0,
        "current_value": 3.0,
        "unit": "books",
        "progress": 30.0,
        "due_date": date.fromisoformat(due) if due else None,
        "due_at": None,
        "created_at": None,
        "completed_at": None,
    }
    return Goal(id=id, user_id=owner, **{**values, **changes})


class Scripted:
    """A transport that answers as it is told, and remembers what reached the dot."""

    def __init__(self, answer: Callable[[Envelope], SendResult] | None = None, connections: int = 10) -> None:
        self.answer = answer or accepted
        self.received: list[Envelope] = []
        self.connections = connections
        self._asking: dict[int, Envelope] = {}
        self._stopped = True

    @property
    def in_use(self) -> int:
        return len(self._asking)

    def start(self, queue: MailQueue) -> None:
        self.queue = queue
        self._stopped = False

    def wake(self, at_most: int | None = None) -> None:
        most = self.connections if at_most is None else at_most
        while not self._stopped and self.in_use < most and (envelope := self.queue.next()):
            self._asking[envelope.id] = envelope
            self.queue.request_dot(envelope.id, partial(self._decided, envelope))

    def _decided(self, envelope: Envelope, granted: bool) -> None:
        if self._asking.pop(envelope.id, None) is None:
            return
        if granted:
            self._send(envelope)
        self.wake()

    def _send(self, envelope: Envelope) -> None:
        result = self.answer(envelope)
        if result.phase in {SmtpPhase.CONNECT, SmtpPhase.EHLO, SmtpPhase.TLS, SmtpPhase.AUTH}:
            self.queue.give_back(envelope)
            self.queue.refused(result.phase, result.code, result.reply)
            return
        if result.accepted:
            self.received.append(envelope)
        self.queue.answered(result)

    async def stop(self, seconds: float) -> None:
        self._stopped = True
        for envelope in self._asking.values():
            self.queue.give_back(envelope)
        self._asking.clear()

    async def send_one(self, envelope: Envelope) -> SendResult:
        result = self.answer(envelope)
        if result.accepted:
            self.received.append(envelope)
        return result

    async def ping(self, *, at_once: bool = False) -> str | None:
        return None

    async def close(self) -> None:
        return


def accepted(envelope: Envelope) -> SendResult:
    """250 after the dot."""
    return SendResult(id=envelope.id, accepted=True, phase=SmtpPhase.DOT, code=250, reply="2.0.0 ok")


def refused(envelope: Envelope, phase: SmtpPhase, code: int | None, reply: str) -> SendResult:
    """Any other end."""
    return SendResult(id=envelope.id, accepted=False, phase=phase, code=code, reply=reply)


def claimed_delivery(**changes: Any) -> ClaimedDelivery:
    """A mail in hand. ``changes``: of its fields."""
    at = datetime.fromisoformat("2026-03-10T09:00:00+00:00")
    values: dict[str, Any] = {
        "id": 1, "dedupe_key": "k", "claim": 1, "attempt": 1, "job": GOALS, "run_id": None,
        "kind": "deadlines", "user_id": "ann", "zone": "UTC", "template": "goal_deadlines", "locale": "en",
        "address": "ann@example.org", "recipient_name": "Ann", "facts": {}, "message_id": "1@example.org",
        "message_date": at, "token": "t", "dot_at": None, "expires_at": at + timedelta(hours=12),
        "claimed_at": at, "domain": "example.org", "probe": False, "own_zone": None,
        "history": ContactHistory(),
    }  # fmt: skip
    return ClaimedDelivery(**values | changes)


async def _no_refresh() -> None:
    return


@cache
def composer() -> Composer:
    """A composer whose links lead to this machine."""
    mailbox = "Dashboard <hello@example.org>"
    return Composer("http://localhost:3000", "http://127.0.0.1:8080", mailbox, KINDS.values())


_PLANNER, _RUNNER = ({field.name for field in fields(kind)} for kind in (PlannerSettings, RunnerSettings))


@dataclass
class World:
    """One database with a stopped clock; runners and deliveries as many as a test likes."""

    pool: asyncpg.Pool
    jobs: dict[str, Job] = field(default_factory=all_jobs)
    refresh: Callable[[], Awaitable[Any]] = _no_refresh

    def reminder(self, id: str = GOALS) -> Reminder:
        """One of the jobs, which writes to people."""
        return reminders(self.jobs)[id]

    async def at(self, instant: str) -> None:
        """Stop the clock here."""
        await stop_clock(self.pool, instant)

    async def live(self, *people: User | Goal) -> None:
        """Let these be in the dashboard's copy."""
        async with self.pool.acquire() as connection:
            await replica.upsert_users(connection, [p for p in people if isinstance(p, User)])
            await replica.upsert_goals(connection, [p for p in people if isinstance(p, Goal)], mark=False)

    async def ledger(self, owner: str = "a", lease: float = 60.0) -> Ledger:
        """A replica's view of the ledger, with all jobs registered."""
        ledger = Ledger(self.pool, owner, timedelta(seconds=lease))
        await ledger.register(
            [
                JobDefinition(
                    j.id, j.schedule, j.mode, Schedule.parse(j.schedule).hash, j.timeout, j.max_attempts
                )
                for j in self.jobs.values()
            ]
        )
        return ledger

    def planning(self, **changes: Any) -> PlannerSettings:
        """A planner's settings. ``changes``: of them; others, as those of the runner, are passed over."""
        known = {name: changes[name] for name in _PLANNER & changes.keys()}
        return PlannerSettings("example.org", **{"nudges": nudges(KINDS.values()), **known})

    async def runner(self, owner: str = "a", lease: float = 60.0, **changes: Any) -> Runner:
        """A runner of its own. ``changes``: of its settings, of the planner's, resources, or parts of it."""
        planning, running = (
            {name: changes.pop(name) for name in names & changes.keys()} for names in (_PLANNER, _RUNNER)
        )
        planner = Planner(
            self.planning(**planning),
            changes.pop("notice", composer().notice),
            changes.pop("outbox_wake", asyncio.Event()),
        )
        defaults = AnalyticsSettings(), RetentionPolicy()
        parts: dict[str, Any] = {
            "refresh": lambda _since: self.refresh(),
            "clock": SystemClock(),
            "wake": asyncio.Event(),
        }
        return Runner(
            self.pool,
            await self.ledger(owner, lease),
            self.jobs,
            settings=RunnerSettings(**running),
            resources=Resources(*changes.pop("resources", ()), planner, *defaults),
            **{**parts, **changes},
        )

    def delivery(self, transport: Transport, owner: str = "a", **changes: Any) -> DeliveryLoop:
        """A delivery of its own; re-validation asks the copy, as if it were the dashboard.

        ``changes``: of its settings, or of its other arguments.
        """
        names = {field.name for field in fields(DeliverySettings)} & changes.keys()
        settings = DeliverySettings(**{name: changes.pop(name) for name in names})
        outbox = Outbox(self.pool, owner, timedelta(seconds=60))
        make = changes.pop("composer", composer())
        values: dict[str, Any] = {
            "sender": lambda _id: make.sender,
            "clock": SystemClock(),
            "wake": asyncio.Event(),
            "settings": settings,
        }
        return DeliveryLoop(
            outbox,
            transport,
            lambda claimed: make.compose(email_of_delivery(claimed)),
            changes.pop("current_state", self.current_state),
            self.jobs,
            changes.pop("replacements", self.replacements()),
            **{**values, **changes},
        )

    def replacements(self, **changes: Any) -> Replacements:
        """What decides again before sending. ``changes``: of its arguments."""
        values = {"settings": self.planning(), "render_notice": composer().notice, **changes}
        return Replacements(self.pool, self.jobs, **values)

    async def current_state(self, query: StateQuery) -> DashboardState:
        """How people, goals and sessions stand in the copy."""
        users = await self.pool.fetch("SELECT * FROM service.users WHERE id = ANY ($1)", list(query.users))
        goals = await self.pool.fetch(
            "SELECT to_jsonb(g) AS goal FROM service.goals AS g WHERE id = ANY ($1)", list(query.goals)
        )
        sessions = await self.pool.fetch(
            "SELECT to_jsonb(s) AS session FROM service.timer_sessions AS s"
            " WHERE id = ANY ($1) OR user_id = ANY ($2)",
            list(query.sessions),
            list(query.recent),
        )
        people = [replica.user_from_row(row) for row in users]
        found = [replica.goal_from_json(row["goal"]) for row in goals]
        timers = [replica.session_from_json(row["session"]) for row in sessions]
        return DashboardState(
            {u.id: u for u in people},
            {g.id: g for g in found if g.open},
            frozenset(t.id for t in timers if t.status == "running" and t.id in query.sessions),
            {g.id: g for g in found if not g.open},
            recent_sessions={
                user_id: [t for t in timers if t.user_id == user_id and t.started_at >= since]
                for user_id, since in query.recent.items()
            },
        )

    async def mails(self) -> dict[str, tuple[str, str | None]]:
        """Each person's mail: its state and the reason."""
        rows = await self.pool.fetch(
            "SELECT user_id, state, reason FROM service.delivery_with_state"
            " WHERE channel = 'email' ORDER BY id"
        )
        return {row["user_id"]: (row["state"], row["reason"]) for row in rows}

    async def reasons(self) -> dict[str, str]:
        """Why others got nothing, from the latest run."""
        rows = await self.pool.fetch("SELECT user_id, reason FROM service.refusal_in_words ORDER BY run_id")
        return {row["user_id"]: row["reason"] for row in rows}


def inbox(folder: Path) -> list[bytes]:
    """The mails of a Maildir."""
    return [path.read_bytes() for path in sorted((folder / "new").iterdir())]


NINE_IN_BERLIN = datetime.fromisoformat("2026-03-10T08:00:00+00:00")
