"""/api/admin/runs/{id}/events: a run's progress to its end, as server-sent events.

All clients of a run share one poller, which stops when the last of them leaves. A slow client may miss
intermediate states, but never the final one.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from service.engine.database_errors import FAILURES
from service.engine.run import RunState
from service.web import params
from service.web.auth import HttpRefusal, add_security_headers

log = structlog.get_logger()

_POLL_INTERVAL = 0.7
"""Seconds between two reads of a run."""
_KEEPALIVE = 15.0
"""Seconds without a change after which a comment keeps the connection alive."""
_ENDED = frozenset(RunState) - {RunState.PENDING, RunState.RUNNING}

ReadRun = Callable[[int], Awaitable[dict[str, Any] | None]]
RenderRun = Callable[[Mapping[str, Any]], Awaitable[str]]
"""Renders a run as the data of an event."""

routes = web.RouteTableDef()


@dataclass(slots=True)
class WatchedRun:
    """A run with clients. ``version`` counts its changes; ``changed`` is set at the next one."""

    latest: dict[str, Any]
    version: int = 1
    readers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    poller: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the run has ended, so that nothing more will change."""
        return self.latest["state"] in _ENDED

    def update(self, run: dict[str, Any]) -> None:
        """Store the current state, and wake the clients if it changed."""
        if run != self.latest:
            self.latest = run
            self.version += 1
            self.wake()

    def wake(self) -> None:
        """Wake all clients."""
        previous, self.changed = self.changed, asyncio.Event()
        previous.set()


class RunFeed:
    """The watched runs. ``read_run`` reads a run by id; None: there is none."""

    def __init__(
        self, read_run: ReadRun, *, interval: float = _POLL_INTERVAL, keepalive: float = _KEEPALIVE
    ) -> None:
        self._read_run = read_run
        self._interval = interval
        self._lock = asyncio.Lock()
        self.keepalive = keepalive
        self.topics: dict[int, WatchedRun] = {}
        self.closing = False

    async def join(self, run_id: int) -> WatchedRun | None:
        """Start watching a run; call ``leave`` afterwards. None: there is no such run."""
        async with self._lock:
            topic = self.topics.get(run_id)
            if topic is None:
                run = await self._read_run(run_id)
                if run is None:
                    return None
                topic = self.topics[run_id] = WatchedRun(run)
        topic.readers += 1
        if topic.poller is None:
            topic.poller = asyncio.create_task(self._poll(run_id, topic), name=f"run {run_id}")
        return topic

    def leave(self, run_id: int, topic: WatchedRun) -> None:
        """Stop watching; the last client stops the poller."""
        topic.readers -= 1
        if topic.readers == 0:
            self.topics.pop(run_id, None)
            if topic.poller:
                topic.poller.cancel()

    async def close(self, _app: web.Application | None = None) -> None:
        """End every stream, because the service stops."""
        self.closing = True
        for topic in self.topics.values():
            topic.wake()

    async def _poll(self, run_id: int, topic: WatchedRun) -> None:
        while not topic.ended:
            await asyncio.sleep(self._interval)
            try:
                run = await self._read_run(run_id)
            except FAILURES as error:
                log.warning("run cannot be looked at", run=run_id, error=type(error).__name__)
                continue
            topic.update(run or {**topic.latest, "state": str(RunState.CANCELLED)})


FEED: web.AppKey[RunFeed] = web.AppKey("feed", RunFeed)


@routes.get("/api/admin/runs/{id}/events")
async def events(request: web.Request) -> web.StreamResponse:
    """A run's progress as server-sent events, until its end."""
    return await follow(request, params.path_id(request), _json)


async def _json(run: Mapping[str, Any]) -> str:
    return json.dumps(run)


async def follow(request: web.Request, run_id: int, render: RenderRun) -> web.StreamResponse:
    """Stream a run until its end, each state as ``render`` writes it. Raises HttpRefusal."""
    feed = request.app[FEED]
    topic = await feed.join(run_id)
    if topic is None:
        raise HttpRefusal(404, "Unknown run")
    try:
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type, response.charset = "text/event-stream", "utf-8"
        add_security_headers(response)
        await response.prepare(request)
        if request.method != "HEAD":
            await _stream(response, feed, topic, render)
        return response
    finally:
        feed.leave(run_id, topic)


async def _stream(response: web.StreamResponse, feed: RunFeed, topic: WatchedRun, render: RenderRun) -> None:
    try:
        await response.write(b"retry: 2000\n\n")
        sent_version = 0
        while not feed.closing:
            changed = topic.changed  # taken before the check, so that no later change is missed
            if topic.version != sent_version:
                sent_version, ended = topic.version, topic.ended
                await response.write(_event(await render(topic.latest), sent_version, ended=ended))
                if ended:
                    break
                continue
            await _wait_for_change(changed, feed.keepalive, response)
    except FAILURES as error:
        # The client has left; a browser reconnects by itself.
        log.debug("events_left", error=type(error).__name__)


async def _wait_for_change(changed: asyncio.Event, keepalive: float, response: web.StreamResponse) -> None:
    try:
        async with asyncio.timeout(keepalive):
            await changed.wait()
    except TimeoutError:
        await response.write(b": still here\n\n")


def _event(text: str, version: int, *, ended: bool) -> bytes:
    name, lines = "end" if ended else "progress", text.splitlines() or [""]
    return "\n".join(
        [f"event: {name}", f"id: {version}", *(f"data: {line}" for line in lines), "", ""]
    ).encode()
