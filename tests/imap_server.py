"""A small IMAP server (RFC 3501, MOVE, UIDPLUS) for one mailbox, that misbehaves on demand."""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HANG, DROP = "hang", "drop"
_LITERAL = re.compile(rb"BODY\.PEEK\[\]<0\.(\d+)>")


@dataclass
class ImapServer:
    """``folders``: the mails of each, by their number; ``seen``, ``deleted``: numbers in INBOX.

    ``misbehave``: for a command, HANG (no answer), DROP (the connection), or the answer instead.
    """

    user: str = "bounce@example.org"
    password: str = 'a "quoted" \\ word'
    capabilities: str = "IMAP4rev1 MOVE UIDPLUS"
    tls: ssl.SSLContext | None = None
    misbehave: Callable[[str], str | None] = lambda _command: None
    folders: dict[str, dict[int, bytes]] = field(default_factory=lambda: {"INBOX": {}, "Done": {}})
    seen: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    commands: list[str] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    def __post_init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._log_in = False
        try:
            if await self._misbehaves("GREETING", "*", writer):
                return
            writer.write(b"* OK ready\r\n")
            while line := await reader.readline():
                tag, _, rest = line.decode().rstrip("\r\n").partition(" ")
                words = rest.split(" ")
                name = " ".join(words[: 2 if words[0] == "UID" else 1]).upper()
                self.commands.append(name)
                if await self._misbehaves(name, tag, writer):
                    continue
                writer.write(self._answer(name, rest) + f"{tag} {self._result(name, rest)}\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _misbehaves(self, name: str, tag: str, writer: asyncio.StreamWriter) -> bool:
        answer = self.misbehave(name)
        if answer == DROP:
            writer.close()
            raise ConnectionAbortedError
        if answer and answer != HANG:
            writer.write(f"{tag} {answer}\r\n".encode())
        return answer is not None

    def _result(self, name: str, rest: str) -> str:
        if name == "LOGIN":
            quoted = '"{}"'.format(self.password.replace("\\", "\\\\").replace('"', '\\"'))
            self._log_in = rest == f'LOGIN "{self.user}" {quoted}'
            return "OK done" if self._log_in else "NO [AUTHENTICATIONFAILED] no"
        if not self._log_in and name not in {"CAPABILITY", "LOGOUT"}:
            return "BAD log in first"
        if name == "SELECT" and rest.split('"')[1] not in self.folders:
            return "NO there is none"
        return "OK done"

    def _answer(self, name: str, rest: str) -> bytes:
        inbox = self.folders["INBOX"]
        if name == "CAPABILITY":
            return f"* CAPABILITY {self.capabilities}\r\n".encode()
        if name == "UID SEARCH":
            new = [str(uid) for uid in inbox if uid not in self.seen | self.deleted]
            return f"* SEARCH {' '.join(new)}".rstrip().encode() + b"\r\n"
        if name == "UID FETCH":
            return self._content(int(rest.split(" ")[2]), rest.encode())
        if name in {"UID MOVE", "UID COPY"}:
            uid, folder = int(rest.split(" ")[2]), rest.split('"')[1]
            if uid in inbox:
                self.folders[folder][uid] = inbox[uid]
                if name == "UID MOVE":
                    del inbox[uid]
        if name == "UID STORE":
            uid = int(rest.split(" ")[2])
            self.seen |= {uid} if "Seen" in rest else set()
            self.deleted |= {uid} if "Deleted" in rest else set()
        if name == "UID EXPUNGE":
            for uid in self.deleted:
                inbox.pop(uid, None)
        return b""

    def _content(self, uid: int, request: bytes) -> bytes:
        most = _LITERAL.search(request)
        if most is None or uid not in self.folders["INBOX"]:
            return b""
        content = self.folders["INBOX"][uid][: int(most[1])]
        return b"* 1 FETCH (UID %d BODY[]<0> {%d}\r\n%s)\r\n" % (uid, len(content), content)
