"""The composition root: opens everything in order, closes it in reverse; it alone knows everybody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

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
from service.engine import zone_table
from service.engine.context import Resources
from service.engine.database import migrate
from service.engine.heartbeat import Heartbeat
from service.engine.job import Job
from service.engine.ledger import Ledger
from service.engine.runner import Runner
from service.engine.supervisor import ServiceLoops, Supervisor
from service.engine.trigger import Timing, TriggerLoop
from service.jobs import all_jobs, hours_of_kinds
from service.manager import JobManager
from service.messages.delivery import DeliveryLoop
from service.messages.explain import Explainer
from service.messages.forecast import Forecaster
from service.messages.in_app.inbox import DashboardInbox
from service.messages.mail.bounce_intake import BounceIntake
from service.messages.mail.compose import Composer
from service.messages.mail.maildir import MaildirTransport
from service.messages.mail.transport import Transport
from service.messages.outbox import Outbox
from service.messages.planner import Planner
from service.messages.preview import Previewer
from service.messages.suppression import Suppressions
from service.settings import Settings, unread
from service.setup import health
from service.setup.databases import Databases, connect, find_databases
from service.setup.parts import (
    analytics_settings,
    bounce_box,
    composer_of,
    email_of_delivery,
    envelope_senders,
    intake_of,
    planner_settings,
    problems_of,
    replica_name,
    runner_settings,
    sync_of,
    tracing_for,
    transport_of,
)
from service.setup.timings import definition, in_our_zones, timings_of
from service.web import AdminDeps, build_app
from service.zones import zone_of

log = structlog.get_logger()


@dataclass(frozen=True)
class Service:
    """Everything that is open while the service lives."""

    settings: Settings
    databases: Databases
    pool: asyncpg.Pool
    jobs: dict[str, Job]
    timings: dict[str, Timing]
    ledger: Ledger
    outbox: Outbox
    transport: Transport
    composer: Composer
    sync: Sync
    trigger: TriggerLoop
    runner: Runner
    delivery: DeliveryLoop
    inbox: DashboardInbox | None
    supervisor: Supervisor
    manager: JobManager
    bounces: BounceIntake | None
    explainer: Explainer
    forecaster: Forecaster
    previewer: Previewer
    vitals: RuntimeMetrics
    archive: Archive
    people: PersonalData
    presence: Heartbeat

    async def web_app(self, *, inbox_page: bool = False) -> web.Application:
        """The HTTP face. ``inbox_page`` adds the page of the local inbox."""
        registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        deps = AdminDeps(
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
            explainer=self.explainer,
            forecaster=self.forecaster,
            previewer=self.previewer,
            version=__version__,
            settings=self.settings.described(),
            service_zone=zone_of(self.settings.service_timezone),
            compose=self.composer.compose,
            vitals=self.vitals.report,
            mails=lambda: self.delivery.totals,
            observe=lambda seconds, status: self.vitals.request(seconds, failed=status >= 500),
            people=self.people,
            hours=hours_of_kinds({id_: timing.schedule for id_, timing in self.timings.items()}),
        )
        app = build_app(deps)
        if inbox_page and isinstance(self.transport, MaildirTransport):
            app.add_routes(maildir_page.routes(self.transport.folder))
        return app

    def _started(self) -> bool:
        dashboard = self.sync.health()
        return self.presence.stands_down or dashboard["synced_at"] is not None or not dashboard["healthy"]

    async def _ready(self) -> str | None:
        if problem := self.presence.problem or self.delivery.problem:
            return problem
        return None if self.supervisor.healthy else "a loop is being restarted"


@asynccontextmanager
async def open_service(
    settings: Settings, *, clock: Clock | None = None, progress: Progress | None = None
) -> AsyncIterator[Service]:
    """Open every part in order; leaving closes them in reverse. The loops start with ``manager.initialize``.

    Raises ConfigurationError, and SourceUnavailable when our own PostgreSQL does not come up.
    """
    clock = clock or SystemClock()
    jobs = all_jobs()
    timings = timings_of(jobs, settings)
    composer = composer_of(settings)
    senders = envelope_senders(settings, composer.sender)
    for warning in composer.warnings:
        log.warning("mail", warning=warning)
    for hint in unread():
        log.warning("configuration", hint=hint)
    owner = replica_name()
    tracing = tracing_for(settings, owner)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(tracing.close)
        databases = await find_databases(settings)
        pool = await connect(databases.service)
        stack.push_async_callback(pool.close)
        if applied := await migrate(pool, settings.default_timezone):
            log.info("migrations applied", names=applied)
        settings = in_our_zones(settings, await zone_table.accepted(pool))
        lease = timedelta(seconds=settings.lease_seconds)
        ledger, outbox = Ledger(pool, owner, lease), Outbox(pool, owner, lease)
        register = partial(
            ledger.register, [definition(job, timings[id_], settings) for id_, job in jobs.items()]
        )
        await register()
        sync = sync_of(pool, databases.dashboard, settings, jobs, progress, owner)
        stack.push_async_callback(sync.close)
        archive = Archive(pool, settings.data_dir / "archive", sync)
        transport = transport_of(settings, clock)
        stack.push_async_callback(transport.close)
        due, outgoing = asyncio.Event(), asyncio.Event()
        zone = zone_of(settings.service_timezone)
        trigger = TriggerLoop(ledger, jobs, timings, zone, due, sweep=settings.sweep_seconds)
        planner = Planner(planner_settings(settings, composer), composer.notice, outgoing)
        runner = Runner(
            pool,
            ledger,
            jobs,
            refresh=sync.refresh,
            require=sync.require,
            clock=clock,
            wake=due,
            resources=Resources(planner, archive, settings.keeping, analytics_settings(settings)),
            settings=runner_settings(settings),
            tracer=tracing.tracer,
        )
        delivery = DeliveryLoop(
            outbox,
            transport,
            lambda claimed: composer.compose(email_of_delivery(claimed)),
            sync.current_state,
            jobs,
            sender=senders,
            clock=clock,
            wake=outgoing,
            connections=settings.smtp_connections,
            rate=settings.smtp_rate,
            limits=settings.domain_limits,
            tracer=tracing.tracer,
        )
        inbox = None
        if settings.in_app == "dashboard":
            inbox = DashboardInbox(
                pool, sync.notify, partial(sync.current_state, addresses=False), jobs, composer.notice
            )
        bounces = intake_of(settings, Suppressions(pool, outbox))
        vitals = RuntimeMetrics(clock, lambda: health.gauges(pool))
        report = partial(health.heartbeat_report, ledger, vitals, sync)
        presence = Heartbeat(ledger, __version__, clock, report, register)
        await presence.check_schema()
        working = {
            "sync": sync.serve,
            "trigger": trigger.serve,
            "runner": runner.serve,
            "delivery": delivery.serve,
            "bounces": bounce_box(settings, bounces),
            "inbox": inbox.serve if inbox else None,
        }
        gated = {name: presence.gated(loop) for name, loop in working.items() if loop}
        supervisor = Supervisor(clock, gated | {"vitals": vitals.serve, "presence": presence.serve})
        loops = ServiceLoops(supervisor, settings.shutdown_grace_seconds)
        manager = JobManager(
            pool,
            ledger,
            runner,
            jobs,
            schedules={id_: timing.schedule for id_, timing in timings.items()},
            open=loops.start,
            close=loops.stop,
            checks=partial(health.checks, supervisor, delivery, outbox, transport, sync, inbox),
            database=lambda: presence.problem,
            clock=clock,
            service_zone=zone,
        )
        stack.push_async_callback(manager.shutdown)
        spread = timedelta(seconds=settings.mail_spread_seconds)
        yield Service(
            settings=settings,
            databases=databases,
            pool=pool,
            jobs=jobs,
            timings=timings,
            ledger=ledger,
            outbox=outbox,
            transport=transport,
            composer=composer,
            sync=sync,
            trigger=trigger,
            runner=runner,
            delivery=delivery,
            inbox=inbox,
            supervisor=supervisor,
            manager=manager,
            bounces=bounces,
            explainer=Explainer(pool, runner, jobs, timings, zone, spread),
            forecaster=Forecaster(pool, ledger, runner, jobs, timings, zone),
            previewer=Previewer(pool, runner, jobs, composer, composer.compose, transport),
            vitals=vitals,
            archive=archive,
            people=PersonalData(pool, archive),
            presence=presence,
        )


MANAGER: web.AppKey[JobManager] = web.AppKey("manager", JobManager)


async def jobs(app: web.Application) -> AsyncIterator[None]:
    """``app.cleanup_ctx.append(jobs)``: the jobs live as long as the application; see ``app[MANAGER]``."""
    async with open_service(Settings.load(also=problems_of)) as service:
        app[MANAGER] = service.manager
        await service.manager.initialize()
        yield
