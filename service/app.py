"""The composition root: opens everything in order, closes it in reverse; it alone knows everybody."""

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from email.utils import parseaddr
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog
from aiohttp import web
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from service import __version__
from service.analytics.maintenance import AnalyticsSettings
from service.analytics.runtime_metrics import Vitals
from service.archive.archive import Archive
from service.archive.personal_data import People
from service.clock import Clock, SystemClock
from service.dashboard.model import Kind
from service.dashboard.mongo import MongoSource, check_url
from service.dashboard.postgres import PostgresSource
from service.dashboard.server_metrics import dashboard_counters
from service.dashboard.sync import Progress, Source, Sync, profile_from_setting
from service.demo import maildir_page, sample
from service.engine import embedded, zone_table
from service.engine.context import Resources
from service.engine.database import migrate, open_pool
from service.engine.database_errors import FAILURES
from service.engine.heartbeat import Presence
from service.engine.job import Job, JobType, TimeMode
from service.engine.ledger import JobDef, Ledger
from service.engine.runner import Runner, RunnerSettings
from service.engine.schedule import Schedule
from service.engine.supervisor import Loop, Supervisor
from service.engine.trigger import Timing, TriggerLoop
from service.engine.useful_hours import first_useless, useful_hours
from service.errors import ConfigurationError, SourceUnavailable
from service.jobs import all_jobs, hours_of_kinds
from service.manager import JobManager
from service.messages.delivery import Delivery
from service.messages.explain import Explainer
from service.messages.forecast import Forecaster
from service.messages.in_app.inbox import Inbox
from service.messages.mail.bounce_intake import BounceBox, BounceIntake
from service.messages.mail.compose import Composer, Letter
from service.messages.mail.dkim import DkimSigner
from service.messages.mail.maildir import MaildirTransport
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Transport
from service.messages.mail.verp import envelope_sender
from service.messages.outbox import Claimed, Outbox
from service.messages.planner import Planner, PlannerSettings
from service.messages.preview import Previewer
from service.messages.suppression import Bounces
from service.settings import Settings, unread
from service.tracing import Tracing, tracing_of
from service.web import AdminDeps, build_app, patience
from service.zones import zone_of

log = structlog.get_logger()

_ANY_DELIVERY = 2**62
_PATIENCE = 30
"""Seconds that a start waits for our PostgreSQL to come up."""


# ── Where things are ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Databases:
    """Our own PostgreSQL and the dashboard's database, after the embedded defaults are filled in."""

    ours: str = field(repr=False)
    dashboard: str = field(repr=False)
    sample: bool


async def find_databases(settings: Settings) -> Databases:
    """Start the embedded PostgreSQL, and fill it with the sample dashboard, where the settings name none."""
    _require_dashboard(settings)
    if settings.database_url:
        return Databases(settings.database_url, settings.dashboard_url, sample=False)
    server, _ = await asyncio.to_thread(embedded.start, settings.data_dir / "postgres")
    ours = await ensure_database(server, "jobs")
    if settings.dashboard_url:
        return Databases(ours, settings.dashboard_url, sample=False)
    return Databases(ours, await ensure_database(server, "sample_dashboard"), sample=True)


def _require_dashboard(settings: Settings) -> None:
    if settings.database_url and not settings.dashboard_url:
        raise ConfigurationError(
            [
                "DASHBOARD_URL: empty means the sample dashboard, which lives in the embedded PostgreSQL;"
                " set it (mongodb:// or postgresql://), or leave DATABASE_URL empty too"
            ]
        )


async def ensure_database(server: str, name: str) -> str:
    """DSN of a database of the embedded server, created when it is not there."""
    connection = await asyncpg.connect(server)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


# ── When jobs are due ───────────────────────────────────────────────────────────────────────────────────────


def timings_of(jobs: Mapping[str, Job], settings: Settings) -> dict[str, Timing]:
    """Each job's schedule (the original's, or the configured one by id or name) and clock.

    ``REMINDER_TIME_MODE=service`` puts the reminders on one clock. Raises ConfigurationError for a configured
    job that does not exist, and for a schedule with a time at which the job would be of no use any more.
    """
    names = _jobs_named(jobs, settings.job_schedules)
    chosen = {id_: Schedule.parse(settings.job_schedules[name]) for name, id_ in names.items()}
    late = {name: first_useless(jobs[id_], chosen[id_]) for name, id_ in names.items()}
    if problems := [_too_late(name, jobs[names[name]], at) for name, at in late.items() if at]:
        raise ConfigurationError(problems)
    one_clock = settings.reminder_time_mode == "service"
    return {
        id_: _timing(
            job,
            chosen.get(id_) or Schedule.parse(job.schedule),
            TimeMode.SERVICE if one_clock and job.type is JobType.REMINDER else job.mode,
        )
        for id_, job in jobs.items()
    }


def _timing(job: Job, schedule: Schedule, mode: TimeMode) -> Timing:
    hours = useful_hours(job, schedule) if job.own_hours and mode is TimeMode.USER else frozenset[int]()
    return Timing(schedule, mode, hours)


def _jobs_named(jobs: Mapping[str, Job], names: Iterable[str]) -> dict[str, str]:
    """Name or id to id. Raises ConfigurationError for those that do not exist."""
    known = {job.name: id_ for id_, job in jobs.items()} | {id_: id_ for id_ in jobs}
    problems = []
    for name in sorted(set(names) - set(known)):
        near = get_close_matches(name, known, n=1)
        hint = f"is {near[0]} meant?" if near else f"use one of {', '.join(j.name for j in jobs.values())}"
        problems.append(f"JOB_SCHEDULES: there is no job {name!r}; {hint}")
    if problems:
        raise ConfigurationError(problems)
    return {name: known[name] for name in sorted(names, key=lambda name: name in jobs)}


def _too_late(name: str, job: Job, at: datetime) -> str:
    until = job.useful_until(at)
    day = "" if until.date() == at.date() else f"{until:%d %B} "
    return (
        f"JOB_SCHEDULES: {name} at {at:%H:%M} would always be missed:"
        f" it is useful until {day}{until:%H:%M}; choose an earlier time"
    )


def in_our_zones(settings: Settings, accepted: Mapping[str, str]) -> Settings:
    """The settings with the names by which our PostgreSQL knows their zones (``accepted``: name → its name).

    Raises ConfigurationError for a zone that it does not know.
    """
    chosen = {name: getattr(settings, name) for name in ("service_timezone", "default_timezone")}
    if unknown := [
        f"{name.upper()}: our PostgreSQL does not know {zone}; update its zone data, or choose another"
        for name, zone in chosen.items()
        if zone not in accepted
    ]:
        raise ConfigurationError(unknown)
    return settings.model_copy(update={name: accepted[zone] for name, zone in chosen.items()})


def definition(job: Job, timing: Timing, settings: Settings) -> JobDef:
    """What the ledger is told; the hash changes with everything that decides when the job is due."""
    zone = settings.service_timezone if timing.mode is TimeMode.SERVICE else ""
    return JobDef(
        job=job.id,
        cron=timing.schedule.expression,
        mode=str(timing.mode),
        schedule_hash=f"{timing.schedule.hash}:{timing.mode}:{zone}",
        timeout=job.timeout,
        max_attempts=job.max_attempts,
        exclusive=not job.overlap,
    )


# ── The parts ───────────────────────────────────────────────────────────────────────────────────────────────


def source_of(url: str, settings: Settings) -> Source:
    """The dashboard behind a URL."""
    if url.lower().startswith("mongodb"):
        return MongoSource(url, database=settings.dashboard_database)
    return PostgresSource(url)


def sync_of(
    pool: asyncpg.Pool,
    url: str,
    settings: Settings,
    jobs: Mapping[str, Job],
    progress: Progress | None,
    owner: str,
) -> Sync:
    """The copy of the dashboard into our tables."""
    profile = profile_from_setting(settings.dashboard_schema, lambda path: Path(path).read_text("utf-8"))
    return Sync(
        pool,
        source_of(url, settings),
        default_timezone=settings.default_timezone,
        schema="auto" if profile else settings.dashboard_schema,
        profile=profile,
        deadline_date_only=settings.deadline_date_only,
        session_tail=settings.session_tail,
        interval=settings.sync_interval_seconds,
        progress=progress,
        owner=owner,
        needs={job.name: job.needs for job in jobs.values()},
    )


def analytics_settings(settings: Settings) -> AnalyticsSettings:
    """What statistics need to know."""
    url = settings.dashboard_metrics_url
    return AnalyticsSettings(settings.service_timezone, partial(dashboard_counters, url) if url else None)


def planner_settings(settings: Settings, composer: Composer) -> PlannerSettings:
    """How messages are planned."""
    return PlannerSettings(
        mail_domain=composer.sender.rpartition("@")[2],
        resent=settings.resent_kinds,
        spread=timedelta(seconds=settings.mail_spread_seconds),
        to_dashboard=settings.in_app == "dashboard",
    )


def runner_settings(settings: Settings) -> RunnerSettings:
    """How runs are carried out."""
    return RunnerSettings(
        rules=settings.rules,
        clock_zone=settings.service_timezone if settings.reminder_time_mode == "service" else None,
        jitter=timedelta(seconds=settings.claim_jitter_seconds),
        grace=timedelta(seconds=settings.shutdown_grace_seconds),
    )


def transport_of(settings: Settings, clock: Clock) -> Transport:
    """SMTP, or the local inbox where no host is named."""
    if not settings.smtp_host:
        return MaildirTransport(settings.data_dir / "inbox")
    config = SmtpConfig(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_pass,
        connections=settings.smtp_connections,
        per_connection=settings.smtp_per_connection,
    )
    return SmtpPool(config, clock)


def composer_of(settings: Settings) -> Composer:
    """Makes the mails; raises ConfigurationError where no lawful mail could be made."""
    return Composer(
        settings.frontend_url,
        settings.public_base,
        settings.mail_from,
        reply_to=settings.mail_reply_to,
        sender_id=settings.sender_id,
        signer=signer_of(settings),
    )


def signer_of(settings: Settings) -> DkimSigner | None:
    """Signs mails where a key is configured; raises ConfigurationError for an unusable one."""
    if not settings.dkim_key:
        return None
    domain = settings.dkim_domain or parseaddr(settings.mail_from)[1].rpartition("@")[2]
    return DkimSigner.from_pem(settings.dkim_key.encode(), domain, settings.dkim_selector)


def envelope_senders(settings: Settings, sender: str) -> Callable[[int], str]:
    """The envelope sender of a delivery: one that names it where bounces can be taken in, else ``sender``.

    Raises ConfigurationError for an address that cannot carry a delivery's name.
    """
    if not settings.bounce_address:
        return lambda _delivery: sender
    base, secret = settings.bounce_address, settings.bounce_secret.encode()
    try:
        envelope_sender(base, _ANY_DELIVERY, secret)
    except ValueError as error:
        raise ConfigurationError([f"BOUNCE_ADDRESS: {error}"]) from None
    return lambda delivery: envelope_sender(base, delivery, secret)


def intake_of(settings: Settings, bounces: Bounces) -> BounceIntake | None:
    """Takes in bounces where there is an address for them."""
    if not settings.bounce_address:
        return None
    return BounceIntake(bounces, settings.bounce_address, settings.bounce_secret.encode())


def letter_of(claimed: Claimed) -> Letter:
    """The letter of a delivery."""
    return Letter(
        template=claimed.template,
        facts=claimed.facts,
        recipient_name=claimed.recipient_name,
        address=claimed.address,
        message_id=claimed.message_id,
        message_date=claimed.message_date,
        token=claimed.token,
        kind=Kind(claimed.kind),
        job=claimed.job,
        locale=claimed.locale,
    )


def problems_of(settings: Settings) -> list[str]:
    """What the parts have against their settings, as far as it shows without connecting to anything."""
    jobs = all_jobs()
    checks: list[Callable[[], Any]] = [
        lambda: _require_dashboard(settings),
        lambda: timings_of(jobs, settings),
        lambda: envelope_senders(settings, composer_of(settings).sender),
        lambda: check_url(settings.dashboard_url),
    ]
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except ConfigurationError as error:
            problems += error.problems
    return problems


def tracing_for(settings: Settings, instance: str) -> Tracing:
    """Traces of the process of this name; raises ConfigurationError where the library for them is missing."""
    return tracing_of(settings.otel_exporter_otlp_endpoint, settings.otel_service_name, __version__, instance)


def replica_name() -> str:
    """A name for this process that no other process has, now or later."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Loops:
    """The loops of this process, under their supervisor; start and stop can be repeated."""

    def __init__(self, supervisor: Supervisor, grace: float) -> None:
        self._supervisor = supervisor
        self._grace = grace
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start every loop."""
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._supervisor.serve(self._stop), name="loops")

    async def stop(self) -> None:
        """Stop claiming, finish or release what is held, within the grace."""
        if self._task is None:
            return
        self._stop.set()
        _, late = await asyncio.wait({self._task}, timeout=self._grace + 10)
        if late:
            log.warning("loops did not stop in time; what they hold is released by its lease")
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)
        self._task = None


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
    delivery: Delivery
    inbox: Inbox | None
    supervisor: Supervisor
    manager: JobManager
    bounces: BounceIntake | None
    explainer: Explainer
    forecaster: Forecaster
    previewer: Previewer
    vitals: Vitals
    archive: Archive
    people: People
    presence: Presence

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
        pool = await _connect(databases.ours)
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
        delivery = Delivery(
            outbox,
            transport,
            lambda claimed: composer.compose(letter_of(claimed)),
            sync.standing,
            jobs,
            sender=senders,
            clock=clock,
            wake=outgoing,
            connections=settings.smtp_connections,
            rate=settings.smtp_rate,
            limits=settings.domain_limits,
            tracer=tracing.tracer,
        )
        dashboard_inbox = None
        if settings.in_app == "dashboard":
            dashboard_inbox = Inbox(
                pool, sync.notify, partial(sync.standing, addresses=False), jobs, composer.notice
            )
        bounces = intake_of(settings, Bounces(pool, outbox))
        vitals = Vitals(clock, lambda: _gauges(pool))
        presence = Presence(ledger, __version__, clock, lambda: _told(ledger, vitals, sync), register)
        await presence.look()
        working: dict[str, Loop] = {
            "sync": sync.serve,
            "trigger": trigger.serve,
            "runner": runner.serve,
            "delivery": delivery.serve,
        }
        if bounces and settings.bounce_maildir:
            working["bounces"] = BounceBox(settings.bounce_maildir, bounces).serve
        if dashboard_inbox:
            working["inbox"] = dashboard_inbox.serve
        telling: dict[str, Loop] = {"vitals": vitals.serve, "presence": presence.serve}
        supervisor = Supervisor(
            clock, {name: presence.gated(loop) for name, loop in working.items()} | telling
        )
        loops = Loops(supervisor, settings.shutdown_grace_seconds)
        manager = JobManager(
            pool,
            ledger,
            runner,
            jobs,
            schedules={id_: timing.schedule for id_, timing in timings.items()},
            open=loops.start,
            close=loops.stop,
            checks=lambda: _checks(supervisor, delivery, outbox, transport, sync, dashboard_inbox),
            database=lambda: presence.problem,
            clock=clock,
            service_zone=zone,
        )
        stack.push_async_callback(manager.shutdown)
        yield Service(
            settings, databases, pool, jobs, timings, ledger, outbox, transport, composer, sync, trigger,
            runner, delivery, dashboard_inbox, supervisor, manager, bounces,
            Explainer(
                pool, runner, jobs, timings, zone, timedelta(seconds=settings.mail_spread_seconds)
            ),
            Forecaster(pool, ledger, runner, jobs, timings, zone),
            Previewer(pool, runner, jobs, composer, composer.compose, transport), vitals, archive,
            People(pool, archive), presence,
        )  # fmt: skip


async def _connect(dsn: str) -> asyncpg.Pool:
    """Our own PostgreSQL; a start beside it (compose, a restarted node) may be a little early.

    Raises SourceUnavailable, and ConfigurationError for a URL that the driver does not understand.
    """
    for attempt in range(_PATIENCE):
        try:
            return await open_pool(dsn, max_size=20)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            log.warning("waiting for our PostgreSQL", attempt=attempt + 1, error=type(error).__name__)
            await asyncio.sleep(1)
    raise SourceUnavailable("DATABASE_URL: this service's PostgreSQL cannot be reached; is it running?")


async def _told(ledger: Ledger, vitals: Vitals, sync: Sync) -> dict[str, Any]:
    """What this process tells the others of itself with each heartbeat."""
    ours, theirs = await asyncio.gather(_ping(ledger.now), _ping(sync.ping))
    return vitals.report() | {"postgresPingMs": ours, "dashboardPingMs": theirs}


async def _ping(ask: Callable[[], Awaitable[Any]]) -> float | None:
    """How long an answer takes, in ms; None: there is none within five seconds."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(5):
            await ask()
    except (*FAILURES, SourceUnavailable):
        return None
    return round(1000 * (loop.time() - started), 3)


def _gauges(pool: asyncpg.Pool) -> dict[str, float | None]:
    size, idle = pool.get_size(), pool.get_idle_size()
    return {"poolSize": size, "poolBusy": size - idle}


async def _checks(
    supervisor: Supervisor,
    delivery: Delivery,
    outbox: Outbox,
    transport: Transport,
    sync: Sync,
    notes: Inbox | None,
) -> dict[str, dict[str, Any]]:
    """Each dependency's own view, for health."""
    dashboard = sync.health()
    mail = delivery.problem or await transport.ping()
    paused = {domain: until.isoformat() for domain, until in (await _paused(outbox)).items()}
    checks = {"inbox": _check(notes.problem)} if notes else {}
    return checks | {
        "dashboard": {"status": "running" if dashboard["healthy"] else "unhealthy", "details": dashboard},
        "mail": _check(mail, pausedDomains=paused),
        "loops": {
            "status": "running" if supervisor.healthy else "unhealthy",
            "details": supervisor.report(),
        },
    }


def _check(problem: str | None, **more: Any) -> dict[str, Any]:
    return {"status": "unhealthy" if problem else "running", "details": {"problem": problem, **more}}


async def _paused(outbox: Outbox) -> dict[str, datetime]:
    try:
        return await outbox.paused()
    except FAILURES:
        return {}  # health has a line of its own for our database


# ── Serving ─────────────────────────────────────────────────────────────────────────────────────────────────


async def listen(service: Service, *, inbox_page: bool = False) -> web.AppRunner:
    """Open the HTTP port. Raises ConfigurationError when it is taken."""
    settings = service.settings
    app = await service.web_app(inbox_page=inbox_page)
    http = web.AppRunner(app, access_log=None, keepalive_timeout=patience.HEAD)
    await http.setup()
    try:
        await web.TCPSite(http, settings.host, settings.port).start()
    except OSError as error:
        await http.cleanup()
        raise ConfigurationError(
            [f"PORT: cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another"]
        ) from None
    return http


def stop_on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT asks for a graceful end; the second ends the process at once."""
    loop = asyncio.get_running_loop()

    def asked(name: str) -> None:
        if stop.is_set():
            log.warning("second signal: ending at once", signal=name)
            os._exit(1)
        log.info("stopping", signal=name)
        stop.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, asked, sign.name)


def keep_what_is_loaded() -> None:
    """Take what the start has loaded out of the garbage collector's sight.

    To look it all through takes 80 ms each time, in which nobody is answered, and finds nothing.
    """
    gc.collect()
    gc.freeze()


async def serve(settings: Settings) -> None:
    """The service, until it is told to stop."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with open_service(settings) as service:
        if service.databases.sample:
            await sample.write(
                service.databases.dashboard, sample.people(1, (await service.ledger.now()).date())
            )
        http = await listen(service, inbox_page=settings.loopback)
        try:
            await service.manager.initialize()
            keep_what_is_loaded()
            log.info("serving", host=settings.host, port=settings.port, version=__version__)
            await stop.wait()
        finally:
            await service.manager.shutdown()
            await http.cleanup()


# ── Inside somebody else's application ──────────────────────────────────────────────────────────────────────

MANAGER: web.AppKey[JobManager] = web.AppKey("manager", JobManager)


async def jobs(app: web.Application) -> AsyncIterator[None]:
    """``app.cleanup_ctx.append(jobs)``: the jobs live as long as the application; see ``app[MANAGER]``."""
    async with open_service(Settings.load(also=problems_of)) as service:
        app[MANAGER] = service.manager
        await service.manager.initialize()
        yield
