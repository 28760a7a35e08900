"""The suite's own servers: other tests' would not survive it."""

from collections.abc import Iterator

import pytest

from tests.chaos.servers import Servers, servers


@pytest.fixture(scope="session")
def chaos_servers() -> Iterator[Servers]:
    """A PostgreSQL and a MongoDB that may be broken."""
    with servers() as started:
        yield started
