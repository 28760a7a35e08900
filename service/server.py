"""The HTTP port, and serving until a signal stops the process."""

import gc
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from service import __version__
from service.app import Service, open_service
from service.demo import sample
from service.engine.loops import until_stopped
from service.errors import ConfigurationError
from service.settings import Settings
from service.setup import health
from service.stopping import Shutdown
from service.web import body_timeout

log = structlog.get_logger()

_ANSWER = 0.5
"""Seconds that answers which are under way may take at a stop, after the loops have stopped."""


async def listen(service: Service, *, inbox_page: bool = False) -> web.AppRunner:
    """Open the HTTP port. Raises ConfigurationError if it is in use."""
    settings = service.settings
    app = await service.web_app(inbox_page=inbox_page)
    http = web.AppRunner(app, access_log=None, keepalive_timeout=body_timeout.HEAD, shutdown_timeout=_ANSWER)
    await http.setup()
    try:
        await web.TCPSite(http, settings.host, settings.port).start()
    except OSError as error:
        await http.cleanup()
        raise ConfigurationError(
            [f"PORT: cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another"]
        ) from None
    return http


def freeze_loaded_objects() -> None:
    """Exclude the objects that the start has loaded from garbage collection.

    Scanning them blocks the event loop for 80 ms each time and frees nothing.
    """
    gc.collect()
    gc.freeze()


async def serve(settings: Settings) -> int:
    """Run the service until a signal stops it, also while it starts. Returns the exit code."""
    shutdown = Shutdown(settings.shutdown_grace_seconds)
    shutdown.listen()
    async with AsyncExitStack() as stack:
        if await until_stopped(_start(stack, settings, shutdown), shutdown.stop) is None:
            shutdown.released = True  # nothing was begun
        else:
            await shutdown.stop.wait()
    shutdown.closed(embedded=not settings.database_url)
    return shutdown.code


async def _start(stack: AsyncExitStack, settings: Settings, shutdown: Shutdown) -> Service:
    service = await stack.enter_async_context(open_service(settings))
    if service.databases.sample:
        await sample.write(service.databases.dashboard, sample.people(1, (await service.ledger.now()).date()))
    http = await listen(service, inbox_page=settings.loopback)
    stack.push_async_callback(http.cleanup)

    async def stop_loops() -> None:
        await service.manager.shutdown()
        shutdown.released = await health.released(service.ledger)

    stack.push_async_callback(stop_loops)
    await service.manager.initialize()
    freeze_loaded_objects()
    log.info("serving", host=settings.host, port=settings.port, version=__version__)
    return service
