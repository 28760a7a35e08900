"""``make soak``: fast slots for an hour, after which replicas and PostgreSQL hold what they held before.

``python -m tests.chaos.soak [MINUTES]``. It prints both, and the exit code is 1 where something grew.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.chaos.checks import MORE, Outcome, check
from tests.chaos.scenario import drain
from tests.chaos.servers import Servers, servers
from tests.chaos.stage import SLOTS, Load, Stage
from tests.chaos.watch import Watch

_WARM_SECONDS = 60.0
_MEASURE_SECONDS = 60.0
_DONE = "SELECT count(*) FROM service.job_run WHERE job = $1 AND state = 'succeeded'"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'jobs'"
_DEAD = "SELECT sum(n_dead_tup) FROM pg_stat_user_tables"
_MORE = MORE | {"connections": 20, "dead tuples": 20_000}


async def _measured(stage: Stage) -> dict[str, int]:
    """What is held now; of the replicas, the most that one of them holds. Rows are vacuumed first."""
    await stage.sql("VACUUM")
    held = [asdict(await replica.held()) for replica in stage.replicas]
    most = {name: max(one[name] for one in held) for name in held[0]}
    return most | {
        "connections": await stage.value(_CONNECTIONS),
        "dead tuples": int(await stage.value(_DEAD)),
    }


async def soak(servers: Servers, minutes: float, folder: Path) -> int:
    """The exit code."""
    stage, outcome = Stage(servers, Load(), 1, folder), Outcome("soak")
    async with stage.begun(), Watch(stage).watching() as watch:
        async with stage.feeding():
            await asyncio.sleep(min(_WARM_SECONDS, 10 * minutes))
            before = await _measured(stage)
            deadline = asyncio.get_running_loop().time() + 60 * minutes
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(min(_MEASURE_SECONDS, left))
                print(await _measured(stage), flush=True)
            after = await _measured(stage)
        await drain(stage, outcome)
        await stage.run_figures()
        await check(stage, outcome)
        done = await stage.value(_DONE, SLOTS)
        red = sum(not green for _, green in watch.greens)
    print(f"{done} slots in {minutes:g} minutes; health red in {red} of {len(watch.greens)} looks")
    print(*(f"{name:12} {before[name]:8} → {after[name]:8}" for name in before), *outcome.wrong, sep="\n")
    grown = [name for name, more in _MORE.items() if after[name] > before[name] + more]
    return 1 if grown or outcome.wrong or red else 0


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    minutes = float(arguments[0]) if arguments else 60.0
    with servers() as started, tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return asyncio.run(soak(started, minutes, Path(folder)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
