"""The HTTP port, signals, and serving until a signal stops the process."""

import asyncio
import gc
import os
import signal

import structlog
from aiohttp import web

from service import __version__
from service.app import Service, open_service
from service.demo import sample
from service.errors import ConfigurationError
from service.settings import Settings
from service.web import body_timeout

log = structlog.get_logger()


async def listen(service: Service, *, inbox_page: bool = False) -> web.AppRunner:
    """Open the HTTP port. Raises ConfigurationError if it is in use."""
    settings = service.settings
    app = await service.web_app(inbox_page=inbox_page)
    http = web.AppRunner(app, access_log=None, keepalive_timeout=body_timeout.HEAD)
    await http.setup()
    try:
        await web.TCPSite(http, settings.host, settings.port).start()
    except OSError as error:
        await http.cleanup()
        raise ConfigurationError(
            [f"PORT: cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another"]
        ) from None
    return http


def stop_on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT sets ``stop``, for a graceful end; the second ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if stop.is_set():
            log.warning("second signal: ending at once", signal=name)
            os._exit(1)
        log.info("stopping", signal=name)
        stop.set()

    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, on_signal, signal_.name)


def freeze_loaded_objects() -> None:
    """Exclude the objects that the start has loaded from garbage collection.

    Scanning them blocks the event loop for 80 ms each time and frees nothing.
    """
    gc.collect()
    gc.freeze()


async def serve(settings: Settings) -> None:
    """Run the service until a signal stops it."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with open_service(settings) as service:
        if service.databases.sample:
            await sample.write(
                service.databases.dashboard, sample.people(1, (await service.ledger.now()).date())
            )
        http = await listen(service, inbox_page=settings.loopback)
        try:
            await service.manager.initialize()
            freeze_loaded_objects()
            log.info("serving", host=settings.host, port=settings.port, version=__version__)
            await stop.wait()
        finally:
            await service.manager.shutdown()
            await http.cleanup()
