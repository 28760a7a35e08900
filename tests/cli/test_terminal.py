"""What stands on a terminal of eighty columns, and how pages are followed."""

import asyncio
import fcntl
import os
import struct
import subprocess
import sys
import termios
from typing import Any

from aiohttp import web

from service.cli import tables
from tests.cli.conftest import Typist
from tests.cli.test_trouble import answering
from tests.process import spawn

_ROWS = 1_234


def _run(id_: int) -> dict[str, Any]:
    return {
        "id": id_, "jobType": "analytics", "jobName": "performanceMetrics", "state": "succeeded",
        "trigger": "cron", "reason": "lease_lost" if id_ % 3 else None, "done": 12_345,
        "nominalAt": "2026-03-10T09:00:00Z",
        "startedAt": "2026-03-10T09:00:01.5Z", "finishedAt": "2026-03-10T09:01:01Z",
    }  # fmt: skip


async def _history(request: web.Request) -> web.StreamResponse:
    """Runs by pages, as the service gives them."""
    size, before = int(request.query.get("limit", "50")), int(request.query.get("before", str(_ROWS + 1)))
    rows = [_run(id_) for id_ in range(before - 1, max(before - 1 - size, 0), -1)]
    return web.json_response(
        {"success": True, "data": rows, "next": rows[-1]["id"] if len(rows) == size <= 500 else None},
        status=200 if size <= 500 else 400,
    )


async def _on_terminal(columns: int, *words: str) -> tuple[int | None, str]:
    """What a person sees on a terminal in Berlin."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    process = await spawn(
        sys.executable, "-m", "service", *words,
        stdout=theirs, stderr=subprocess.STDOUT, env=env | {"TZ": "Europe/Berlin"},
    )  # fmt: skip
    os.close(theirs)
    told = await asyncio.to_thread(_all_of, ours)
    os.close(ours)
    return await process.wait(), told.replace("\r\n", "\n")


def _all_of(terminal: int) -> str:
    told = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            return told.decode()
        if not piece:
            return told.decode()
        told += piece


async def test_a_listing_on_a_terminal() -> None:
    async with answering(_history) as url, asyncio.timeout(60):
        code, told = await _on_terminal(80, "--url", url, "runs", "list", "--limit", "2")
        assert (code, told) == (
            0,
            "  id  job                 state      trigger  slot              took      done\n"
            "1234  performanceMetrics  succeeded  cron     2026-03-10 10:00  59.5 s  12,345\n"
            "1233  performanceMetrics  succeeded  cron     2026-03-10 10:00  59.5 s  12,345\n"
            "\nThere is more: --all, or --before 1233\n"
            "\nTimes: CET (UTC+0100)\n",
        )
        assert max(map(tables.width, told.splitlines())) <= 80
        _, wide = await _on_terminal(120, "--url", url, "runs", "list", "--limit", "2")
        assert "lease_lost  analytics" in wide
        code, told = await _on_terminal(80, "--url", url, "export", "daily", "--format", "parquet")
        assert (code, told) == (2, "✗ parquet is not for a terminal; name a file with --out\n")


async def test_pages_are_as_large_as_the_service_allows_and_as_many_as_are_asked_for(typed: Typist) -> None:
    async with answering(_history) as url:
        assert len((await typed("--url", url, "runs", "list")).lines) == 1 + 50
        assert len((await typed("--url", url, "runs", "list", "--limit", "777")).lines) == 1 + 777
        told = (await typed("--url", url, "runs", "list", "--all")).lines
    assert [int(line.split("\t")[0]) for line in told[1:]] == list(range(_ROWS, 0, -1))
