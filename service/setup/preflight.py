"""What ``check-config`` finds out by connecting: each database, the mail server and the folders, all at once.

A check changes nothing, returns sentences, and is given up after ``TIMEOUT`` seconds.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import asyncpg

from service import connection_errors, zones
from service.clock import SystemClock
from service.engine import postgres_errors, postgres_url, queries, schema, zone_table
from service.engine.database_errors import FAILURES
from service.engine.postgres_errors import Server
from service.errors import ConfigurationError, ServiceError
from service.messages.kind import MessageKind
from service.messages.mail.smtp import SmtpPool
from service.settings import Settings
from service.setup.dashboard_check import check_dashboard
from service.setup.databases import connection_warning
from service.setup.findings import Findings
from service.setup.parts import smtp_config
from service.setup.ways_back import imap_problem

TIMEOUT = 5.0
"""Seconds for each check; a server that has not answered one second before counts as unreachable."""
_CONNECT = TIMEOUT - 1
_OLDEST = 150_000
_CLOCKS_APART = 2.0
_SQL = queries.load(__file__)


Check = Callable[[Settings, Findings], Awaitable[None]]


async def check_connections(settings: Settings, kinds: Collection[MessageKind]) -> dict[str, Findings]:
    """The findings of each check, by its name."""

    async def dashboard(settings: Settings, findings: Findings) -> None:
        await check_dashboard(settings, kinds, findings, _CONNECT)

    checks: dict[str, Check] = {
        "ledger": check_ledger,
        "dashboard": dashboard,
        "mail": check_mail,
        "bounces": check_bounces,
        "folders": check_folders,
    }
    findings = await asyncio.gather(*(_bounded(name, check, settings) for name, check in checks.items()))
    return dict(zip(checks, findings, strict=True))


async def _bounded(name: str, check: Check, settings: Settings) -> Findings:
    findings = Findings()
    try:
        async with asyncio.timeout(TIMEOUT):
            await check(settings, findings)
    except TimeoutError:
        findings.problems.append(
            f"{name}: the check has not ended after {TIMEOUT:.0f} s; look for load there"
        )
    except ConfigurationError as error:
        findings.problems += error.problems
    except ServiceError as error:
        findings.problems.append(str(error))
    return findings


# ── Our PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────


async def check_ledger(settings: Settings, findings: Findings) -> None:
    """Our PostgreSQL: version, rights, schema, clock."""
    if not settings.database_url:
        findings.facts.append("DATABASE_URL is empty: the embedded PostgreSQL, which is not started now")
        return
    server = Server("DATABASE", settings.database_url)
    try:
        target = postgres_url.read(settings.database_url, settings.database_pooler, settings.database_ca_file)
        findings.warnings += [f"DATABASE_URL: {warning}" for warning in target.warnings]
        connection = await asyncpg.connect(target.url, timeout=_CONNECT, **target.options({}))
        try:
            pooler = ", through a pooler" if target.pooled else ""
            await _inspect_ledger(connection, server, findings, pooler)
            if limit := await connection_warning(connection, settings.database_pool_size):
                findings.warnings.append(f"DATABASE_URL: {limit}")
        finally:
            connection.terminate()
    except FAILURES as error:
        findings.problems.append(postgres_errors.describe(error, server))


async def _inspect_ledger(
    connection: asyncpg.Connection, server: Server, findings: Findings, pooler: str
) -> None:
    clock = SystemClock()
    asked_at = clock.now()
    row = await connection.fetchrow(_SQL["server"])
    assert row
    middle = asked_at + (clock.now() - asked_at) / 2
    findings.facts.append(f"{server.place}{pooler}: version {row['version_name']}")
    findings.problems += [f"{server.prefix}_URL: {server.place} {text}" for text in _ledger_problems(row)]
    if apart := _clock_warning((row["clock"] - middle).total_seconds()):
        findings.warnings.append(apart)
    if row["schema_exists"] and row["may_use_schema"]:
        findings.problems += await _schema_problems(connection, row["role"], findings)
        await _compare_zone_data(connection, findings)


def _ledger_problems(row: asyncpg.Record) -> list[str]:
    """What prevents a start; a sentence each, without its subject."""
    database, role = row["database"], row["role"]
    problems = []
    if row["version"] < _OLDEST:
        problems.append(f"is too old: version {row['version_name']}; 15 is the oldest that works")
    if row["read_only"]:
        problems.append("is read-only; let the URL lead to the primary")
    if not row["may_temporary"]:
        problems.append(
            f'lets {role} make no temporary tables; GRANT TEMP ON DATABASE "{database}" TO "{role}"'
        )
    if not row["schema_exists"] and not row["may_create"]:
        problems.append(
            f"has no schema service, and {role} may not create it;"
            f' CREATE SCHEMA service AUTHORIZATION "{role}"'
        )
    if row["schema_exists"] and not row["may_use_schema"]:
        problems.append(
            f'does not let {role} use the schema service; GRANT ALL ON SCHEMA service TO "{role}"'
        )
    return problems


async def _schema_problems(connection: asyncpg.Connection, role: str, findings: Findings) -> list[str]:
    schema_range = await schema.read_range(connection)
    if schema_range.version < schema.SCHEMA:
        findings.facts.append(f"schema {schema_range.version}; the start migrates it to {schema.SCHEMA}")
    else:
        findings.facts.append(f"schema {schema_range.version}")
    problems = [f"DATABASE_URL: {problem}"] if (problem := schema_range.problem) else []
    if refused := [row["name"] for row in await connection.fetch(_SQL["refused_tables"])]:
        problems.append(
            f"DATABASE_URL: {role} may not read and write {len(refused)} tables of the schema service"
            f' ({refused[0]}, …); GRANT ALL ON ALL TABLES IN SCHEMA service TO "{role}"'
        )
    return problems


async def _compare_zone_data(connection: asyncpg.Connection, findings: Findings) -> None:
    """Slots go by this machine's data, local dates by the database's: the newest that any process had."""
    ours = zones.version()
    filled = await connection.fetchval(_SQL["zones_filled"])
    theirs = await zone_table.stored_version(connection) if filled else None
    if theirs is not None and theirs > ours:
        findings.warnings.append(
            f"time zones: this machine has data {ours}, another process has {theirs}; update tzdata here"
        )
    elif theirs != ours:
        findings.facts.append(f"time zones: data {theirs or 'of no version'}; the start brings {ours}")
    else:
        findings.facts.append(f"time zones: data {ours}")


def _clock_warning(apart: float) -> str | None:
    if abs(apart) <= _CLOCKS_APART:
        return None
    return (
        f"the clock of our PostgreSQL is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this"
        " machine's; everything is due by the database's: synchronise both (NTP)"
    )


# ── Mail ────────────────────────────────────────────────────────────────────────────────────────────────────


async def check_mail(settings: Settings, findings: Findings) -> None:
    """The mail server, up to the log-in; nothing is sent."""
    if not settings.smtp_host:
        findings.facts.append("SMTP_HOST is empty: mails are written into the local inbox")
        return
    place = f"{settings.smtp_host}:{settings.smtp_port}"
    config = smtp_config(settings, connect_timeout=_CONNECT)
    if settings.smtp_user and config.security == "none" and not settings.smtp_is_local:
        findings.warnings.append(
            "SMTP_TLS: the password goes to the mail server unencrypted; use starttls or tls"
        )
    pool = SmtpPool(config, SystemClock())
    try:
        refusal = await pool.ping()
    finally:
        await pool.close()
    if refusal:
        findings.problems.append(f"SMTP_HOST: {place} {_mail_problem(refusal, settings)}")
    else:
        login = f", logged in as {settings.smtp_user}" if settings.smtp_user else ""
        findings.facts.append(f"{place}: {config.security}{login}")


def _mail_problem(refusal: str, settings: Settings) -> str:
    """``refusal``: phase, code and words of the server or of the network."""
    text = refusal.lower()
    if refusal.startswith("auth") and "not supported" not in text:
        return "refuses SMTP_USER or SMTP_PASS; check both"
    if "not supported" in text and ("auth" in text or "login" in text):
        return "offers no log-in on this connection; set SMTP_TLS=starttls or tls, or leave SMTP_USER empty"
    if "starttls" in text and "not supported" in text:
        return (
            "does not offer STARTTLS; set SMTP_TLS=tls (usually port 465), or none inside a trusted network"
        )
    if reason := connection_errors.reason(refusal, "SMTP_CA_FILE"):
        return reason.replace("the URL", "SMTP_TLS")
    if "unexpected eof" in text or "connection lost" in text or "closed" in text:
        return "closes the connection at once; check SMTP_PORT and SMTP_TLS (tls: usually port 465)"
    shown = "" if settings.smtp_pass and settings.smtp_pass in refusal else f": {refusal}"
    return f"refuses us{shown}"


async def check_bounces(settings: Settings, findings: Findings) -> None:
    """The mailbox of bounces on an IMAP server; nothing is read."""
    if settings.bounce_imap_url and settings.bounce_address:
        if problem := await imap_problem(settings, _CONNECT):
            findings.problems.append(f"BOUNCE_IMAP_URL: {problem}")
        else:
            findings.facts.append("BOUNCE_IMAP_URL: logged in, and opened the folder")


# ── Folders ─────────────────────────────────────────────────────────────────────────────────────────────────


async def check_folders(settings: Settings, findings: Findings) -> None:
    """The folders that the service writes: the archive, and the local inbox without a mail server."""
    folders = {"the archive": settings.data_dir / "archive"}
    if not settings.smtp_host:
        folders["the local inbox"] = settings.data_dir / "inbox"
    for name, folder in folders.items():
        if problem := _folder_problem(folder):
            findings.problems.append(f"DATA_DIR: {name} cannot be written: {problem}")
        else:
            findings.facts.append(f"{name}: {folder}")
    if settings.bounce_maildir and not os.access(settings.bounce_maildir, os.R_OK | os.W_OK | os.X_OK):
        findings.problems.append(
            f"BOUNCE_MAILDIR: {settings.bounce_maildir} cannot be read and written by this process;"
            " create it, or allow it to the user that the service runs as"
        )


def _folder_problem(folder: Path) -> str | None:
    """Why the folder cannot be made or written; None: it can."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return f"{nearest} is a file; remove it, or choose another folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"this process may not write to {nearest}; allow it to the user that the service runs as"
    return None
