"""The scripts of others: exactly the listed ones, unchanged, and nothing beside them."""

import hashlib
import re
from pathlib import Path

import asyncpg
import pytest

import service.web.assets
from tests.web.given import admin

_FOLDER = Path(service.web.assets.__file__).parent / "vendor"
_LINE = re.compile(r"\| (\S+) \|.*`([0-9a-f]{64})` \|")


def test_files_are_the_ones_that_are_listed() -> None:
    listed = dict(_LINE.findall((_FOLDER / "README.md").read_text("utf-8")))
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in _FOLDER.iterdir()
        if file.suffix in {".js", ".css"}
    }
    assert found == listed


async def test_assets_are_served_to_everybody_and_not_again_when_unchanged(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        first = await given.client.get("/assets/htmx.min.js")
        assert (first.status, first.content_type) == (200, "text/javascript")
        assert await first.read() == (_FOLDER / "htmx.min.js").read_bytes()
        again = await given.client.get(
            "/assets/htmx.min.js", headers={"If-None-Match": first.headers["ETag"]}
        )
        assert again.status == 304


@pytest.mark.parametrize("name", ["README.md", "..%2Fassets.py", "%2e%2e%2faccess.py", "nothing.js"])
async def test_nothing_else_is_served(pool: asyncpg.Pool, name: str) -> None:
    async with admin(pool) as given:
        answer = await given.client.get(f"/assets/{name}")
        assert answer.status == 404
        assert (await answer.json())["success"] is False
