"""Our protocol on the transport of an SMTP connection: commands out, replies in, strictly in order."""

import asyncio
import select

_LONGEST_LINE = 8192
_HANGUP = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere POLLHUP, which is always reported, has to do


class ConnectionLost(Exception):
    """The connection broke or timed out; the text says which."""


class Wire(asyncio.Protocol):
    """Reads replies in order. An unexpected reply ends the connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._buffer = b""
        self._lines: list[str] = []
        self._replies: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        self._expected = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))
        if len(self._buffer) > _LONGEST_LINE:
            self.abort()

    def _line(self, line: bytes) -> None:
        if not line[:3].isdigit() or self._expected == 0:
            self.abort()
            return
        self._lines.append(line[4:].decode("utf-8", "replace"))
        if line[3:4] != b"-":
            self._expected -= 1
            self._replies.put_nowait((int(line[:3]), "\n".join(self._lines)))
            self._lines = []

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._writable.set()
        self._replies.put_nowait(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def write(self, data: bytes, replies: int) -> None:
        """Write commands that will get so many replies. If it raises, the peer got none of them."""
        if self.lost or self._transport.is_closing() or self._hung_up():
            raise ConnectionLost("connection lost")
        self._expected += replies
        self._transport.write(data)
        if self._transport.is_closing():  # the system did not take it
            raise ConnectionLost("connection lost")

    def _hung_up(self) -> bool:
        """Whether the peer has closed its side, even if the event loop has not reported it yet."""
        peer = select.poll()
        peer.register(self._transport.get_extra_info("socket").fileno(), _HANGUP)
        return bool(peer.poll(0))

    async def drain(self, seconds: float) -> None:
        """Wait until the write buffer is drained. ``seconds``: the timeout."""
        try:
            async with asyncio.timeout(seconds):
                await self._writable.wait()
        except TimeoutError:
            raise ConnectionLost("timeout") from None

    async def reply(self, seconds: float) -> tuple[int, str]:
        """The next reply. ``seconds``: the timeout."""
        try:
            async with asyncio.timeout(seconds):
                reply = await self._replies.get()
        except TimeoutError:
            raise ConnectionLost("timeout") from None
        if reply is None:
            self._replies.put_nowait(None)
            raise ConnectionLost("connection lost")
        return reply

    def abort(self) -> None:
        """Close the connection at once."""
        self.lost = True
        self._transport.abort()
