"""A TCP proxy that fails on demand, as networks do; see ``Proxy``."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""


class _Connection:
    """One connection through the proxy: the client's end and the server's."""

    def __init__(self, *ends: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.ends = ends
        self.stranded = False

    def reset(self) -> None:
        for _, writer in self.ends:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """``async with Proxy(port)``: whoever connects to ``.port`` reaches ``port`` on this machine.

    ``delay``: seconds that each piece waits in either direction.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self.delay = 0.0
        self.port = 0

    async def __aenter__(self) -> "Proxy":
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
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for connection in list(self._connections):
            connection.reset()

    def refuse(self) -> None:
        """Reset every connection, and whoever connects from now on."""
        self._refusing = True
        self.cut()

    def stall(self) -> None:
        """Hold back everything, until ``heal``; nothing is closed."""
        self._flowing.clear()

    def strand(self, every: int = 1) -> None:
        """Swallow what is sent over the present connections, in both directions and for ever; close nothing.

        So does the way to a host that vanished. New connections work. ``every``: only the newest, and each
        so-manieth before it.
        """
        for connection in list(self._connections)[::-every]:
            connection.stranded = True

    def heal(self) -> None:
        """New connections work, and what was held back goes on."""
        self._refusing, self.delay = False, 0.0
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection((reader, writer))
        try:
            if self._refusing:
                return
            there = await asyncio.open_connection("127.0.0.1", self._target)
            connection = _Connection((reader, writer), there)
            self._connections[connection] = None
            await asyncio.gather(
                self._carry(connection, reader, there[1]), self._carry(connection, there[0], writer)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.pop(connection, None)
            self._tasks.discard(task)
            connection.reset()

    async def _carry(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            if self.delay:
                await asyncio.sleep(self.delay)
            if not connection.stranded:
                writer.write(data)
                await writer.drain()
        if connection.stranded:
            await asyncio.Event().wait()  # that one end was closed is not heard at the other
        await self._flowing.wait()
        writer.close()
