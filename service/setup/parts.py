"""The parts of the service, made from the settings."""

import os
import secrets
import socket
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from email.utils import parseaddr
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from service import __version__
from service.analytics.maintenance import AnalyticsSettings
from service.clock import Clock
from service.dashboard.mongo import MongoSource, check_url
from service.dashboard.postgres import PostgresSource
from service.dashboard.profiles.mapping import profile_from_setting
from service.dashboard.profiles.shapes import PROFILES, Profile
from service.dashboard.server_metrics import dashboard_counters
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import Progress, SyncSettings
from service.engine.job import Job
from service.engine.runner import RunnerSettings
from service.errors import ConfigurationError
from service.jobs import all_jobs
from service.messages.choices import UnsubscribeByMail
from service.messages.delivery_rows import new_token
from service.messages.delivery_settings import DeliverySettings
from service.messages.kind import MessageKind, nudges, resendable
from service.messages.mail.bounce_intake import BounceIntake
from service.messages.mail.compose import Composer, Email, email_of
from service.messages.mail.dkim import DkimSigner
from service.messages.mail.maildir import MaildirTransport
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Transport
from service.messages.mail.verp import envelope_sender, require_room, unsubscribe_address
from service.messages.outbox import ClaimedDelivery
from service.messages.planner import PlannerSettings
from service.messages.reminder import kinds_of
from service.messages.suppression import Suppressions
from service.settings import Settings
from service.setup.databases import require_dashboard
from service.setup.timings import timings_of
from service.setup.ways_back import require_imap
from service.tracing import Tracing, tracing_of

log = structlog.get_logger()

_ANY_DELIVERY = 2**62


def source_of(url: str, settings: Settings, timeout: float = 5.0) -> Source:
    """The dashboard behind a URL. ``timeout``: seconds until it counts as unreachable."""
    ca_file = settings.dashboard_ca_file
    if url.lower().startswith("mongodb"):
        return MongoSource(url, database=settings.dashboard_database, timeout=timeout, ca_file=ca_file)
    return PostgresSource(url, timeout=timeout, pooler=settings.dashboard_pooler, ca_file=ca_file)


def sync_of(
    pool: asyncpg.Pool,
    url: str,
    settings: Settings,
    jobs: Mapping[str, Job],
    progress: Progress | None,
    owner: str,
) -> Sync:
    """The copy of the dashboard into our tables."""
    profile = profile_of(settings, kinds_of(jobs).values())
    sync_settings = SyncSettings(
        default_timezone=settings.default_timezone,
        schema="auto" if profile else settings.dashboard_schema,
        profile=profile,
        deadline_date_only=settings.deadline_date_only,
        session_tail=settings.session_tail,
        interval=settings.sync_interval_seconds,
        progress=progress,
        owner=owner,
        needs={job.name: job.needs for job in jobs.values()},
        change_stream=settings.dashboard_change_stream == "auto",
    )
    return Sync(pool, source_of(url, settings), sync_settings)


def profile_of(settings: Settings, kinds: Iterable[MessageKind]) -> Profile | None:
    """The profile of a mapping file; None for the built-in ones. Raises ConfigurationError."""
    preferences = [kind.dashboard_preference for kind in kinds]
    return profile_from_setting(settings.dashboard_schema, _mapping_file, preferences)


def _mapping_file(path: str) -> str:
    try:
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(
            [
                f"DASHBOARD_SCHEMA: cannot read {path}: {reason};"
                f" use auto, {', '.join(PROFILES)}, or the path of a mapping file"
            ]
        ) from None


def analytics_settings(settings: Settings) -> AnalyticsSettings:
    """Settings of statistics."""
    url = settings.dashboard_metrics_url
    return AnalyticsSettings(settings.service_timezone, partial(dashboard_counters, url) if url else None)


def planner_settings(
    settings: Settings, composer: Composer, kinds: Collection[MessageKind]
) -> PlannerSettings:
    """How messages are planned. Raises ConfigurationError for an UNCONFIRMED_POLICY that cannot be."""
    return PlannerSettings(
        mail_domain=composer.sender.rpartition("@")[2],
        resent=resent_kinds(settings, kinds),
        nudges=nudges(kinds),
        spread=timedelta(seconds=settings.mail_spread_seconds),
        to_dashboard=settings.in_app == "dashboard",
        message_id_secret=settings.bounce_secret.encode(),
    )


def delivery_settings(settings: Settings) -> DeliverySettings:
    """How fast mail is sent."""
    return DeliverySettings(
        connections=settings.smtp_connections, rate=settings.smtp_rate, limits=settings.domain_limits
    )


def resent_kinds(settings: Settings, kinds: Iterable[MessageKind]) -> frozenset[str]:
    """The names of the kinds of mail that are sent a second time when their receipt is unknown.

    Raises ConfigurationError for one that never may.
    """
    allowed = {name.lower(): name for name in resendable(kinds)}
    policy = settings.unconfirmed_policy
    if policy in {"hold", "resend"}:
        return frozenset(allowed.values() if policy == "resend" else ())
    names = {part.strip().lower() for part in policy.split(",") if part.strip()}
    if not names <= allowed.keys():
        raise ConfigurationError(
            [
                f"UNCONFIRMED_POLICY: {policy!r} must be hold, resend, or some of"
                f" {','.join(sorted(allowed.values()))}; nudges are never resent"
            ]
        )
    return frozenset(allowed[name] for name in names)


def runner_settings(settings: Settings) -> RunnerSettings:
    """How runs are carried out."""
    return RunnerSettings(
        rules=settings.rules,
        clock_zone=settings.service_timezone if settings.reminder_time_mode == "service" else None,
        jitter=timedelta(seconds=settings.claim_jitter_seconds),
    )


def transport_of(settings: Settings, clock: Clock) -> Transport:
    """SMTP, or the local inbox if no host is configured."""
    if not settings.smtp_host:
        return MaildirTransport(settings.data_dir / "inbox")
    return SmtpPool(smtp_config(settings), clock)


def relay_of(settings: Settings) -> str:
    """The name of the mail server, by which all processes that use it know it."""
    return f"{settings.smtp_host}:{settings.smtp_port}" if settings.smtp_host else "inbox"


def smtp_config(settings: Settings, connect_timeout: float = 30.0) -> SmtpConfig:
    """How mails are sent. ``connect_timeout``: seconds for each step up to the log-in."""
    ca_file = settings.smtp_ca_file
    return SmtpConfig(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_pass,
        connections=settings.smtp_connections,
        per_connection=settings.smtp_per_connection,
        connect_timeout=connect_timeout,
        ehlo=settings.smtp_ehlo_name,
        tls_context=ssl.create_default_context(cafile=ca_file) if ca_file else None,
    )


def composer_of(settings: Settings, kinds: Iterable[MessageKind]) -> Composer:
    """The composer of mails; raises ConfigurationError if the settings allow no valid mail.

    The same for the same settings: to compile the templates takes longer than the rest of a start, and the
    settings are checked with one before the service is made.
    """
    return _composer(
        settings.frontend_url,
        settings.public_base,
        settings.mail_from,
        tuple(kinds),
        reply_to=settings.mail_reply_to,
        bounce_address=settings.bounce_address,
        sender_id=settings.sender_id,
        signer=signer_of(settings),
    )


_composer = lru_cache(maxsize=4)(Composer)


def signer_of(settings: Settings) -> DkimSigner | None:
    """The DKIM signer, if a key is configured; raises ConfigurationError for an unusable one."""
    if not settings.dkim_key:
        return None
    domain = settings.dkim_domain or parseaddr(settings.mail_from)[1].rpartition("@")[2]
    return _signer(settings.dkim_key.encode(), domain, settings.dkim_selector)


_signer = lru_cache(maxsize=4)(DkimSigner.from_pem)


def envelope_senders(settings: Settings, sender: str) -> Callable[[int], str]:
    """The envelope sender of a delivery: one that names it if bounces are processed, else ``sender``.

    Raises ConfigurationError for an address that cannot hold a delivery's id.
    """
    if not settings.bounce_address:
        return lambda _delivery: sender
    base, secret = settings.bounce_address, settings.bounce_secret.encode()
    try:
        envelope_sender(base, _ANY_DELIVERY, secret)
        require_room(unsubscribe_address(base, new_token()), base)
    except ValueError as error:
        raise ConfigurationError([f"BOUNCE_ADDRESS: {error}"]) from None
    return lambda delivery: envelope_sender(base, delivery, secret)


def intake_of(
    settings: Settings, bounces: Suppressions, unsubscribe: UnsubscribeByMail
) -> BounceIntake | None:
    """Processes bounces, and mails that unsubscribe, if an address for them is configured."""
    if not settings.bounce_address:
        return None
    return BounceIntake(bounces, unsubscribe, settings.bounce_address, settings.bounce_secret.encode())


def email_of_delivery(claimed: ClaimedDelivery) -> Email:
    """The email of a delivery."""
    return email_of(partial(getattr, claimed))


def problems_of(settings: Settings) -> list[str]:
    """The problems of the settings that show without connecting to anything."""
    try:
        jobs = all_jobs(settings.job_packages)
    except ConfigurationError as error:
        jobs, problems = all_jobs(), list(error.problems)
    else:
        problems = []
    kinds = kinds_of(jobs).values()
    checks: list[Callable[[], Any]] = [
        lambda: require_dashboard(settings),
        lambda: timings_of(jobs, settings),
        lambda: resent_kinds(settings, kinds),
        lambda: envelope_senders(settings, composer_of(settings, kinds).sender),
        lambda: check_url(settings.dashboard_url),
        lambda: profile_of(settings, kinds),
        lambda: require_imap(settings),
    ]
    for check in checks:
        try:
            check()
        except ConfigurationError as error:
            problems += error.problems
    return problems


def tracing_for(settings: Settings, instance: str) -> Tracing:
    """Traces of the process of this name; raises ConfigurationError if the library for them is missing."""
    return tracing_of(settings.otel_exporter_otlp_endpoint, settings.otel_service_name, __version__, instance)


def replica_name() -> str:
    """A name for this process that no other process has, now or later."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
