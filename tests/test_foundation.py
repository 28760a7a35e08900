import asyncio
import signal
import sys

import asyncpg

from tests.process import spawn


async def test_migrations_make_a_working_schema(pool: asyncpg.Pool) -> None:
    assert await pool.fetchval("SELECT count(*) FROM service.delivery_with_state") == 0


async def test_a_child_heeds_ctrl_c_where_the_tests_were_started_without_it() -> None:
    script = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = await spawn(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (await child.communicate())[0] == b"True\n"
