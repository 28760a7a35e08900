"""Runs a command against a running service."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import uuid
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from service import __version__
from service.cli import tables
from service.cli.arguments import Location
from service.cli.client import Client, Request, connected, how_to_retry
from service.cli.commands import Command
from service.cli.exit_codes import CommandError, Exit
from service.cli.target import Target

_DEFAULT_FORMAT = "table"
_MAX_RECONNECTS = 10
_RECONNECT_DELAY = 2.0


async def run_command(target: Target, command: Command, options: Namespace) -> Exit:
    """Send the request and print the answer. Raises CommandError."""
    request = request_of(command, options)
    async with connected(target, f"dashboard-jobs/{__version__}") as client:
        with open_output(options.out) as file:
            if command.operation == "getRunEvents":
                return await _watch(client, command, request, options, file)
            if is_streamed(command, options):
                _check_destination(file, options)
                async for chunk in client.stream(request):
                    _write(file, chunk)
                return Exit.DONE
            with _explain_interruption(request):
                answer, raw = await _fetch(client, command, request, options)
            with _explain_unexpected_answer():
                _write(file, _render(command, options, answer, raw, file))
    return Exit.DONE if command.succeeded(answer) else Exit.FAILED


def request_of(command: Command, options: Namespace) -> Request:
    """The request for the parsed options; reads the body from a file if the command takes one."""
    parts: dict[Location, dict[str, Any]] = {location: {} for location in Location}
    for argument in command.arguments:
        value = getattr(options, argument.dest, None)
        if value is not None and value != _DEFAULT_FORMAT:
            parts[argument.location][argument.field] = value
    if options.json:
        parts[Location.QUERY].pop("format", None)  # the API's default is JSON
    body = json.dumps(parts[Location.BODY]).encode() if parts[Location.BODY] else None
    if parts[Location.RAW]:
        body = _read_body(parts[Location.RAW]["file"])
    return Request(
        command.method,
        command.path.format_map(
            {name: quote(str(value), safe="") for name, value in parts[Location.PATH].items()}
        ),
        {name: _query_value(value) for name, value in _cap_limit(command, parts[Location.QUERY]).items()},
        body,
        command.content,
        key=(options.key or str(uuid.uuid4())) if command.mutates else "",
        timeout=options.timeout or command.timeout,
        ok_statuses=command.ok_statuses,
    )


def _cap_limit(command: Command, query: dict[str, Any]) -> dict[str, Any]:
    if command.pages and query.get("limit", 0) > command.max_rows:
        return query | {"limit": command.max_rows}
    return query


def _query_value(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _read_body(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}", Exit.WRONG_USE) from None


# ── Pages ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _fetch(client: Client, command: Command, request: Request, options: Namespace) -> tuple[Any, bytes]:
    """The whole answer; with ``--all``, or a ``--limit`` above the page size, all pages combined."""
    raw = await client.send(request)
    answer = _parse(raw)
    if not command.pages:
        return answer, raw
    row_limit = None if options.all else getattr(options, "query_limit", None) or 0
    with _explain_unexpected_answer():
        rows, next_page, paged = list(answer["data"]), answer["next"], False
        while next_page is not None and (row_limit is None or len(rows) < row_limit):
            page = _parse(await client.send(_next_request(command, request, next_page, len(rows), row_limit)))
            rows, next_page, paged = rows + page["data"], page["next"], True
    combined = answer | {"data": rows, "next": next_page}
    return combined, _json(combined) if paged else raw


def _next_request(
    command: Command, request: Request, next_page: Any, fetched: int, row_limit: int | None
) -> Request:
    size = command.max_rows if row_limit is None else min(command.max_rows, row_limit - fetched)
    paging = {command.pages: str(next_page), "limit": str(size)}
    return replace(request, query=request.query | paging)


def _parse(raw: bytes) -> Any:
    with _explain_unexpected_answer():
        return dict(json.loads(raw))


@contextlib.contextmanager
def _explain_interruption(request: Request) -> Iterator[None]:
    """On Ctrl-C, print how to retry a request whose result is unknown."""
    try:
        yield
    except asyncio.CancelledError:
        if request.key:
            sys.stderr.write(f"✗ interrupted; {how_to_retry(request)}\n")
        raise


@contextlib.contextmanager
def _explain_unexpected_answer() -> Iterator[None]:
    """Turn errors about an unexpected answer into a CommandError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CommandError(
            f"the answer is not as this command line knows it ({type(error).__name__}: {error}):"
            " is --url right, and is the service of this version?",
            Exit.FAILED,
        ) from None


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# ── Printing ────────────────────────────────────────────────────────────────────────────────────────────────


def is_streamed(command: Command, options: Namespace) -> bool:
    """Whether the answer is written as it arrives, without rendering."""
    output_format = getattr(options, "query_format", None)
    return "*" in command.files or (output_format in command.files and not options.json)


def _check_destination(file: BinaryIO, options: Namespace) -> None:
    if getattr(options, "query_format", None) == "parquet" and file.isatty():
        raise CommandError("parquet is not for a terminal; name a file with --out", Exit.WRONG_USE)


def _render(command: Command, options: Namespace, answer: Any, raw: bytes, file: BinaryIO) -> bytes:
    if options.json or getattr(options, "query_format", None) == "json":
        return raw if raw.endswith(b"\n") else raw + b"\n"
    part = getattr(options, "client_format", None)
    blocks = command.render(answer, part) if part else command.render(answer)
    if not file.isatty():
        return tables.for_programs(blocks).encode("utf-8", "replace")
    if command.pages and answer.get("next") is not None:
        blocks = [*blocks, tables.TextBlock(f"There is more: --all, or --{command.pages} {answer['next']}")]
    return tables.for_people(blocks, shutil.get_terminal_size((80, 24)).columns).encode()


@contextlib.contextmanager
def open_output(target: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that gets its name when it is complete."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(target)
    except OSError as error:
        raise CommandError(f"--out {target}: {error.strerror}", Exit.WRONG_USE) from None
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: BinaryIO, chunk: bytes) -> None:
    file.write(chunk)


# ── Watching ────────────────────────────────────────────────────────────────────────────────────────────────


async def _watch(
    client: Client, command: Command, request: Request, options: Namespace, file: BinaryIO
) -> Exit:
    """Print a line for each change until the run ends; reconnect if the stream breaks."""
    received = False
    for _ in range(_MAX_RECONNECTS):
        try:
            async for name, run in _events(client, request):
                received = True
                raw = _json(run)
                _write(file, _render(command, options, run, raw, file))
                file.flush()
                if name == "end":
                    return Exit.DONE if command.succeeded(run) else Exit.FAILED
        except CommandError as error:
            if not received or error.code is not Exit.UNAVAILABLE:
                raise
        await asyncio.sleep(_RECONNECT_DELAY)
    raise CommandError("the service broke off again and again; see runs show", Exit.UNAVAILABLE)


async def _events(client: Client, request: Request) -> AsyncIterator[tuple[str, Any]]:
    """The server-sent events: name and data."""
    name = "message"
    async for line in _lines(client.stream(request)):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode().rstrip("\r")
