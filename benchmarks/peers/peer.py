"""Installing and running one peer.

A peer is a script with three tasks: ``migrate`` makes its tables; ``prepare`` queues a mail for each person,
and prints how many seconds that took; ``send`` sends all that is queued, and may end then. It reads
RECIPIENTS (a file: a line of JSON for each person), TEMPLATE (a file of JSON: subject, text, html),
SMTP_PORT, CONNECTIONS (for each process), PROCESSES, and libpq's variables.
"""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.mail_server import NotedMails, noting_mail_server
from benchmarks.postgres_cost import PostgresMeter
from benchmarks.service_run import connected, named, rates

CONNECTIONS = 10
_POLL = 0.02
_STANDSTILL = 120.0


class CannotInstall(Exception):
    """A package of the peer cannot be had here; why, in a line."""


@dataclass(frozen=True)
class Peer:
    """``install`` puts it into a folder of its own, and returns the command of its script.

    ``forks``: it starts its processes itself.
    """

    name: str
    install: Callable[[Path], Sequence[str]]
    forks: bool


@dataclass(frozen=True)
class InstalledPeer:
    """A peer with the command of its script."""

    peer: Peer
    command: Sequence[str]


@dataclass(frozen=True)
class PeerPlace:
    """Where peers run. ``server``: DSN of the PostgreSQL server. ``mails``: how many there are."""

    folder: Path
    server: str
    recipients: Path
    template: Path
    mails: int


def installed(command: Sequence[str], folder: Path) -> None:
    """Run a package client. Raises CannotInstall."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotInstall(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["?"]
        raise CannotInstall(f"{Path(command[0]).name}: {lines[-1]}")


async def measure(place: PeerPlace, one: InstalledPeer, processes: int) -> dict[str, float]:
    """Queue and send all mails by so many processes, in a database of its own."""
    database = "peer"
    async with connected(place.server) as server:
        await server.execute(f'CREATE DATABASE "{database}"')
        try:
            with noting_mail_server(place.folder) as mails:
                meter, dsn = PostgresMeter(server), named(place.server, database)
                return await _measure(place, one, processes, dsn, mails, meter)
        finally:
            await server.execute(f'DROP DATABASE "{database}" WITH (FORCE)')


async def _measure(
    place: PeerPlace,
    one: InstalledPeer,
    processes: int,
    dsn: str,
    mails: NotedMails,
    meter: PostgresMeter,
) -> dict[str, float]:
    environ = {
        **os.environ, **_libpq(dsn), "SMTP_PORT": str(mails.port), "CONNECTIONS": str(CONNECTIONS),
        "PROCESSES": str(processes), "RECIPIENTS": str(place.recipients), "TEMPLATE": str(place.template),
    }  # fmt: skip
    await _output(one.command, "migrate", environ)
    before = _ended_children_cpu() + (await meter.read()).cpu
    prepared = float(await _output(one.command, "prepare", environ))
    async with connected(dsn) as connection:
        await connection.execute("ANALYZE")
    count = 1 if one.peer.forks else processes
    senders = [await _start(one.command, "send", environ, place.folder) for _ in range(count)]
    try:
        await _until_sent(place.mails, mails, senders)
    finally:
        await _end(senders)
    assert mails.count == place.mails, f"{mails.count} mails for {place.mails} people"
    cpu = _ended_children_cpu() + (await meter.read()).cpu - before
    return {
        "mails": place.mails,
        "plan_s": prepared,
        "cpu_us": cpu / place.mails * 1e6,
        **rates(mails.times(), prepared),
    }


def _ended_children_cpu() -> float:
    """Seconds of all processes that this one, or one of them, has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _output(command: Sequence[str], task: str, environ: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, task, env=environ, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{task}: exit code {process.returncode}")
    return out.decode()


async def _start(
    command: Sequence[str], task: str, environ: Mapping[str, str], folder: Path
) -> asyncio.subprocess.Process:
    with (folder / "peer.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command, task, env=environ, stdout=log, stderr=log, start_new_session=True
        )


async def _until_sent(count: int, mails: NotedMails, senders: Sequence[asyncio.subprocess.Process]) -> None:
    seen, since = -1, time.monotonic()
    while (now := mails.count) < count:
        if now != seen:
            seen, since = now, time.monotonic()
        ended = all(one.returncode is not None for one in senders)
        if ended or time.monotonic() - since > _STANDSTILL:
            raise RuntimeError(f"the mail server has taken {now} of {count} mails, and no more")
        await asyncio.sleep(_POLL)


async def _end(senders: Sequence[asyncio.subprocess.Process]) -> None:
    """What was sent is written before they end; who does not end is killed."""
    for one in senders:
        with suppress(ProcessLookupError):
            one.terminate()
    for one in senders:
        try:
            await asyncio.wait_for(one.wait(), 10)
        except TimeoutError:
            with suppress(ProcessLookupError):
                one.kill()
            await one.wait()


def _libpq(dsn: str) -> dict[str, str]:
    """The variables that lead to a database."""
    parts = urlsplit(dsn)
    query: dict[str, Any] = parse_qs(parts.query)
    values = {
        "PGHOST": parts.hostname or query.get("host", [""])[0],
        "PGPORT": str(parts.port or query.get("port", ["5432"])[0]),
        "PGUSER": parts.username or "postgres",
        "PGPASSWORD": parts.password or "",
        "PGDATABASE": parts.path.lstrip("/"),
    }
    return {name: value for name, value in values.items() if value}
