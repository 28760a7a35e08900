"""The only reader of the environment. Every problem is reported, by name, at once."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service import url as urls
from service import zones
from service.archive.manifest import RetentionPolicy
from service.bounce_settings import BOUNCE_SECRETS, SHORTEST_SECRET, BounceSettings
from service.engine.postgres_url import DEFAULT_CONNECTIONS, FEWEST_CONNECTIONS, Pooler
from service.engine.run import JobRules
from service.environment import (
    CaFile,
    EhloName,
    about_others,
    misspelt,
    read_environment,
    schedule_problems,
)
from service.errors import ConfigurationError
from service.messages.limits import DomainLimits
from service.url import without_password

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 — compared with, not bound to
"""Where a service listens for everybody, and the address that this machine reaches it by."""
_TOKENS = ("admin_token", "viewer_token", "dashboard_token")
_SECRETS = frozenset((*_TOKENS, "smtp_pass", "dkim_key", *BOUNCE_SECRETS))
_WITH_SECRETS = (
    *("database_url", "dashboard_url", "dashboard_metrics_url", "otel_exporter_otlp_endpoint"),
    "bounce_imap_url",
)
"""URLs that may hold a password."""
_NEVER_QUOTED = _SECRETS | {*_WITH_SECRETS, "frontend_url", "public_url"}
_APART = {"together": False}
"""Validate each setting, not how they go together."""


class Settings(BounceSettings):
    """Everything that can be configured. Field names in capitals are the names of the variables."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # Where things are
    database_url: str = Field(default="", repr=False)
    """This service's PostgreSQL; empty: the embedded one below DATA_DIR."""
    dashboard_url: str = Field(default="", repr=False)
    """mongodb:// or postgresql://; empty: the sample dashboard."""
    dashboard_database: str = ""
    """Name of the MongoDB database where the URL names none."""
    database_pooler: Pooler = "auto"
    """transaction: DATABASE_URL leads to a pooler that lends connections by the transaction (PgBouncer)."""
    dashboard_pooler: Pooler = "auto"
    """The same for DASHBOARD_URL, if it is a PostgreSQL."""
    database_pool_size: int = Field(default=DEFAULT_CONNECTIONS, ge=FEWEST_CONNECTIONS, le=500)
    """The most connections of this process to our PostgreSQL."""
    database_pool_min_size: int = Field(default=1, ge=0, le=500)
    """How many of them are kept open while nothing happens."""
    database_ca_file: CaFile = None
    """PEM of the authority that signs the certificate of our PostgreSQL; it is then verified."""
    dashboard_ca_file: CaFile = None
    """The same for the dashboard's database."""
    dashboard_schema: str = "auto"
    """auto, A, B, J, or the path of a mapping file (TOML)."""
    data_dir: Path = Path("data")
    dashboard_metrics_url: str = Field(default="", repr=False)
    """Where the dashboard tells its own metrics as Prometheus text; empty: its answers are not measured."""
    frontend_url: str = "http://localhost:3000"
    """The dashboard's pages, to which links in mails lead; must be set where SMTP_HOST is."""
    public_url: str = ""
    """Where recipients reach this service; must be set where SMTP_HOST is; empty: http://HOST:PORT."""

    # HTTP
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_token: str = Field(default="", repr=False)
    viewer_token: str = Field(default="", repr=False)
    dashboard_token: str = Field(default="", repr=False)

    # Time
    service_timezone: str = "UTC"
    default_timezone: str = "UTC"
    reminder_time_mode: Literal["user", "service"] = "user"
    job_schedules: dict[str, str] = Field(default={})
    """JSON: job id or name to a cron expression, e.g. {"goalDeadlines": "30 8 * * *"}."""
    sweep_seconds: float = Field(default=10, ge=1, le=60)
    lease_seconds: float = Field(default=60, ge=5, le=3600)
    claim_jitter_seconds: float = Field(default=2, ge=0, le=300)
    shutdown_grace_seconds: float = Field(default=7, ge=0, le=600)

    # Reading the dashboard
    sync_interval_seconds: float = Field(default=120, ge=1)
    dashboard_change_stream: Literal["auto", "off"] = "auto"
    """auto: a MongoDB replica set tells what changed, at once; off: it is only asked."""
    deadline_date_only: Literal["auto", "never"] = "auto"
    session_tail: Literal["auto", "included", "excluded"] = "auto"

    # Mail
    smtp_host: str = ""
    """Empty: mails are written into the local inbox (Maildir) below DATA_DIR."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str = ""
    smtp_pass: str = Field(default="", repr=False)
    smtp_tls: Literal["auto", "none", "starttls", "tls"] = "auto"
    smtp_ca_file: CaFile = None
    """PEM of the private authority that signs the mail server's certificate."""
    smtp_ehlo: EhloName = ""
    """The host name that we say to the mail server; empty: the domain of MAIL_FROM."""
    smtp_connections: int = Field(default=10, ge=1, le=100)
    smtp_per_connection: int = Field(default=100, ge=1)
    """Mails over one connection; Exim only queues what exceeds ten (smtp_accept_queue_per_connection)."""
    smtp_rate: float = Field(default=0, ge=0)
    """Messages per second at most; 0: no limit."""
    smtp_domain_limits: str = "*=5/0"
    """domain=mails at once/mails per second, e.g. gmail.com=5/20,*=10/0; 0: no limit; *: all others."""
    mail_from: str = "Dashboard <reminders@localhost>"
    mail_reply_to: str = ""
    sender_id: str = "dashboard"
    unconfirmed_policy: str = "hold"
    """hold, resend (deadlines and reports), or the kinds to resend: deadlines,weekly,monthly."""
    extra_jobs: str = ""
    """Packages outside this one that bring further jobs, e.g. acme_jobs."""
    dkim_domain: str = ""
    """Empty: mails are not signed. The d= of signatures: the domain of MAIL_FROM or a parent of it."""
    dkim_selector: str = ""
    dkim_key: str = Field(default="", repr=False)
    """PEM of an RSA (2048 bits or more) or Ed25519 key; better by DKIM_KEY_FILE."""
    mail_spread_seconds: float = Field(default=0, ge=0, le=600)
    """Mails of one slot are spread over so many seconds."""

    # Reminders
    in_app: Literal["service", "dashboard"] = "service"
    """Where in-app notifications are kept: here, served by the API, or in the dashboard's own inbox too."""
    daily_check_days: str = "mon,tue,wed,thu,fri,sat,sun"
    inactive_steps: str = "3,7,14"

    # Keeping
    analytics_retention_days: int = Field(default=365, ge=30, le=36_500)
    """Days that hourly, behaviour and performance figures are kept."""
    cleanup_interval_days: int = Field(default=180, ge=30, le=36_500)
    """Age in days, by their end, at which the dashboard's sessions are archived."""
    cleanup_mode: Literal["report", "archive"] = "report"

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    # Traces
    otel_exporter_otlp_endpoint: str = Field(default="", repr=False)
    """Base address of an OpenTelemetry collector (OTLP/HTTP); empty: nothing is traced."""
    otel_service_name: str = "dashboard-jobs"

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return {"warn": "warning"}.get(value.lower(), value.lower()) if isinstance(value, str) else value

    @field_validator("service_timezone", "default_timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        name = zones.canonical_name(value)
        if name is None:
            raise ValueError(f"{value!r} is not an IANA zone; use a name like Europe/Berlin")
        return zones.current_name(name)

    @field_validator("frontend_url", "public_url")
    @classmethod
    def _link(cls, value: str) -> str:
        if value and (problem := urls.link_problem(value)):
            raise ValueError(problem)
        return value.rstrip("/")

    @field_validator("public_url", "dashboard_metrics_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _web_address(cls, value: str, info: ValidationInfo) -> str:
        """To most of them a path is added at the end."""
        url = urls.web(value) if value else None
        queried = url is not None and url.query is not None and info.field_name != "dashboard_metrics_url"
        if url and (queried or url.fragment is not None):
            raise ValueError("must end before ? and #: name the address alone; its value is not shown")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _our_database(cls, value: str) -> str:
        if value:
            otherwise = "must start with postgresql://, or be empty for the embedded PostgreSQL"
            urls.database(value, urls.POSTGRESQL, otherwise)
        return value

    @field_validator("dashboard_url")
    @classmethod
    def _dashboard(cls, value: str) -> str:
        if value:
            otherwise = "must start with mongodb:// or postgresql://, or be empty for the sample dashboard"
            urls.database(value, (*urls.MONGODB, *urls.POSTGRESQL), otherwise)
        return value

    @field_validator("mail_from", "mail_reply_to")
    @classmethod
    def _mailbox(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if value and (
            address.count("@") != 1 or any(c in value for c in "\r\n\0") or not value.isprintable()
        ):
            raise ValueError(f"{value!r} is not a mailbox; use one like Dashboard <reminders@example.org>")
        return value

    @field_validator("job_schedules")
    @classmethod
    def _schedules(cls, value: dict[str, str]) -> dict[str, str]:
        if problems := list(schedule_problems(value).values()):
            raise ValueError("; ".join(problems))
        return value

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> "Settings":
        if info.context != _APART and (problems := self._contradictions()):
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> list[str]:
        """What is wrong with settings that are right one by one; a sentence each."""
        problems = [*self._of_tokens(), *self._of_links()]
        if self.dashboard_url and self._names_no_database:
            problems.append(
                "DASHBOARD_URL: names no database; end it with /name, before any ?, or set DASHBOARD_DATABASE"
            )
        if self.database_pool_min_size > self.database_pool_size:
            problems.append(
                f"DATABASE_POOL_MIN_SIZE ({self.database_pool_min_size}) is larger than"
                f" DATABASE_POOL_SIZE ({self.database_pool_size}); lower it, or raise the other"
            )
        if self.smtp_host and self.smtp_ca_file and self.smtp_security == "none":
            problems.append("SMTP_CA_FILE: there is no certificate without TLS; set SMTP_TLS=starttls or tls")
        if bool(self.dkim_key) != bool(self.dkim_selector):
            problems.append("DKIM_KEY and DKIM_SELECTOR go together: set both, or neither to send unsigned")
        return [*problems, *self.bounce_problems()]

    def _of_tokens(self) -> list[str]:
        tokens = {name.upper(): token for name in _TOKENS if (token := getattr(self, name))}
        short = [name for name, token in tokens.items() if len(token) < SHORTEST_SECRET and not self.loopback]
        problems = [
            f"{name}: needs {SHORTEST_SECRET} characters or more where HOST is not this machine alone"
            for name in short
        ]
        if len(set(tokens.values())) != len(tokens):
            problems.append("ADMIN_TOKEN, VIEWER_TOKEN and DASHBOARD_TOKEN must differ from each other")
        return problems

    def _of_links(self) -> list[str]:
        """Mails that leave this machine, also through a relay on it, need links that work elsewhere."""
        problems = []
        for name, example in (("FRONTEND_URL", "dashboard"), ("PUBLIC_URL", "jobs")):
            value = getattr(self, name.lower())
            chosen = bool(value) and name.lower() in self.model_fields_set
            if self.smtp_host and not chosen:
                problems.append(
                    f"{name}: must be set where SMTP_HOST is, because links in mails lead there;"
                    f" use an address like https://{example}.example.org"
                )
            elif chosen and (self.smtp_host or name == "PUBLIC_URL") and urls.needs_https(value):
                problems.append(f"{name}: must be https; http will do for this machine only (localhost)")
        return problems

    @property
    def _names_no_database(self) -> bool:
        url = urls.parse(self.dashboard_url)
        mongodb = url is not None and url.scheme in urls.MONGODB
        return mongodb and url is not None and url.path in {"", "/"} and not self.dashboard_database

    @field_validator("daily_check_days")
    @classmethod
    def _weekdays(cls, value: str) -> str:
        unknown = [day for day in _listed(value) if day not in _WEEKDAYS]
        if unknown or not value.strip():
            raise ValueError(f"{value!r} is not a list of weekdays; use one like mon,tue,wed,thu,fri")
        return value

    @field_validator("inactive_steps")
    @classmethod
    def _steps(cls, value: str) -> str:
        steps = [int(step) if step.isdigit() else 0 for step in _listed(value)]
        if not steps or steps != sorted(set(steps)) or not 1 <= steps[0] <= steps[-1] <= 21:
            raise ValueError(f"{value!r} must be rising days between 1 and 21; use 3,7,14")
        return value

    @field_validator("smtp_domain_limits")
    @classmethod
    def _domain_limits(cls, value: str) -> str:
        DomainLimits.parse(value)
        return value

    @property
    def domain_limits(self) -> DomainLimits:
        """How much mail each recipient's domain is sent."""
        return DomainLimits.parse(self.smtp_domain_limits)

    @property
    def job_packages(self) -> tuple[str, ...]:
        """The packages that bring further jobs."""
        return tuple(part.strip() for part in self.extra_jobs.split(",") if part.strip())

    @property
    def rules(self) -> JobRules:
        """What may be tuned in the rules of the reminders."""
        return JobRules(
            frozenset(_WEEKDAYS.index(day) for day in _listed(self.daily_check_days)),
            tuple(int(step) for step in _listed(self.inactive_steps)),
        )

    @property
    def keeping(self) -> RetentionPolicy:
        """How long things are kept."""
        return RetentionPolicy(
            self.cleanup_mode,
            timedelta(days=self.cleanup_interval_days),
            timedelta(days=self.analytics_retention_days),
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in _LOOPBACK

    @property
    def public_base(self) -> str:
        """The base of the unsubscribe and preference links."""
        return self.public_url or self.own_base

    @property
    def own_base(self) -> str:
        """Where this machine reaches the service."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def smtp_is_local(self) -> bool:
        """Whether the mail server is on this machine."""
        return self.smtp_host in _LOOPBACK

    @property
    def smtp_ehlo_name(self) -> str:
        """The host name for EHLO."""
        return self.smtp_ehlo or parseaddr(self.mail_from)[1].rpartition("@")[2]

    @property
    def smtp_security(self) -> Literal["none", "starttls", "tls"]:
        """``auto``: TLS from the start on port 465, STARTTLS elsewhere, plain to this machine."""
        if self.smtp_tls != "auto":
            return self.smtp_tls
        if self.smtp_port == 465:
            return "tls"
        return "none" if self.smtp_is_local else "starttls"

    def tokens(self) -> dict[str, str]:
        """Bearer token to role."""
        found = {name.removesuffix("_token"): getattr(self, name) for name in _TOKENS}
        return {token: role for role, token in found.items() if token}

    def described(self) -> dict[str, Any]:
        """The configuration without its secrets, for people to read."""
        shown = self.model_dump(mode="json")
        for name in _SECRETS:
            shown[name] = "(set)" if shown[name] else ""
        for name in _WITH_SECRETS:
            shown[name] = without_password(shown[name])
        return shown

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        also: Callable[["Settings"], Iterable[str]] = lambda _settings: (),
        **overrides: Any,
    ) -> "Settings":
        """Read the environment (``NAME_FILE`` holds the path of a file with the value of ``NAME``).

        ``also`` finds further problems. Raises ConfigurationError naming every problem.
        """
        values, problems = read_environment(cls.model_fields, os.environ if environ is None else environ)
        values |= overrides
        try:
            settings = cls.model_validate(values, context=_APART)
        except ValidationError as error:
            problems += map(_sentence, error.errors())
            wrong = {detail["loc"][0] for detail in error.errors()}
            sound = {name: value for name, value in values.items() if name not in wrong}
            settings = cls.model_validate(sound, context=_APART)  # what else is wrong is told too
        problems += about_others(problems, settings._contradictions())
        problems += about_others(problems, also(settings))
        if problems:
            raise ConfigurationError(problems)
        return settings


def unread(environ: Mapping[str, str] | None = None) -> list[str]:
    """Hints at variables that nothing reads and that look like misspelt ones of ours."""
    return misspelt(map(str.upper, Settings.model_fields), os.environ if environ is None else environ)


def _listed(value: str) -> list[str]:
    return [part.strip().lower() for part in value.split(",") if part.strip()]


def _sentence(detail: Any) -> str:
    name, value = str(detail["loc"][0]), detail["input"]
    words = detail["msg"].removeprefix("Value error, ")
    if detail["type"] != "value_error" and isinstance(value, str) and _may_be_quoted(name, value):
        words = f"{words}, not {value!r}"
        if value.startswith("tcp://"):
            words += "; Kubernetes set it for a service of that name: set it, or enableServiceLinks: false"
    return f"{name.upper()}: {words}"


def _may_be_quoted(name: str, value: str) -> bool:
    """A value may have slipped into the wrong variable; nothing that could log in somewhere is quoted."""
    return name not in _NEVER_QUOTED and "@" not in value
