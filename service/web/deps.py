"""The dependencies of the HTTP handlers: ``request.app[DEPS]``."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import asyncpg
from aiohttp import web
from prometheus_client import CollectorRegistry

from service.archive.personal_data import PersonalData
from service.clock import Clock, SystemClock
from service.engine.job import Job
from service.engine.run import RunRequest, RunResult
from service.messages.explain import Explainer
from service.messages.forecast import Forecaster
from service.messages.kind import MessageKind
from service.messages.mail.bounce_intake import BounceIntake
from service.messages.mail.compose import Email
from service.messages.mail.providers.webhooks import Webhooks
from service.messages.outbox import Outbox
from service.messages.preview import Previewer
from service.messages.reminder import kinds_of


class Role(StrEnum):
    """What a bearer token allows: admins everything, viewers reading, dashboards the in-app inbox."""

    ADMIN = "admin"
    VIEWER = "viewer"
    DASHBOARD = "dashboard"


class Manager(Protocol):
    """The part of JobManager that the API uses; see ``service.manager``."""

    async def refresh(self) -> None: ...
    def get_status(self) -> dict[str, Any]: ...
    async def health_check(self) -> dict[str, Any]: ...
    async def get_job_statistics(self) -> dict[str, Any]: ...
    async def run_job(self, job_type: str, name: str, request: RunRequest) -> RunResult: ...
    async def request_run(
        self, connection: asyncpg.Connection, job_type: str, name: str, request: RunRequest
    ) -> Any: ...
    async def carry_out(self, run: Any) -> RunResult: ...
    async def restart(self, job_type: str) -> dict[str, Any]: ...
    async def schedule_once(
        self, job_type: str, name: str, delay: timedelta, connection: asyncpg.Connection | None = None
    ) -> Any: ...
    async def unschedule(self, run_id: int, connection: asyncpg.Connection | None = None) -> bool: ...
    async def pause(
        self, job_type: str, name: str, actor: str, reason: str, until: datetime | None = None,
        connection: asyncpg.Connection | None = None,
    ) -> None: ...  # fmt: skip
    async def resume(
        self, job_type: str, name: str, actor: str, connection: asyncpg.Connection | None = None
    ) -> None: ...
    async def backfill(
        self, job_type: str, name: str, since: date, until: date, connection: asyncpg.Connection | None
    ) -> dict[str, Any]: ...
    async def history(
        self, job_type: str | None = None, limit: int = 50, *, name: str | None = None,
        before: int | None = None, state: str | None = None,
    ) -> list[dict[str, Any]]: ...  # fmt: skip
    async def progress(self, run_id: int) -> dict[str, Any] | None: ...
    async def run(self, run_id: int, *, tracebacks: bool = False) -> dict[str, Any] | None: ...
    async def cancel(self, run_id: int, connection: asyncpg.Connection | None = None) -> bool: ...
    async def retry(self, run_id: int, connection: asyncpg.Connection | None = None) -> str | None: ...
    async def waive(
        self, run_id: int, actor: str, reason: str, connection: asyncpg.Connection | None = None
    ) -> str | None: ...
    async def replicas(self) -> list[dict[str, Any]]: ...
    async def places(self) -> list[tuple[str, dict[str, int]]]: ...


async def _no_problem() -> str | None:
    return None


@dataclass(frozen=True)
class AdminDeps:
    """What handlers work with.

    ``tokens``: bearer token → role. ``loopback``: HOST accepts only connections from this machine, so no
    token is needed. ``started``: whether the process is up. ``ready``: why it cannot work now, in one
    sentence; None if it can.
    """

    pool: asyncpg.Pool
    manager: Manager
    tokens: Mapping[str, str]
    loopback: bool
    registry: CollectorRegistry
    outbox: Outbox
    explainer: Explainer
    forecaster: Forecaster
    previewer: Previewer
    people: PersonalData
    jobs: Mapping[str, Job]
    """Every job by its id."""
    hours: Mapping[str, Collection[int]]
    """The hours of the day that recipients may choose for each kind, by the kind's name."""
    compose: Callable[[Email], bytes]
    """The bytes of an email, as it leaves."""
    started: Callable[[], bool] = lambda: True
    ready: Callable[[], Awaitable[str | None]] = _no_problem
    frontend_url: str = ""
    public_url: str = ""
    bounces: BounceIntake | None = None
    webhooks: Webhooks | None = None
    observe: Callable[[float, int], None] = lambda _seconds, _status: None
    """Called after every response with its seconds and status."""
    wake_sync: Callable[[], None] = lambda: None
    """Lets this process synchronise with the dashboard now."""
    version: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration without secrets: see ``Settings.described``."""
    runtime_metrics: Callable[[], Mapping[str, Any]] = dict
    """Lag, memory and CPU of this process; see ``service.analytics.runtime_metrics``."""
    mails: Callable[[], Mapping[str, int]] = dict
    """Mails since the start of the process: ``state`` or ``state:reason`` → how many."""
    clock: Clock = field(default_factory=SystemClock)
    service_zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    """The zone of the service's own schedules, and of the console's times."""

    @property
    def kinds(self) -> dict[str, MessageKind]:
        """The kinds of message by name, in the order of the preference page."""
        return kinds_of(self.jobs)


DEPS: web.AppKey[AdminDeps] = web.AppKey("deps", AdminDeps)
ROLE: web.RequestKey[Role] = web.RequestKey("role", Role)
