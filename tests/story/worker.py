"""Deliveries to be killed: a parent that forks one at each line of input and prints its process id.

``python -m tests.story.worker DSN PORT``. Forking keeps hundreds of deaths cheap: all is imported already.
"""

import asyncio
import os
import sys
from datetime import timedelta

from service import log
from service.clock import SystemClock
from service.engine.database import open_pool
from service.messages.delivery import DeliveryLoop
from service.messages.delivery_settings import DeliverySettings
from service.messages.limits import DomainLimits
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.outbox import Outbox
from service.setup.parts import email_of_delivery
from tests.given import World, composer

LEASE = timedelta(seconds=1)


async def deliver(dsn: str, port: int) -> None:
    """Send until killed."""
    pool = await open_pool(dsn, max_size=6)
    config = SmtpConfig("127.0.0.1", port, "none", connections=4, per_connection=50)
    make = composer()
    delivery = DeliveryLoop(
        Outbox(pool, str(os.getpid()), LEASE),
        SmtpPool(config, SystemClock()),
        lambda claimed: make.compose(email_of_delivery(claimed)),
        World(pool).current_state,
        World(pool).jobs,
        World(pool).replacements(),
        sender=lambda _id: make.sender,
        clock=SystemClock(),
        wake=asyncio.Event(),
        settings=DeliverySettings(connections=4, batch=5, limits=DomainLimits.parse("*=3/0"), idle=0.05),
    )
    await delivery.serve(asyncio.Event())


def main() -> None:
    """Fork at each line, reap the dead."""
    dsn, port = sys.argv[1], int(sys.argv[2])
    log.configure("error", json=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(deliver(dsn, port))
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
