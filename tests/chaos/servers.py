"""The servers that the suite breaks: a PostgreSQL and a MongoDB of its own, shared by its scenarios."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from tests import mongo, postgres_server
from tests.conftest import migrated
from tests.mongo import MongoServer
from tests.postgres_server import PostgresServer

_SMALL = "64M"
_FILLER = "filler"


@dataclass(frozen=True)
class Servers:
    """``template``: a migrated database that belongs to the role ``jobs``, as whom the service connects."""

    postgres: PostgresServer
    mongo: MongoServer
    template: str


@contextmanager
def servers() -> Iterator[Servers]:
    """Start them; they are stopped at the end."""
    with postgres_server.server() as postgres, mongo.replica_set() as member:
        _make_role(postgres)
        yield Servers(postgres, member, migrated(postgres.url("jobs")))


def _make_role(postgres: PostgresServer) -> None:
    async def make() -> None:
        connection = await asyncpg.connect(postgres.url())
        await connection.execute("CREATE ROLE jobs LOGIN CREATEDB")
        await connection.close()

    asyncio.run(make())


def freeze(processes: list[psutil.Process]) -> None:
    """Stop them as SIGSTOP does: connections stay open, and nothing is answered."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)


def thaw(processes: list[psutil.Process]) -> None:
    """Let them go on."""
    for process in processes:
        process.send_signal(signal.SIGCONT)


class SmallDisk:
    """A file system in memory that can be filled; needs the right to mount. For a tablespace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def possible() -> bool:
        """Whether this process may mount."""
        return os.geteuid() == 0 and shutil.which("mount") is not None and _may_mount()

    def __enter__(self) -> "SmallDisk":
        self.folder.mkdir()
        options = f"size={_SMALL}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True)
        postgres_server.hand_over(self.folder)
        return self

    def __exit__(self, *raised: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def fill(self) -> None:
        """No block is left."""
        size = shutil.disk_usage(self.folder).free
        (self.folder / _FILLER).write_bytes(bytes(size))

    def empty(self) -> None:
        """There is room again."""
        (self.folder / _FILLER).unlink()


def _may_mount() -> bool:
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0
