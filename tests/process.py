"""The service as a process of its own, as an operator starts it."""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any


def _ports() -> Iterator[int]:
    """Those below the ports that the system gives to connections; each process of the tests has its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    number = int(worker[2:]) if worker.startswith("gw") else os.getpid()
    first = 10_000 + 4_000 * (number % 5)
    ports = range(first, first + 4_000)
    begin = random.randrange(len(ports))
    return itertools.cycle([*ports[begin:], *ports[:begin]])


_PORTS = _ports()


def free_port() -> int:
    """A port on which nothing listens, and which no other test will be given until it is used."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("the ports never end")


async def spawn(*command: str, **options: Any) -> asyncio.subprocess.Process:
    """Start a process with default signals; whoever calls this kills it.

    The tests may have been started with SIGINT ignored (nohup, a background job), and children inherit that.
    """
    return await asyncio.create_subprocess_exec(*command, preexec_fn=_default_signals, **options)


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def process_of(
    folder: Path, *arguments: str, **environ: str
) -> AbstractAsyncContextManager[tuple[asyncio.subprocess.Process, str]]:
    """``python -m service …`` with its data in ``folder``: the process and its base URL; killed after.

    What it prints goes to ``stdout`` and ``stderr`` beside the folder: an unread pipe would stop it.
    """
    return process_in(Path.cwd(), folder, *arguments, **environ)


def process_in(
    code: Path, folder: Path, *arguments: str, **environ: str
) -> AbstractAsyncContextManager[tuple[asyncio.subprocess.Process, str]]:
    """The same with the service's code in the folder ``code``."""
    command = [sys.executable, "-m", "service", *arguments]
    return running(command, code, folder, **{"PYTHONPATH": str(code), **environ})


@asynccontextmanager
async def running(
    command: Sequence[str], cwd: Path, folder: Path, **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The same with any command that serves on ``PORT``, started in the folder ``cwd``."""
    port = free_port()
    env = {**os.environ, "DATA_DIR": str(folder), "PORT": str(port), **environ}
    with (folder.parent / "stdout").open("wb") as out, (folder.parent / "stderr").open("wb") as err:
        process = await spawn(*command, env=env, stdout=out, stderr=err, cwd=cwd)
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition, generously."""
    async with asyncio.timeout(90):
        while not true():
            await asyncio.sleep(0.02)


def printed_object(file: Path) -> dict[str, Any] | None:
    """The JSON object that a process has printed into a file, once it is whole."""
    text = file.read_text("utf-8")
    try:
        return dict(json.loads(text[text.index("{") :]))
    except ValueError:
        return None
