"""Every story plays in a world of its own, and some on a dashboard."""

from collections.abc import Iterator

import asyncpg
import pytest
import structlog

from service import log
from tests.analytics.given import Lab
from tests.dashboard.conftest import dashboard, mongo_dashboard, postgres_dashboard

__all__ = ["dashboard", "mongo_dashboard", "postgres_dashboard"]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log.configure("error", json=True)
    yield
    structlog.reset_defaults()


@pytest.fixture
def lab(pool: asyncpg.Pool) -> Lab:
    return Lab(pool)
