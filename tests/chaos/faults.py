"""Faults: each breaks one thing for some seconds and mends it. Drawn moments come from the stage's dice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import psutil

from tests.chaos.proxy import Proxy
from tests.chaos.replica import Replica
from tests.chaos.scenario import Fault
from tests.chaos.servers import freeze, thaw
from tests.chaos.stage import Stage

_OURS = "datname = current_database() AND usename = 'jobs'"
_LONG_RUN = """
SELECT owner, done FROM service.job_run WHERE job = 'analytics.chaos.longRun' AND state = 'running'
"""
_CANCEL = f"""
DO $$ BEGIN
    FOR i IN 1..3000 LOOP
        PERFORM pg_stat_clear_snapshot();
        PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE {_OURS} AND state = 'active';
        EXIT WHEN FOUND;
    END LOOP;
END $$
"""
_OWN_RUN = """
SELECT id FROM service.job_run WHERE state = 'running' AND owner LIKE $1 FOR UPDATE SKIP LOCKED
"""
_UNDER_WAY = """
SELECT 'mails' AS name, count(*) AS n FROM service.delivery_state WHERE state IN ('claimed', 'sending')
HAVING count(*) > 0
UNION ALL
SELECT 'runs', count(*) FROM service.job_run WHERE state = 'running' HAVING count(*) > 0
"""
_TERMINATE = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS}"


async def _some_time(stage: Stage, most: float) -> None:
    await asyncio.sleep(stage.dice.uniform(0.02, most))


def often(fault: Fault, times: int, pause: float) -> Fault:
    """The same several times, with drawn pauses of up to so many seconds before each."""

    async def repeated(stage: Stage) -> None:
        for _ in range(times):
            await _some_time(stage, pause)
            await fault(stage)

    return repeated


# ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────


async def kill(stage: Stage) -> None:
    """SIGKILL of one replica; it is started again after a second."""
    replica = stage.dice.choice(stage.replicas)
    await replica.kill()
    stage.kills += 1
    stage.faults += 1
    await asyncio.sleep(1)
    await replica.start()


async def kill_one_run(stage: Stage) -> None:
    """A long run's process is killed six times, each time after the run got further."""
    await stage.replicas[0].run({"jobType": "analytics", "jobName": "chaos.longRun"}, wait=False)
    seen, killed = 0, ""
    while stage.kills < 6:
        for row in await stage.sql(_LONG_RUN):
            if row["done"] > seen and row["owner"] != killed:
                seen, killed = row["done"], row["owner"]
                (replica,) = (one for one in stage.replicas if f"-{one.pid}-" in killed)
                await replica.kill()
                stage.kills += 1
                stage.faults += 1
                await replica.start()
        await asyncio.sleep(0.1)


def kill_every(seconds: float, times: int) -> Fault:
    """SIGKILL of one replica after the other."""

    async def kills(stage: Stage) -> None:
        for n in range(times):
            await asyncio.sleep(seconds)
            replica = stage.replicas[n % len(stage.replicas)]
            await replica.kill()
            stage.kills += 1
            stage.faults += 1
            await replica.start()

    return kills


async def freeze_replica(stage: Stage) -> None:
    """SIGSTOP of a replica between two steps of a run, for longer than its leases; then SIGCONT."""
    replica = await _frozen_between_steps(stage)
    stage.faults += 1
    await asyncio.sleep(8)
    replica.thaw()


async def _frozen_between_steps(stage: Stage) -> Replica:
    """Inside of a step nobody could take its run over."""
    async with asyncio.timeout(60):
        while True:
            replica = stage.dice.choice(stage.replicas)
            replica.freeze()
            await asyncio.sleep(0.2)  # what it sent before has been carried out
            if await stage.sql(_OWN_RUN, f"%-{replica.pid}-%"):
                return replica
            replica.thaw()
            await _some_time(stage, 0.1)


async def stop(stage: Stage) -> None:
    """SIGTERM of the only replica; it must end within Docker's ten seconds, with everything released."""
    (replica,) = stage.replicas
    stage.faults += 1
    seconds = await replica.stop(90)
    if seconds > 10 or replica.exit_code != 0:
        stage.problems.append(f"the stop took {seconds:.0f} s, exit code {replica.exit_code}")
    for row in await stage.sql(_UNDER_WAY):
        stage.problems.append(f"{row['n']} {row['name']} were not released")
    await replica.start()


def wrong_clock(*seconds: float) -> Fault:
    """Replicas are started again with wall clocks that are wrong by so many seconds."""

    async def skew(stage: Stage) -> None:
        for replica, skewed in zip(stage.replicas, seconds, strict=True):
            await replica.stop(60)
            await replica.start("tests.chaos.skewed", str(skewed), "serve")
            await replica.until_started()
            stage.faults += 1

    return skew


async def database_clock_ahead(stage: Stage) -> None:
    """The database's clock is 30 days ahead for five seconds."""
    now = "CREATE OR REPLACE FUNCTION service.now() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
    stage.faults += 1
    await stage.sql(f"{now} $$SELECT clock_timestamp() + interval '30 days'$$")
    await asyncio.sleep(5)
    await stage.sql(f"{now} $$SELECT clock_timestamp()$$")
    await asyncio.sleep(90)  # at the next full minute at the latest there is a slot to decide


# ── Our PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────


def restart(mode: str) -> Fault:
    """Our PostgreSQL is restarted: fast, immediate."""

    async def restarted(stage: Stage) -> None:
        stage.faults += 1
        await asyncio.to_thread(stage.servers.postgres.restart, mode)

    return restarted


async def terminate_all(stage: Stage) -> None:
    """All of our sessions are terminated."""
    stage.faults += len(await stage.sql(_TERMINATE))


async def terminate_one(stage: Stage) -> None:
    """The session that is in a transaction, or any."""
    stage.faults += len(await stage.sql(f"{_TERMINATE} ORDER BY xact_start IS NULL, random() LIMIT 1"))


async def cancel_one(stage: Stage) -> None:
    """The next statement that is seen to run, as statement_timeout would cancel it."""
    await stage.sql(_CANCEL)
    stage.faults += 1


async def frozen(stage: Stage, processes: list[psutil.Process], seconds: float) -> None:
    """SIGSTOP for so long."""
    stage.faults += 1
    freeze(processes)
    try:
        await asyncio.sleep(seconds)
    finally:
        thaw(processes)


async def freeze_database(stage: Stage) -> None:
    """All processes of our PostgreSQL are frozen: sessions stay open and nothing is answered."""
    await frozen(stage, stage.servers.postgres.processes(), 10)


async def fill_disk(stage: Stage) -> None:
    """No block is left for our database."""
    assert stage.disk
    stage.disk.fill()
    stage.faults += 1
    await asyncio.sleep(8)
    stage.disk.empty()


async def read_only(stage: Stage) -> None:
    """Every session is read-only, those that are open as well."""
    await _everywhere(stage, "ALTER SYSTEM SET default_transaction_read_only = on")
    stage.faults += 1
    await asyncio.sleep(10)
    await _everywhere(stage, "ALTER SYSTEM RESET default_transaction_read_only")


async def _everywhere(stage: Stage, statement: str) -> None:
    await stage.sql(statement)
    await stage.sql("SELECT pg_reload_conf()")


async def fail_over(stage: Stage) -> None:
    """Sessions end, new ones are read-only; after five seconds only those that are opened then may write."""
    stage.faults += 1
    await stage.sql(f"ALTER DATABASE {stage.name} SET default_transaction_read_only = on")
    await stage.sql(_TERMINATE)
    await asyncio.sleep(5)
    await stage.sql(f"ALTER DATABASE {stage.name} RESET default_transaction_read_only")


def no_connections(seconds: float) -> Fault:
    """Our role has used up its connections: none is left, and none can be opened."""

    async def exhausted(stage: Stage) -> None:
        stage.faults += 1
        await stage.sql("ALTER ROLE jobs CONNECTION LIMIT 0")
        await stage.sql(_TERMINATE)
        try:
            await asyncio.sleep(seconds)
        finally:
            await stage.sql("ALTER ROLE jobs CONNECTION LIMIT -1")

    return exhausted


async def few_connections(stage: Stage) -> None:
    """A role with six connections, and one more replica that is started beside the others."""
    await stage.sql("ALTER ROLE jobs CONNECTION LIMIT 6")
    try:
        await stage.sql(_TERMINATE)
        added = stage.add_replica()
        stage.faults += 1
        await added.start()
        await asyncio.sleep(10)
        if not added.alive:
            stage.problems.append(f"the other replica died: {added.log.read_text()[-300:]}")
        else:
            await added.stop(60)
    finally:
        await stage.sql("ALTER ROLE jobs CONNECTION LIMIT -1")


@asynccontextmanager
async def _locked(stage: Stage, *tables: str) -> AsyncIterator[asyncpg.Connection]:
    names = ", ".join(f"service.{table}" for table in tables)
    async with stage.operator() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
        yield connection


async def lock_deliveries(stage: Stage) -> None:
    """An operator's lock on the deliveries for longer than a lease."""
    async with _locked(stage, "delivery", "delivery_state"):
        stage.faults += 1
        await asyncio.sleep(60)


# ── Lines ───────────────────────────────────────────────────────────────────────────────────────────────────


def line(which: Callable[[Stage], Proxy], how: Callable[[Proxy], object], seconds: float) -> Fault:
    """A line breaks, for so many seconds."""

    async def broken(stage: Stage) -> None:
        stage.faults += 1
        how(which(stage))
        await asyncio.sleep(seconds)
        which(stage).heal()

    return broken


def cuts(which: Callable[[Stage], Proxy]) -> Fault:
    """All connections of a line are reset, five times at drawn moments."""
    return often(line(which, Proxy.cut, 0), 5, 1.0)


def to_database(stage: Stage) -> Proxy:
    return stage.database


def to_dashboard(stage: Stage) -> Proxy:
    return stage.dashboard


def to_relay(stage: Stage) -> Proxy:
    return stage.mail


def strand_some(proxy: Proxy) -> None:
    """Every other connection is stranded, as where a firewall has forgotten those that were idle."""
    proxy.strand(every=2)


def slow(proxy: Proxy) -> None:
    """Every piece takes a twentieth of a second longer."""
    proxy.delay = 0.05


# ── The relay ───────────────────────────────────────────────────────────────────────────────────────────────


def relay(phase: str, told: str, seconds: float, share: float = 1.0) -> Fault:
    """The relay says this in that phase (see tests.smtp_server) to a share of the mails, for some seconds."""

    async def misbehaving(stage: Stage) -> None:
        stage.faults += 1
        stage.relay_behaves(lambda at, _: told if at == phase and stage.dice.random() < share else None)
        await asyncio.sleep(seconds)
        stage.relay_behaves()

    return misbehaving


def log_ins_at_most(fault: Fault, most: int) -> Fault:
    """The same, while which there are no more log-ins than that."""

    async def counted(stage: Stage) -> None:
        before = stage.relay.logins
        stage.mail.cut()
        await fault(stage)
        if (logins := stage.relay.logins - before) > most:
            stage.problems.append(f"{logins} log-ins, at most {most} may be")

    return counted


# ── At once ─────────────────────────────────────────────────────────────────────────────────────────────────


def together(*faults: Callable[[Stage], Awaitable[None]]) -> Fault:
    """All at the same time."""

    async def all_of_them(stage: Stage) -> None:
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(fault(stage))  # type: ignore[arg-type]

    return all_of_them


def then(*faults: Fault) -> Fault:
    """One after the other."""

    async def in_turn(stage: Stage) -> None:
        for fault in faults:
            await fault(stage)

    return in_turn
