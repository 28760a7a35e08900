"""A real mongod for tests: TEST_MONGODB_URL, or the binary that the test dependency carries."""

import asyncio
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests import memory
from tests.certificates import Certificate
from tests.process import free_port

BINARY = Path(sysconfig.get_path("purelib")) / "fiftyone/db/bin/mongod"


class MongoServer:
    """A mongod of its own, that can be killed and started again with what it holds."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.port = free_port()
        self._command = [
            str(BINARY), "--dbpath", str(folder), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            *arguments, "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--quiet",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen(self._command, stdout=nowhere, stderr=nowhere)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        """Of the one member of a replica set."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"


@contextmanager
def server() -> Iterator[str]:
    """URL of a one-member replica set on this machine; it is stopped, by its process, at the end."""
    if given := os.environ.get("TEST_MONGODB_URL"):
        yield given
        return
    with replica_set() as member:
        yield member.url


@contextmanager
def replica_set() -> Iterator[MongoServer]:
    """The one member of a replica set, which is this test's own."""
    with _process("--replSet", "rs0") as member:
        _initiate(member.url, member.port)
        yield member


@contextmanager
def guarded() -> Iterator[tuple[str, Any]]:
    """A server with accounts: its address as ``{}@host/``, for ``user:password``, and its administrator."""
    with _process("--auth") as guarded_server:
        port = guarded_server.port
        root = {"roles": ["root"], "pwd": "root"}
        _first_account(port, root)
        with MongoClient[dict[str, Any]](f"mongodb://root:root@127.0.0.1:{port}/") as client:
            yield f"mongodb://{{}}@127.0.0.1:{port}/", client


@contextmanager
def with_tls(certificate: Certificate) -> Iterator[int]:
    """A server that demands TLS; its port on 127.0.0.1."""
    with _process("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificate.both)) as started:
        url = f"mongodb://127.0.0.1:{started.port}/?tls=true&tlsInsecure=true"
        with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=60_000) as client:
            client.admin.command("ping")
        yield started.port


def _first_account(port: int, account: dict[str, Any]) -> None:
    """Accounts start with one that may be made without any, from this machine."""
    with MongoClient[dict[str, Any]](
        f"mongodb://127.0.0.1:{port}/", serverSelectionTimeoutMS=60_000
    ) as client:
        client.admin.command("createUser", "root", **account)


@contextmanager
def _process(*arguments: str) -> Iterator[MongoServer]:
    """A mongod of its own, which will answer soon."""
    if not BINARY.exists():
        pytest.skip("no mongod here; set TEST_MONGODB_URL")
    folder = memory.folder("jobs-mongo-")
    server = MongoServer(folder, arguments)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _initiate(url: str, port: int) -> None:
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    deadline = time.monotonic() + 60
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=60_000) as client:
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        while not client.admin.command("hello").get("isWritablePrimary"):
            if time.monotonic() > deadline:
                raise TimeoutError("mongod did not become primary")
            time.sleep(0.05)


async def drop(url: str, database: str) -> None:
    """Remove a test's database; a server that was stopped by the test needs no cleaning."""

    def run() -> None:
        try:
            with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=2000) as client:
                client.drop_database(database)
        except PyMongoError:
            return

    await asyncio.to_thread(run)
