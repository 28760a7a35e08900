"""A mail server as a relay: what both of them have in common."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from service.messages.mail.smtp import SmtpConfig
from tests import certificates, memory
from tests.certificates import Certificate
from tests.process import free_port, spawn

USER, PASSWORD = "dash", "a-pass-word"
HOST, DOMAIN = "relay.example", "dash.example"
"""The relay's name; the domain whose mailbox for bounces it keeps."""
HEARTBEAT_SECONDS = 0.05


@dataclass(frozen=True)
class Setup:
    """What a relay is told: its folder, port and certificate, and the port of the server of each domain."""

    folder: Path
    port: int
    certificate: Certificate
    routes: Mapping[str, int]

    @property
    def mailbox(self) -> Path:
        """The Maildir of bounce@DOMAIN."""
        return self.folder / "bounces"

    def write(self, name: str, text: str) -> Path:
        """A file of its configuration."""
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o644)
        return file

    def belongs_to(self, user: str, *names: str) -> None:
        """Let it own these folders, which are made, and may read its key."""
        for name in names:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            shutil.chown(self.folder / name, user)
        for file in (self.certificate.certificate, self.certificate.key):
            shutil.chown(file, user)

    def config(self, **changes: object) -> SmtpConfig:
        """How we send by it."""
        values = {
            "security": "starttls",
            "user": USER,
            "password": PASSWORD,
            "ehlo": "mailer.dash.example",
            "connections": 1,
        } | changes
        return SmtpConfig("127.0.0.1", self.port, **values)  # type: ignore[arg-type]


@asynccontextmanager
async def setup(routes: Mapping[str, int]) -> AsyncIterator[Setup]:
    """A folder that every user may look into, for as long as the relay runs."""
    folder = memory.folder("jobs-relay-")
    folder.chmod(0o755)
    certificate = certificates.make(folder / "tls")
    (folder / "tls").chmod(0o755)
    try:
        yield Setup(folder, free_port(), certificate, routes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running(given: Setup, command: list[str]) -> AsyncIterator[None]:
    """The relay as a process with a name space of its own, from when it answers; killed with its children."""
    with (given.folder / "output").open("wb") as out:
        process = await spawn(*command, stdout=out, stderr=out, cwd=given.folder)
        try:
            await _until_it_answers(given, process)
            yield
        finally:
            if process.returncode is None:
                for first in psutil.Process(process.pid).children():
                    first.kill()  # and the kernel kills all others
            await process.wait()


async def _until_it_answers(given: Setup, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.returncode is None, (given.folder / "output").read_text("utf-8", "replace")
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", given.port)
                greeting = await reader.readline()
                writer.close()
                if greeting.startswith(b"220"):
                    return
            except OSError:
                pass
            await asyncio.sleep(HEARTBEAT_SECONDS)
