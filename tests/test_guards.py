"""``tests/guards.toml`` is current: what it names is there; a sample of it is noticed."""

import subprocess
import sys

import asyncpg
import pytest

from service.engine import queries
from tests.guards import guards
from tests.releases import ROOT

_SAMPLE = ("ledger.sql fence: FOR KEY SHARE", "lease.sql close: FOR UPDATE", "outbox.sql cancel: AND claim")


def test_each_guard_is_there_once_and_has_its_test() -> None:
    listed = guards()

    for guard in listed:
        text = (ROOT / guard.file).read_text("utf-8")
        assert guard.without(text) != text
    assert [guard.test for guard in listed if not guard.tested] == []
    assert len(set(listed)) == len(listed)


async def test_what_is_left_is_a_statement_with_the_same_parameters(pool: asyncpg.Pool) -> None:
    """Otherwise any test would notice."""
    async with pool.acquire() as connection:
        for guard in guards():
            if guard.file.endswith(".sql") and guard.section:
                text = (ROOT / guard.file).read_text("utf-8")
                before, after = (queries.parse(one)[guard.section] for one in (text, guard.without(text)))
                prepared = [await connection.prepare(query) for query in (before, after)]
                parameters = [[one.name for one in query.get_parameters()] for query in prepared]
                assert parameters[0] == parameters[1], guard.name


@pytest.mark.long(only=True)
def test_a_sample_of_the_guards_is_noticed() -> None:
    command = [sys.executable, "-m", "tests.guards", *_SAMPLE]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "3 guards, 3 noticed"), done.stderr
