"""The service as a process of its own, as an operator starts it."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def process_of(
    folder: Path, *arguments: str, **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """``python -m service …`` with its data in ``folder``: the process and its base URL; killed after.

    What it prints goes to ``stdout`` and ``stderr`` beside the folder: an unread pipe would stop it.
    """
    port = free_port()
    env = {**os.environ, "DATA_DIR": str(folder), "PORT": str(port), "PYTHONPATH": str(Path.cwd()), **environ}
    with (folder.parent / "stdout").open("wb") as out, (folder.parent / "stderr").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service", *arguments, env=env, stdout=out, stderr=err
        )
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
