"""The only reader of the environment. Every problem is reported, by name, at once."""

import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.domain import zones
from service.domain.archive import Keeping
from service.domain.contact import MAY_BE_RESENT
from service.domain.limits import Limits
from service.domain.run import Rules
from service.domain.schedule import Schedule
from service.errors import ConfigurationError, ScheduleError

_SECRET = 16
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Settings(BaseModel):
    """Everything that can be configured. Field names in capitals are the names of the variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Where things are
    database_url: str = ""
    """This service's PostgreSQL; empty: the embedded one below DATA_DIR."""
    dashboard_url: str = ""
    """mongodb:// or postgresql://; empty: the sample dashboard."""
    dashboard_database: str = ""
    """Name of the MongoDB database where the URL names none."""
    dashboard_schema: str = "auto"
    """auto, A, B, J, or the path of a mapping file (TOML)."""
    data_dir: Path = Path("data")
    dashboard_metrics_url: str = ""
    """Where the dashboard tells its own metrics as Prometheus text; empty: its answers are not measured."""
    frontend_url: str = "http://localhost:3000"
    public_url: str = ""
    """Where recipients reach this service; empty: http://HOST:PORT."""

    # HTTP
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_token: str = ""
    viewer_token: str = ""
    dashboard_token: str = ""

    # Time
    service_timezone: str = "UTC"
    default_timezone: str = "UTC"
    reminder_time_mode: Literal["user", "service"] = "user"
    job_schedules: dict[str, str] = {}
    """JSON: job id or name to a cron expression, e.g. {"goalDeadlines": "30 8 * * *"}."""
    sweep_seconds: float = Field(default=10, ge=1, le=60)
    lease_seconds: float = Field(default=60, ge=5, le=3600)
    claim_jitter_seconds: float = Field(default=2, ge=0, le=300)
    shutdown_grace_seconds: float = Field(default=20, ge=0, le=600)

    # Reading the dashboard
    sync_interval_seconds: float = Field(default=120, ge=1)
    deadline_date_only: Literal["auto", "never"] = "auto"
    session_tail: Literal["auto", "included", "excluded"] = "auto"

    # Mail
    smtp_host: str = ""
    """Empty: mails are written into the local inbox (Maildir) below DATA_DIR."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str = ""
    smtp_pass: str = ""
    smtp_tls: Literal["auto", "none", "starttls", "tls"] = "auto"
    smtp_connections: int = Field(default=10, ge=1, le=100)
    smtp_per_connection: int = Field(default=100, ge=1)
    smtp_rate: float = Field(default=0, ge=0)
    """Messages per second at most; 0: no limit."""
    smtp_domain_limits: str = "*=5/0"
    """domain=mails at once/mails per second, e.g. gmail.com=5/20,*=10/0; 0: no limit; *: all others."""
    mail_from: str = "Dashboard <reminders@localhost>"
    mail_reply_to: str = ""
    sender_id: str = "dashboard"
    unconfirmed_policy: str = "hold"
    """hold, resend (deadlines and reports), or the kinds to resend: deadlines,weekly,monthly."""
    dkim_domain: str = ""
    """Empty: mails are not signed. The d= of signatures: the domain of MAIL_FROM or a parent of it."""
    dkim_selector: str = ""
    dkim_key: str = ""
    """PEM of an RSA (2048 bits or more) or Ed25519 key; better by DKIM_KEY_FILE."""
    bounce_address: str = ""
    """Where bounces go, e.g. bounce@example.org; senders name their delivery (VERP). Empty: none."""
    bounce_secret: str = ""
    """Signs the names of deliveries in bounce addresses; the same on all replicas, for ever."""
    bounce_maildir: Path | None = None
    """A Maildir that receives what is sent to BOUNCE_ADDRESS; read every minute."""
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
    otel_exporter_otlp_endpoint: str = ""
    """Base address of an OpenTelemetry collector (OTLP/HTTP); empty: nothing is traced."""
    otel_service_name: str = "dashboard-jobs"

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return {"warn": "warning"}.get(value.lower(), value.lower()) if isinstance(value, str) else value

    @field_validator("service_timezone", "default_timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        name = zones.spelled(value)
        if name is None:
            raise ValueError(f"{value!r} is not an IANA zone; use a name like Europe/Berlin")
        return zones.used(name)

    @field_validator("frontend_url", "public_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _web_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.netloc):
            raise ValueError(f"{value!r} is not a web address; use one like https://dashboard.example")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _our_database(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"postgresql", "postgres"}:
            raise ValueError("must start with postgresql://, or be empty for the embedded PostgreSQL")
        return value

    @field_validator("dashboard_url")
    @classmethod
    def _dashboard(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"mongodb", "mongodb+srv", "postgresql", "postgres"}:
            raise ValueError(
                "must start with mongodb:// or postgresql://, or be empty for the sample dashboard"
            )
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
        problems = []
        for job, expression in value.items():
            try:
                Schedule.parse(expression)
            except ScheduleError as error:
                problems.append(f"{job}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @model_validator(mode="after")
    def _together(self) -> "Settings":
        problems = []
        tokens = [t for t in (self.admin_token, self.viewer_token, self.dashboard_token) if t]
        if len(set(tokens)) != len(tokens):
            problems.append("ADMIN_TOKEN, VIEWER_TOKEN and DASHBOARD_TOKEN must differ from each other")
        if bool(self.dkim_key) != bool(self.dkim_selector):
            problems.append("DKIM_KEY and DKIM_SELECTOR go together: set both, or neither to send unsigned")
        if self.bounce_address and len(self.bounce_secret) < _SECRET:
            problems.append(f"BOUNCE_SECRET needs {_SECRET} characters or more where BOUNCE_ADDRESS is set")
        if self.bounce_maildir and not self.bounce_address:
            problems.append("BOUNCE_MAILDIR: bounces are recognised by BOUNCE_ADDRESS; set it too")
        if problems:
            raise ValueError("; ".join(problems))
        return self

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

    @field_validator("unconfirmed_policy")
    @classmethod
    def _policy(cls, value: str) -> str:
        if value not in {"hold", "resend"} and not set(_listed(value)) <= MAY_BE_RESENT:
            kinds = ",".join(sorted(MAY_BE_RESENT))
            raise ValueError(f"{value!r} must be hold, resend, or some of {kinds}; nudges are never resent")
        return value

    @field_validator("smtp_domain_limits")
    @classmethod
    def _domain_limits(cls, value: str) -> str:
        Limits.parse(value)
        return value

    @property
    def domain_limits(self) -> Limits:
        """How much mail each recipient's domain is sent."""
        return Limits.parse(self.smtp_domain_limits)

    @property
    def resent_kinds(self) -> frozenset[str]:
        """The kinds of mail that are sent a second time when their receipt is unknown."""
        named = {"hold": frozenset[str](), "resend": frozenset(map(str, MAY_BE_RESENT))}
        return named.get(self.unconfirmed_policy, frozenset(_listed(self.unconfirmed_policy)))

    @property
    def rules(self) -> Rules:
        """What may be tuned in the rules of the reminders."""
        return Rules(
            frozenset(_WEEKDAYS.index(day) for day in _listed(self.daily_check_days)),
            tuple(int(step) for step in _listed(self.inactive_steps)),
        )

    @property
    def keeping(self) -> Keeping:
        """How long things are kept."""
        return Keeping(
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
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def smtp_security(self) -> Literal["none", "starttls", "tls"]:
        """``auto``: TLS from the start on port 465, STARTTLS elsewhere, plain to this machine."""
        if self.smtp_tls != "auto":
            return self.smtp_tls
        if self.smtp_port == 465:
            return "tls"
        return "none" if self.smtp_host in _LOOPBACK else "starttls"

    def tokens(self) -> dict[str, str]:
        """Bearer token to role."""
        pairs = (
            (self.admin_token, "admin"),
            (self.viewer_token, "viewer"),
            (self.dashboard_token, "dashboard"),
        )
        return {token: role for token, role in pairs if token}

    def described(self) -> dict[str, Any]:
        """The configuration without its secrets, for people to read."""
        secret = {"admin_token", "viewer_token", "dashboard_token", "smtp_pass", "dkim_key", "bounce_secret"}
        shown = self.model_dump(mode="json")
        for name in secret:
            shown[name] = "(set)" if shown[name] else ""
        for name in ("database_url", "dashboard_url", "dashboard_metrics_url", "otel_exporter_otlp_endpoint"):
            shown[name] = without_password(shown[name])
        return shown

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Read the environment (``NAME_FILE`` holds the path of a file with the value of ``NAME``).

        Raises ConfigurationError naming every problem.
        """
        source = os.environ if environ is None else environ
        values, problems = _from_environment(cls, source)
        try:
            settings = cls.model_validate({**values, **overrides})
        except ValidationError as error:
            problems += [_sentence(detail) for detail in error.errors()]
            raise ConfigurationError(problems) from None
        if problems:
            raise ConfigurationError(problems)
        return settings


def _listed(value: str) -> list[str]:
    return [part.strip().lower() for part in value.split(",") if part.strip()]


def without_password(url: str) -> str:
    """An address that may be shown: neither its password nor one among its parameters."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    place = f"{parts.username}:***@{host}" if parts.password else parts.netloc
    query = re.sub(r"(?i)([^&=]*(?:password|token|secret|key)[^&=]*)=[^&]*", r"\1=***", parts.query)
    if (place, query) == (parts.netloc, parts.query):
        return url
    return parts._replace(netloc=place, query=query).geturl()


def _from_environment(cls: type[Settings], source: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name in cls.model_fields:
        variable = name.upper()
        value = source.get(variable, "")
        if path := source.get(f"{variable}_FILE"):
            if value:
                problems.append(f"{variable}: set either {variable} or {variable}_FILE, not both")
            try:
                value = Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{variable}_FILE: cannot read {path}: {getattr(error, 'strerror', error)}")
        if value == "":
            continue
        values[name] = value
        if name == "job_schedules":
            try:
                values[name] = json.loads(value)
            except ValueError as error:
                problems.append(f'{variable}: not JSON ({error}); use {{"goalDeadlines": "0 9 * * *"}}')
                del values[name]
    return values, problems


def _sentence(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"]).upper() or "CONFIGURATION"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')}"
