"""The admin API, to be killed: ``python -m tests.web.acting_worker DSN`` prints its address and serves."""

import asyncio
import sys

from service import log
from service.engine.database import open_pool
from service.messages.mail.transport import Envelope, SendResult
from tests.given import Scripted, World
from tests.web.console.consoles import console


class Stuck(Scripted):
    """A mail server that has the mail, and never says so."""

    async def send_one(self, envelope: Envelope) -> SendResult:
        print("sending", flush=True)
        await asyncio.Event().wait()
        return await super().send_one(envelope)


async def serve(dsn: str) -> None:
    """Serve until killed."""
    world = World(await open_pool(dsn, max_size=6))
    async with console(world, transport=Stuck()) as given:
        print(given.client.make_url("/"), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    log.configure("error", json=True)
    asyncio.run(serve(sys.argv[1]))
