"""Every story plays in a world of its own, and some on a dashboard."""

import asyncpg
import pytest

from tests.given import World
from tests.sources.conftest import dashboard, mongo_dashboard, postgres_dashboard

__all__ = ["dashboard", "mongo_dashboard", "postgres_dashboard"]


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)
