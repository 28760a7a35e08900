"""Every story plays in a world of its own."""

from collections.abc import Iterator

import asyncpg
import pytest
import structlog

from service import log
from tests.analytics.given import Lab


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log.configure("error", json=True)
    yield
    structlog.reset_defaults()


@pytest.fixture
def lab(pool: asyncpg.Pool) -> Lab:
    return Lab(pool)
