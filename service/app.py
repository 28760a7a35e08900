"""The composition root: opens everything in order, closes it in reverse; it alone knows everybody."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial

import asyncpg
import structlog
from aiohttp import web
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from service import __version__
from service.analytics.runtime_metrics import RuntimeMetrics
from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.clock import Clock, SystemClock
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import Progress
from service.demo import maildir_page
from service.engine.clock_watch import ClockGuard, ClockWatch
from service.engine.context import Resources
from service.engine.heartbeat import Heartbeat
from service.engine.job import Job
from service.engine.ledger import Ledger
from service.engine.loops import cancelled_at_stop
from service.engine.runner import Runner
from service.engine.supervisor import ServiceLoops, Supervisor
from service.engine.trigger import Timing, TriggerLoop
from service.engine.unsettled import UnsettledSlot
from service.jobs import all_jobs, hours_of_kinds
from service.manager import JobManager
from service.messages.choices import UnsubscribeByMail
from service.messages.complaint_rate import ComplaintWatch
from service.messages.delivery import DeliveryLoop
from service.messages.explain import Explainer
from service.messages.forecast import Forecaster
from service.messages.in_app.inbox import DashboardInbox
from service.messages.kind import MessageKind
from service.messages.mail.bounce_intake import BounceIntake
from service.messages.mail.compose import Composer
from service.messages.mail.maildir import MaildirTransport
from service.messages.mail.transport import Transport
from service.messages.outbox import Outbox
from service.messages.planner import Planner, PlannerSettings
from service.messages.preview import Previewer
from service.messages.reminder import kinds_of
from service.messages.replacement import Replacements
from service.messages.suppression import Suppressions
from service.settings import Settings, unread
from service.setup import health
from service.setup.conditions import ConditionWatch
from service.setup.databases import Databases, find_databases, open_database
from service.setup.parts import (
    analytics_settings,
    composer_of,
    delivery_settings,
    email_of_delivery,
    envelope_senders,
    intake_of,
    planner_settings,
    problems_of,
    relay_of,
    replica_name,
    runner_settings,
    sync_of,
    tracing_for,
    transport_of,
)
from service.setup.timings import definition, timings_of
from service.setup.ways_back import WaysBack
from service.tracing import Tracer
from service.web import AdminDeps, build_app
from service.zones import zone_of

log = structlog.get_logger()


@dataclass(frozen=True)
class Design:
    """What follows from the settings alone, before anything is opened."""

    jobs: dict[str, Job]
    kinds: Collection[MessageKind]
    timings: dict[str, Timing]
    composer: Composer
    sender: Callable[[int], str]
    owner: str


def design_of(settings: Settings) -> Design:
    """Raises ConfigurationError for settings that cannot be; logs what is doubtful about others."""
    jobs = all_jobs(settings.job_packages)
    kinds = kinds_of(jobs).values()
    composer = composer_of(settings, kinds)
    for warning in composer.warnings:
        log.warning("mail", warning=warning)
    for hint in unread():
        log.warning("configuration", hint=hint)
    return Design(
        jobs=jobs,
        kinds=kinds,
        timings=timings_of(jobs, settings),
        composer=composer,
        sender=envelope_senders(settings, composer.sender),
        owner=replica_name(),
    )


@dataclass(frozen=True)
class Opened:
    """What has to be open before the parts can be made."""

    databases: Databases
    pool: asyncpg.Pool
    tracer: Tracer
    clock: Clock
    progress: Progress | None


class Service:
    """Every part of the service, made when it is first asked for and joined with those that it needs."""

    def __init__(self, settings: Settings, design: Design, opened: Opened) -> None:
        self.settings = settings
        self.jobs = design.jobs
        self.timings = design.timings
        self.composer = design.composer
        self.databases = opened.databases
        self.pool = opened.pool
        self._design = design
        self._clock = opened.clock
        self._tracer = opened.tracer
        self._progress = opened.progress
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._zone = zone_of(settings.service_timezone)
        self._due, self._outgoing = asyncio.Event(), asyncio.Event()

    # ── The dashboard ───────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def sync(self) -> Sync:
        return sync_of(
            self.pool, self.databases.dashboard, self.settings, self.jobs, self._progress, self._design.owner
        )

    @cached_property
    def archive(self) -> Archive:
        return Archive(self.pool, self.settings.data_dir / "archive", self.sync)

    @cached_property
    def people(self) -> PersonalData:
        return PersonalData(self.pool, self.archive)

    # ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.pool, self._design.owner, self._lease, self._clock_watch.latest)

    @cached_property
    def _clock_watch(self) -> ClockWatch:
        return ClockWatch(self._clock)

    async def register(self) -> None:
        """Tell the ledger which jobs there are, and when they are due."""
        await self.ledger.register(
            [definition(job, self.timings[id_], self.settings) for id_, job in self.jobs.items()]
        )

    @cached_property
    def trigger(self) -> TriggerLoop:
        sweep = self.settings.sweep_seconds
        guard = ClockGuard(
            self.pool,
            self._clock_watch,
            self._clock,
            self._design.owner,
            self.ledger.now,
            self.ledger.turn_back,
        )
        return TriggerLoop(
            self.ledger,
            self.jobs,
            self.timings,
            self._zone,
            self._due,
            sweep=sweep,
            clock_trusted=guard.check,
        )

    @cached_property
    def _planning(self) -> PlannerSettings:
        return planner_settings(self.settings, self.composer, self._design.kinds)

    @cached_property
    def runner(self) -> Runner:
        planner = Planner(self._planning, self.composer.notice, self._outgoing)
        return Runner(
            self.pool,
            self.ledger,
            self.jobs,
            refresh=self.sync.refresh,
            require=self.sync.require,
            clock=self._clock,
            wake=self._due,
            resources=Resources(
                planner, self.archive, self.settings.keeping, analytics_settings(self.settings)
            ),
            settings=runner_settings(self.settings),
            tracer=self._tracer,
        )

    # ── Messages ────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def outbox(self) -> Outbox:
        relay, latest = relay_of(self.settings), self._clock_watch.latest
        return Outbox(self.pool, self._design.owner, self._lease, self.jobs, latest=latest, relay=relay)

    @cached_property
    def transport(self) -> Transport:
        return transport_of(self.settings, self._clock)

    @cached_property
    def replacements(self) -> Replacements:
        running = runner_settings(self.settings)
        return Replacements(
            self.pool, self.jobs, self._planning, self.composer.notice, running.rules, running.clock_zone
        )

    @cached_property
    def delivery(self) -> DeliveryLoop:
        return DeliveryLoop(
            self.outbox,
            self.transport,
            lambda claimed: self.composer.compose(email_of_delivery(claimed)),
            self.sync.current_state,
            self.jobs,
            self.replacements,
            sender=self._design.sender,
            clock=self._clock,
            wake=self._outgoing,
            settings=delivery_settings(self.settings),
            tracer=self._tracer,
        )

    @cached_property
    def inbox(self) -> DashboardInbox | None:
        if self.settings.in_app != "dashboard":
            return None
        standing = partial(self.sync.current_state, addresses=False)
        return DashboardInbox(
            self.pool, self.sync.notify, standing, self.jobs, self.replacements, self.composer.notice
        )

    @cached_property
    def bounces(self) -> BounceIntake | None:
        bounces, unsubscribe = Suppressions(self.pool, self.outbox), UnsubscribeByMail(self.pool)
        return intake_of(self.settings, bounces, unsubscribe)

    @cached_property
    def ways_back(self) -> WaysBack:
        return WaysBack(self.settings, self.bounces, Suppressions(self.pool, self.outbox))

    @cached_property
    def complaints(self) -> ComplaintWatch:
        return ComplaintWatch(self.pool, self._planning.nudges)

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer(self.pool, self.runner, self.jobs, self.timings, self._zone, self._planning)

    @cached_property
    def forecaster(self) -> Forecaster:
        return Forecaster(self.pool, self.ledger, self.runner, self.jobs, self.timings, self._zone)

    @cached_property
    def previewer(self) -> Previewer:
        compose = self.composer.compose
        return Previewer(self.pool, self.runner, self.jobs, self.composer, compose, self.transport)

    # ── This process ────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def runtime_metrics(self) -> RuntimeMetrics:
        return RuntimeMetrics(self._clock, lambda: health.gauges(self.pool, self.sync))

    @cached_property
    def presence(self) -> Heartbeat:
        report = partial(health.heartbeat_report, self.ledger, self.runtime_metrics, self.sync)
        return Heartbeat(self.ledger, __version__, self._clock, report, self.register)

    @cached_property
    def conditions(self) -> ConditionWatch:
        problems = {
            "process_unfit": lambda: self.presence.problem if self.presence.began else None,
            "mail_refused": lambda: self.delivery.problem,
            "inbox_refused": lambda: self.inbox.problem if self.inbox else None,
            "dashboard_problem": lambda: self.sync.health()["error"],
            "bounces_unread": self.ways_back.problem,
        }
        return ConditionWatch(
            self.pool,
            self._design.owner,
            self.jobs,
            {id_: timing.schedule for id_, timing in self.timings.items()},
            self.supervisor,
            self.sync,
            problems,
            self._unsettled,
            self.settings.sync_interval_seconds,
        )

    @cached_property
    def supervisor(self) -> Supervisor:
        working = {
            "sync": cancelled_at_stop(self.sync.serve),
            "trigger": cancelled_at_stop(self.trigger.serve),
            "runner": self.runner.serve,
            "delivery": self.delivery.serve,
            **self.ways_back.loops,
            "complaints": cancelled_at_stop(self.complaints.serve),
            "inbox": cancelled_at_stop(self.inbox.serve) if self.inbox else None,
        }
        gated = {name: self.presence.gated(loop) for name, loop in working.items() if loop}
        always = {
            "vitals": self.runtime_metrics.serve,
            "presence": cancelled_at_stop(self.presence.serve),
            "conditions": cancelled_at_stop(self._watch_conditions),
        }
        return Supervisor(self._clock, gated | always)

    async def _unsettled(self, now: datetime) -> Mapping[str, Sequence[UnsettledSlot]]:
        return await self.manager.unsettled(now)

    async def _watch_conditions(self, stop: asyncio.Event) -> None:
        await self.conditions.serve(stop)

    @cached_property
    def manager(self) -> JobManager:
        loops = ServiceLoops(self.supervisor, self.settings.shutdown_grace_seconds)
        looked_at = (self.supervisor, self.delivery, self.outbox, self.transport, self.sync, self.inbox)
        return JobManager(
            self.pool,
            self.ledger,
            self.runner,
            self.jobs,
            schedules={id_: timing.schedule for id_, timing in self.timings.items()},
            open=loops.start,
            close=loops.stop,
            checks=health.DependencyChecks(*looked_at).report,
            database=lambda: self.presence.problem,
            doubts=lambda: self.sync.doubts,
            conditions=self.conditions.report,
            clock=self._clock,
            service_zone=self._zone,
        )

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────

    async def web_app(self, *, inbox_page: bool = False) -> web.Application:
        """The HTTP face. ``inbox_page`` adds the page of the local inbox."""
        registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        app = build_app(self._admin_deps(registry))
        if inbox_page and isinstance(self.transport, MaildirTransport):
            app.add_routes(maildir_page.routes(self.transport.folder))
        return app

    def _admin_deps(self, registry: CollectorRegistry) -> AdminDeps:
        return AdminDeps(
            pool=self.pool,
            manager=self.manager,
            tokens=self.settings.tokens(),
            loopback=self.settings.loopback,
            registry=registry,
            outbox=self.outbox,
            started=self._started,
            ready=self._ready,
            frontend_url=self.settings.frontend_url,
            public_url=self.settings.public_base,
            bounces=self.bounces,
            webhooks=self.ways_back.webhooks,
            explainer=self.explainer,
            forecaster=self.forecaster,
            previewer=self.previewer,
            wake_sync=self.sync.wake,
            version=__version__,
            settings=self.settings.described(),
            service_zone=self._zone,
            compose=self.composer.compose,
            runtime_metrics=self.runtime_metrics.report,
            mails=lambda: self.delivery.totals,
            observe=lambda seconds, status: self.runtime_metrics.record_request(
                seconds, failed=status >= 500
            ),
            people=self.people,
            jobs=self.jobs,
            hours=hours_of_kinds(self.jobs, {id_: timing.schedule for id_, timing in self.timings.items()}),
        )

    def _started(self) -> bool:
        dashboard = self.sync.health()
        return self.presence.stands_down or dashboard["synced_at"] is not None or not dashboard["healthy"]

    async def _ready(self) -> str | None:
        """Why this process cannot work; a relay or dashboard that is away takes no process out of service."""
        if problem := self.presence.problem:
            return problem
        return None if self.supervisor.healthy else "a loop is being restarted"


@asynccontextmanager
async def open_service(
    settings: Settings, *, clock: Clock | None = None, progress: Progress | None = None
) -> AsyncIterator[Service]:
    """Open every part in order; leaving closes them in reverse. The loops start with ``manager.initialize``.

    Raises ConfigurationError, and SourceUnavailable when our own PostgreSQL does not come up.
    """
    design = design_of(settings)
    async with AsyncExitStack() as stack:
        tracing = tracing_for(settings, design.owner)
        stack.push_async_callback(tracing.close)
        databases = await find_databases(settings)
        pool = await stack.enter_async_context(open_database(databases.service, settings))
        opened = Opened(databases, pool, tracing.tracer, clock or SystemClock(), progress)
        service = Service(settings, design, opened)
        await service.register()
        stack.push_async_callback(service.sync.close)
        stack.push_async_callback(service.transport.close)
        await service.presence.check_schema()
        stack.push_async_callback(service.manager.shutdown)
        yield service


MANAGER: web.AppKey[JobManager] = web.AppKey("manager", JobManager)


async def jobs(app: web.Application) -> AsyncIterator[None]:
    """``app.cleanup_ctx.append(jobs)``: the jobs live as long as the application; see ``app[MANAGER]``."""
    async with open_service(Settings.load(also=problems_of)) as service:
        app[MANAGER] = service.manager
        await service.manager.initialize()
        yield
