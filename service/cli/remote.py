"""Carries out a command of the table against a running service."""

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
from service.cli.arguments import Where
from service.cli.client import Client, Request, connected, unknown
from service.cli.commands import Command
from service.cli.exit_codes import Exit, Stopped
from service.cli.target import Place

_LEFT_OUT = "table"
_RECONNECTS = 10
_PAUSE = 2.0


async def carry_out(place: Place, command: Command, options: Namespace) -> Exit:
    """Ask, and print what is answered. Raises Stopped."""
    asked = request_of(command, options)
    async with connected(place, f"dashboard-jobs/{__version__}") as client:
        with sink(options.out) as file:
            if command.operation == "getRunEvents":
                return await _watch(client, command, asked, options, file)
            if streamed(command, options):
                _fit_for(file, options)
                async for piece in client.pieces(asked):
                    _write(file, piece)
                return Exit.DONE
            with _interrupted(asked):
                answer, raw = await _asked(client, command, asked, options)
            with _expected():
                _write(file, _shown(command, options, answer, raw, file))
    return Exit.DONE if command.well(answer) else Exit.FAILED


def request_of(command: Command, options: Namespace) -> Request:
    """The request that the options mean. Reads the body from a file where the command takes one."""
    parts: dict[Where, dict[str, Any]] = {where: {} for where in Where}
    for argument in command.arguments:
        value = getattr(options, argument.dest, None)
        if value is not None and value != _LEFT_OUT:
            parts[argument.where][argument.field] = value
    if options.json:
        parts[Where.QUERY].pop("format", None)  # the API's own is JSON
    body = json.dumps(parts[Where.BODY]).encode() if parts[Where.BODY] else None
    if parts[Where.RAW]:
        body = _file(parts[Where.RAW]["file"])
    return Request(
        command.method,
        command.path.format_map({name: quote(str(one), safe="") for name, one in parts[Where.PATH].items()}),
        {name: _worded(one) for name, one in _limited(command, parts[Where.QUERY]).items()},
        body,
        command.content,
        key=(options.key or str(uuid.uuid4())) if command.acts else "",
        timeout=options.timeout or command.timeout,
        answered=command.answered,
    )


def _limited(command: Command, query: dict[str, Any]) -> dict[str, Any]:
    if command.pages and query.get("limit", 0) > command.most:
        return query | {"limit": command.most}
    return query


def _worded(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _file(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Stopped(f"{name}: {error.strerror}", Exit.WRONG_USE) from None


# ── Pages ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _asked(client: Client, command: Command, asked: Request, options: Namespace) -> tuple[Any, bytes]:
    """The answer, whole: with ``--all``, or a ``--limit`` beyond one page, the pages one after another."""
    raw = await client.ask(asked)
    answer = _read(raw)
    if not command.pages:
        return answer, raw
    wanted = None if options.all else getattr(options, "query_limit", None) or 0
    with _expected():
        rows, following, joined = list(answer["data"]), answer["next"], False
        while following is not None and (wanted is None or len(rows) < wanted):
            page = _read(await client.ask(_next(command, asked, following, len(rows), wanted)))
            rows, following, joined = rows + page["data"], page["next"], True
    whole = answer | {"data": rows, "next": following}
    return whole, _json(whole) if joined else raw


def _next(command: Command, asked: Request, following: Any, have: int, wanted: int | None) -> Request:
    size = command.most if wanted is None else min(command.most, wanted - have)
    more = {command.pages: str(following), "limit": str(size)}
    return replace(asked, query=asked.query | more)


def _read(raw: bytes) -> Any:
    with _expected():
        return dict(json.loads(raw))


@contextlib.contextmanager
def _interrupted(asked: Request) -> Iterator[None]:
    """Who breaks off an act is told how to learn what became of it."""
    try:
        yield
    except asyncio.CancelledError:
        if asked.key:
            sys.stderr.write(f"✗ interrupted; {unknown(asked)}\n")
        raise


@contextlib.contextmanager
def _expected() -> Iterator[None]:
    """An answer of something else, or of another version, is told as that."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Stopped(
            f"the answer is not as this command line knows it ({type(error).__name__}: {error}):"
            " is --url right, and is the service of this version?",
            Exit.FAILED,
        ) from None


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# ── Showing ─────────────────────────────────────────────────────────────────────────────────────────────────


def streamed(command: Command, options: Namespace) -> bool:
    """Whether the answer goes through as it comes."""
    chosen = getattr(options, "query_format", None)
    return "*" in command.files or (chosen in command.files and not options.json)


def _fit_for(file: BinaryIO, options: Namespace) -> None:
    if getattr(options, "query_format", None) == "parquet" and file.isatty():
        raise Stopped("parquet is not for a terminal; name a file with --out", Exit.WRONG_USE)


def _shown(command: Command, options: Namespace, answer: Any, raw: bytes, file: BinaryIO) -> bytes:
    if options.json or getattr(options, "query_format", None) == "json":
        return raw if raw.endswith(b"\n") else raw + b"\n"
    part = getattr(options, "here_format", None)
    blocks = command.show(answer, part) if part else command.show(answer)
    if not file.isatty():
        return tables.for_programs(blocks).encode("utf-8", "replace")
    if command.pages and answer.get("next") is not None:
        blocks = [*blocks, tables.TextBlock(f"There is more: --all, or --{command.pages} {answer['next']}")]
    return tables.for_people(blocks, shutil.get_terminal_size((80, 24)).columns).encode()


@contextlib.contextmanager
def sink(target: Path | None) -> Iterator[BinaryIO]:
    """Where the answer goes: standard output, or a file that has a passing name until it is whole."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    passing = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with passing.open("wb") as file:
            yield file
        passing.replace(target)
    except OSError as error:
        raise Stopped(f"--out {target}: {error.strerror}", Exit.WRONG_USE) from None
    finally:
        passing.unlink(missing_ok=True)


def _write(file: BinaryIO, piece: bytes) -> None:
    file.write(piece)


# ── Watching ────────────────────────────────────────────────────────────────────────────────────────────────


async def _watch(
    client: Client, command: Command, asked: Request, options: Namespace, file: BinaryIO
) -> Exit:
    """A line for each change until the end; a stream that breaks off before is joined again."""
    begun = False
    for _ in range(_RECONNECTS):
        try:
            async for name, run in _events(client, asked):
                begun = True
                raw = _json(run)
                _write(file, _shown(command, options, run, raw, file))
                file.flush()
                if name == "end":
                    return Exit.DONE if command.well(run) else Exit.FAILED
        except Stopped as error:
            if not begun or error.code is not Exit.UNAVAILABLE:
                raise
        await asyncio.sleep(_PAUSE)
    raise Stopped("the service broke off again and again; see runs show", Exit.UNAVAILABLE)


async def _events(client: Client, asked: Request) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream: pairs of name and data."""
    name = "message"
    async for line in _lines(client.pieces(asked)):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value)


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode().rstrip("\r")
