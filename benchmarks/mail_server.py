"""An SMTP server that takes every mail, in a process of its own; it may note when it took each."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path

from tests.smtp_server import RecordingServer

_DIGITS = 20
"""Of each note: nanoseconds of the machine's monotonic clock, and a line feed."""


@contextmanager
def mail_server() -> Iterator[int]:
    """Run it; yields its port on 127.0.0.1."""
    with _process([sys.executable, "-m", "tests.smtp_server", "--log", os.devnull]) as port:
        yield port


@dataclass(frozen=True)
class NotedMails:
    """A server that notes in a file when it took each mail."""

    port: int
    _notes: Path

    @property
    def count(self) -> int:
        """How many mails it has taken."""
        return self._notes.stat().st_size // _DIGITS

    def times(self) -> list[float]:
        """When it took each mail: seconds of ``time.monotonic``, in order."""
        return sorted(int(note) / 1e9 for note in self._notes.read_text("ascii").split())


@contextmanager
def noting_mail_server(folder: Path) -> Iterator[NotedMails]:
    """Run one that keeps its notes in this folder."""
    notes = folder / "mails"
    with _process([sys.executable, "-m", "benchmarks.mail_server", str(notes)]) as port:
        yield NotedMails(port, notes)
    notes.unlink()


@contextmanager
def _process(command: list[str]) -> Iterator[int]:
    smtp = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert smtp.stdout is not None
        yield int(smtp.stdout.readline())
    finally:
        smtp.kill()
        smtp.wait()


class _Notes(TextIOBase):
    """Takes a line for each mail, and keeps only when that was."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def write(self, _line: str) -> int:
        return os.write(self._file, b"%0*d\n" % (_DIGITS - 1, time.monotonic_ns()))


async def _serve(file: Path) -> None:
    async with RecordingServer(log=_Notes(file)) as server:  # type: ignore[arg-type]
        print(server.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
