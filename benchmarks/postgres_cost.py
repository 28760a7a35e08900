"""What a PostgreSQL server on this machine has cost so far: CPU of its processes, WAL, fsyncs."""

from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import psutil

_WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8"
_FSYNCS = "SELECT sum(fsyncs)::int8 FROM pg_stat_io WHERE object = 'wal'"
_FSYNCS_BEFORE_18 = "SELECT wal_sync FROM pg_stat_wal"


@dataclass(frozen=True)
class PostgresCost:
    """``cpu``: seconds; ``wal``: bytes; ``fsyncs`` of the WAL: what connections that are closed, or idle for
    ten seconds, have told."""

    cpu: float
    wal: int
    fsyncs: int


class PostgresMeter:
    """Measures the server on this machine that is reached over this connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        postmaster = psutil.Process(connection.get_server_pid()).parent()
        assert postmaster
        self._postmaster = postmaster

    async def read(self) -> PostgresCost:
        """The cost so far."""
        recent = self._connection.get_server_version().major >= 18
        return PostgresCost(
            cpu=self.cpu(),
            wal=await self._connection.fetchval(_WAL),
            fsyncs=await self._connection.fetchval(_FSYNCS if recent else _FSYNCS_BEFORE_18),
        )

    def cpu(self) -> float:
        """Seconds of all processes, also of those that have ended."""
        own = self._postmaster.cpu_times()
        spent = own.user + own.system + own.children_user + own.children_system
        for child in self._postmaster.children():
            with suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                spent += times.user + times.system
        return spent
