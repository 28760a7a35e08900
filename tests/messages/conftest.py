"""Every story plays in a world of its own."""

import asyncpg
import pytest

from tests.given import World


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)
