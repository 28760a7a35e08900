"""A recording SMTP server: writes down each message before it says 250, and misbehaves on demand.

In process: ``async with RecordingServer() as server``. As a process of its own, which no death of the sender
reaches: ``python -m tests.smtp_server --log FILE --drop-after-dot 0.02`` prints its port.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

_MESSAGE_ID = re.compile(rb"^Message-ID: <([^>]+)>", re.MULTILINE)

HANG = "hang"
DROP = "drop"
SLOW = "slow"
_END = b"\r\n.\r\n"
Misbehave = Callable[[str, str], str | None]
"""``(phase, recipient)`` to an answer such as ``550 5.1.1 no``, to HANG or DROP, to ``slow 5`` (good manners
after five seconds), or to None for good manners.

Phases: connect, auth, mail, rcpt, data, content (after some of it), dot (not taken), after_dot (taken, but no
word).
"""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that the server took responsibility for."""

    message_id: str
    recipient: str
    sha256: str
    size: int
    connection: int


class _Drop(Exception):
    pass


def _well(_phase: str, _recipient: str) -> None:
    return


class _Wire:
    """What the client sent and nobody has looked at yet."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._held = b""

    async def until(self, end: bytes) -> bytes:
        """Everything up to and including ``end``."""
        start = 0
        while (at := self._held.find(end, start)) < 0:
            start = max(len(self._held) - len(end), 0)
            more = await self._reader.read(1 << 17)
            if not more:
                raise _Drop
            self._held += more
        found, self._held = self._held[: at + len(end)], self._held[at + len(end) :]
        return found

    def put_back(self, data: bytes) -> None:
        """Let this be read once more."""
        self._held = data + self._held


class RecordingServer:
    """Listens on 127.0.0.1. ``accepted`` is written before the 250 leaves. ``auth``: it offers a log-in."""

    def __init__(
        self,
        misbehave: Misbehave | None = None,
        *,
        pipelining: bool = True,
        auth: bool = False,
        log: TextIO | None = None,
    ) -> None:
        self._misbehave = misbehave or _well
        self._extensions = ["PIPELINING"] * pipelining + ["AUTH PLAIN"] * auth
        self._log = log
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted: list[Accepted] = []
        self.connections = 0
        self.closed = 0
        self.logins = 0
        self.commands: list[str] = []
        self.port = 0

    def behave(self, misbehave: Misbehave | None = None) -> None:
        """Misbehave in this way from now on; None: in none."""
        self._misbehave = misbehave or _well

    async def __aenter__(self) -> "RecordingServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer, self.connections)
        except (_Drop, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            self.closed += 1

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        recipient, refused = "", False
        wire = _Wire(reader)

        async def answer(phase: str, good: str) -> bool:
            told = await self._told(phase, recipient)
            if words := told or good:
                writer.write(f"{words}\r\n".encode())
            return told is None

        await answer("connect", "220 ready")
        while True:
            line = (await wire.until(b"\r\n")).decode().strip()
            self.commands.append(line)
            verb = line.upper().split(" ")[0].split(":")[0]
            if verb == "EHLO":
                extra = "".join(f"250-{one}\r\n" for one in self._extensions)
                writer.write(f"250-localhost\r\n{extra}250 ENHANCEDSTATUSCODES\r\n".encode())
            elif verb == "AUTH":
                self.logins += 1
                await answer("auth", "235 2.7.0 ok")
            elif verb == "MAIL":
                recipient = ""
                refused = not await answer("mail", "250 2.1.0 ok")
            elif verb == "RCPT":
                recipient = line.partition("<")[2].rstrip(">")
                refused = not await answer("rcpt", "250 2.1.5 ok") or refused
            elif verb == "DATA":
                if refused:
                    writer.write(b"503 5.5.1 no recipients\r\n")
                elif await answer("data", "354 go on"):
                    await self._content(wire, recipient, connection, answer)
            elif verb == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                writer.write(b"250 ok\r\n")

    async def _content(
        self,
        wire: _Wire,
        recipient: str,
        connection: int,
        answer: Callable[..., object],
    ) -> None:
        begun = b""
        while begun.count(b"\n") < 3 and not begun.endswith(_END):
            begun += await wire.until(b"\r\n")
            if begun == b".\r\n":
                break
        await self._told("content", recipient)
        wire.put_back(b"\r\n" + begun)
        content = (await wire.until(_END))[:-3].replace(b"\r\n..", b"\r\n.")[2:]
        self.commands.append(".")
        if await answer("dot", ""):  # type: ignore[misc]
            self._record(content, recipient, connection)
            await answer("after_dot", "250 2.0.0 taken")  # type: ignore[misc]

    async def _told(self, phase: str, recipient: str) -> str | None:
        """The answer that is to be given; None: the good one."""
        told = self._misbehave(phase, recipient)
        if told == DROP:
            raise _Drop
        if told == HANG:
            await asyncio.Event().wait()
        if told and told.startswith(SLOW):
            await asyncio.sleep(float(told.removeprefix(SLOW)))
            return None
        return told

    def _record(self, content: bytes, recipient: str, connection: int) -> None:
        found = _MESSAGE_ID.search(content)
        message_id = found.group(1).decode() if found else ""
        digest = hashlib.sha256(content).hexdigest()
        one = Accepted(message_id, recipient, digest, len(content), connection)
        self.accepted.append(one)
        if self._log:
            self._log.write(json.dumps(asdict(one)) + "\n")
            self._log.flush()


async def _main(log: Path, drop_after_dot: float, seed: int) -> None:
    dice = random.Random(seed)

    def misbehave(phase: str, _recipient: str) -> str | None:
        return DROP if phase == "after_dot" and dice.random() < drop_after_dot else None

    with log.open("a") as file:
        async with RecordingServer(misbehave, log=file) as server:
            print(server.port, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--drop-after-dot", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(_main(options.log, options.drop_after_dot, options.seed))
