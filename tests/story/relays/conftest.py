"""Each test with each relay that is here."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import pytest

from tests.story.relays import exim, name_server, postfix, relay
from tests.story.relays.internet import Fate, internet
from tests.story.relays.relay import Setup


class Start(Protocol):
    """Runs a relay."""

    def __call__(self, given: Setup, before: list[str], /) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True)
class Relay:
    """``own``: the fates of mails that only this relay knows."""

    name: str
    module: ModuleType
    start: Start
    own: Mapping[str, Fate]


RELAYS = {
    "postfix": Relay(
        "postfix",
        postfix,
        postfix.postfix,
        {
            "no-such-user": Fate("address", domain=relay.HOST, at_once=True),
            "dead": Fate("address", domain=name_server.DEAD),
            "lostmx": Fate("address", domain=name_server.LOST_MX),
        },
    ),
    "exim": Relay(
        "exim",
        exim,
        exim.exim,
        {
            "dead": Fate("way", domain=name_server.DEAD),
            "lostmx": Fate("address", domain=name_server.LOST_MX),
            "small": Fate("mailbox", domain="small.example"),
            "filter": Fate("way", domain="filter.example"),
        },
    ),
}
"""Exim says of a domain that does not exist what it says of every address that none of its routers knows."""


@pytest.fixture(params=RELAYS)
def kind(request: pytest.FixtureRequest) -> Relay:
    chosen = RELAYS[request.param]
    if reason := chosen.module.missing():
        pytest.skip(reason)
    if os.geteuid() != 0 or not name_server.may_be_asked_alone():
        pytest.skip("only root can give a relay a name server of its own (unshare --mount)")
    return chosen


@asynccontextmanager
async def started(kind: Relay, fates: Mapping[str, Fate]) -> AsyncIterator[Setup]:
    """The relay, and the servers to which it passes mail on."""
    async with (
        internet(fates) as routes,
        relay.setup(routes) as given,
        name_server.name_server(given.folder) as before,
        kind.start(given, before),
    ):
        yield given
