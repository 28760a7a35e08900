"""All scenarios, and the faults that seeds draw from."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from tests.chaos import deploys
from tests.chaos.dashboard_faults import (
    compared,
    empty_dashboard,
    freeze_dashboard,
    kill_dashboard,
    late_sessions,
    new_sessions,
    step_down,
    then_goals_are_reached,
)
from tests.chaos.faults import (
    cancel_one,
    cuts,
    database_clock_ahead,
    fail_over,
    few_connections,
    fill_disk,
    freeze_database,
    freeze_replica,
    kill,
    kill_every,
    kill_one_run,
    line,
    lock_deliveries,
    log_ins_at_most,
    no_connections,
    often,
    read_only,
    relay,
    restart,
    slow,
    stop,
    strand_some,
    terminate_all,
    terminate_one,
    then,
    to_dashboard,
    to_database,
    to_relay,
    together,
    wrong_clock,
)
from tests.chaos.proxy import Proxy
from tests.chaos.scenario import Fault, Scenario
from tests.chaos.stage import Load, Stage

_MAILS = Load(slots=5, people=300)
_PLANNING = Load(slots=0, people=1200, mail_seconds=0.0, planning=True)
_STEADY = Load(people=50)
_MANY = Load(slots=5, people=600)
"""So many that mails are still waiting when the fault ends."""
_SILENT = "a silent relay holds its connections for minutes"


def _with_and_without_mails(
    name: str, fault: Fault, *, red: bool = False, small_disk: bool = False, long: bool = True
) -> Iterator[Scenario]:
    """While slots are carried out, and while mails are sent as well: each shows other errors."""
    yield Scenario(name, fault, Load(people=1, small_disk=small_disk), red, long=long)
    load = replace(_MAILS, small_disk=small_disk)
    yield Scenario(f"{name} (mails)", fault, load, red, long=False)


def _lines_to_the_dashboard() -> Iterator[Scenario]:
    """Sessions come meanwhile, which must arrive when the line is back."""
    for kind in ("MongoDB", "PostgreSQL"):
        load = replace(_MANY, dashboard=kind)
        name = f"connections to the dashboard ({kind})"
        for what, fault in {
            "are cut": cuts(to_dashboard),
            "stall": line(to_dashboard, Proxy.stall, 30),
            "are stranded": line(to_dashboard, Proxy.strand, 30),
        }.items():
            meanwhile = then_goals_are_reached(together(fault, new_sessions))
            yield Scenario(f"{name} {what}", meanwhile, load, red=what == "stall", long=False)
        for what, fault in {
            "are stranded, every other one": line(to_dashboard, strand_some, 30),
            "are slow": line(to_dashboard, slow, 15),
        }.items():
            yield Scenario(f"{name} {what}", together(fault, new_sessions), load, long=False)


SCENARIOS = [
    # The five public ones.
    Scenario("one of two workers is killed", kill, _STEADY, public=True),
    Scenario("PostgreSQL is restarted", restart("fast"), _STEADY, public=True),
    Scenario("all sessions are terminated", terminate_all, _STEADY, public=True),
    Scenario("no connection for 60 s", no_connections(60), _STEADY, public=True, red=True, long=False),
    Scenario("a worker is killed every 10 s for two minutes", kill_every(10, 12), _STEADY,
             public=True, long=False),
    # Processes.
    Scenario("kills", often(kill, 4, 2.0)),
    Scenario("six deaths of one run", kill_one_run, long=False),
    Scenario("a replica is frozen", freeze_replica, long=False),
    Scenario("stop", stop, Load(replicas=1)),
    Scenario("stop while the relay is slow", together(relay("after_dot", "slow 15", 12), stop),
             Load(people=300, replicas=1), held=4, long=False),
    Scenario("clocks of replicas are wrong by an hour", wrong_clock(3600, -3600)),
    Scenario("the database's clock is ahead", database_clock_ahead, red=True, long=False),
    # Our PostgreSQL.
    *(
        Scenario(f"{name} while mails are planned", together(fault, line(to_relay, Proxy.stall, 4)),
                 _PLANNING, long=False)
        for name, fault in {
            "restarts": often(restart("fast"), 3, 1.5),
            "sessions are terminated": often(terminate_one, 20, 0.2),
            "statements are cancelled": often(cancel_one, 30, 0.15),
        }.items()
    ),
    *_with_and_without_mails("immediate restarts", often(restart("immediate"), 3, 2.0)),
    *_with_and_without_mails("single sessions are terminated", often(terminate_one, 30, 0.3)),
    *_with_and_without_mails("statements are cancelled", often(cancel_one, 60, 0.15), long=False),
    *_with_and_without_mails("connections to PostgreSQL are cut", cuts(to_database)),
    *_with_and_without_mails("the disk is full", fill_disk, small_disk=True, long=False),
    *_with_and_without_mails("PostgreSQL is read-only", read_only, red=True),
    *_with_and_without_mails("fail-over", fail_over, red=True),
    Scenario("PostgreSQL is frozen", freeze_database, red=True, long=False),
    Scenario("an operator locks the deliveries for a minute", lock_deliveries, red=True, long=False),
    Scenario("a role with six connections", few_connections, Load(people=1, replicas=1), long=False),
    # Lines.
    Scenario("connections to PostgreSQL stall", line(to_database, Proxy.stall, 10), red=True, long=False),
    Scenario("connections to PostgreSQL are stranded", line(to_database, Proxy.strand, 45), red=True,
             long=False),
    Scenario("PostgreSQL is far away", line(to_database, slow, 8), long=False),
    *_lines_to_the_dashboard(),
    Scenario("connections to the relay are cut", cuts(to_relay), _MAILS, held=20, long=False),
    Scenario("connections to the relay are stranded", line(to_relay, Proxy.strand, 15), _MAILS, held=8,
             long=False, expected=_SILENT),
    # The dashboard.
    *(
        Scenario(f"the dashboard's {name}", then_goals_are_reached(fault), _MANY, red=red, long=False)
        for name, fault, red in (
            ("MongoDB is killed", kill_dashboard, True),
            ("MongoDB steps down", step_down, False),
            ("MongoDB is frozen", freeze_dashboard, True),
            ("collections are emptied and restored", empty_dashboard(1.0), True),
            ("collections are dropped and restored", empty_dashboard(1.0, dropped=True), True),
            ("users are half gone and come back", empty_dashboard(0.5), True),
        )
    ),
    Scenario("late sessions during kills", together(late_sessions, kill_every(4, 3)), long=False),
    Scenario("late sessions during kills (PostgreSQL)",
             then(together(late_sessions, kill_every(4, 3)), compared), Load(dashboard="PostgreSQL"),
             long=False),
    # The relay.
    Scenario("the relay refuses connections", line(to_relay, Proxy.refuse, 8), _MAILS, red=True, held=4,
             long=False),
    Scenario("the relay refuses the log-in", log_ins_at_most(relay("auth", "535 5.7.8 no", 20), 12),
             Load(slots=0, people=1500), red=True, long=False),
    Scenario("the relay refuses every content", relay("dot", "552 5.3.4 too big", 10), _MAILS, red=True,
             long=False),
    Scenario("the relay throttles", relay("rcpt", "451 4.7.1 later", 5, 0.3), _MAILS, long=False),
    Scenario("the relay hangs up before the dot", relay("content", "drop", 5, 0.2), _MAILS, long=False),
    Scenario("the relay hangs up after the dot", relay("after_dot", "drop", 2, 0.1), _MAILS, held=60,
             long=False),
    *(
        Scenario(f"the relay answers late ({phase})", relay(phase, "slow 8", 10), _MAILS,
                 long=False)
        for phase in ("connect", "auth", "mail", "rcpt", "data", "content", "after_dot")
    ),
    *(
        Scenario(f"the relay hangs ({phase})", relay(phase, "hang", 5, 0.1), _MAILS, long=False,
                 expected=_SILENT)
        for phase in ("connect", "auth", "mail", "rcpt", "data", "after_dot")
    ),
    # Deploys.
    Scenario("a deploy changes the schedule", deploys.other_schedule, Load(slots=40, people=1, fed=False),
             every=2),
    Scenario("the last release beside this one", deploys.last_release, _MAILS, long=False),
    Scenario("a newer schema comes while the last release sends", deploys.newer_schema, _MAILS,
             long=False),
]  # fmt: skip

DRAWN = {
    "kill": kill,
    "terminate all": terminate_all,
    "terminate one": often(terminate_one, 3, 0.3),
    "cancel one": often(cancel_one, 5, 0.3),
    "restart": restart("fast"),
    "cut database": line(to_database, Proxy.cut, 0.5),
    "stall database": line(to_database, Proxy.stall, 2),
    "cut dashboard": line(to_dashboard, Proxy.cut, 0.5),
    "stall dashboard": line(to_dashboard, Proxy.stall, 2),
    "stall relay": line(to_relay, Proxy.stall, 2),
    "throttle": relay("mail", "421 4.3.2 later", 1, 0.1),
}
"""Short faults, of which seeds draw some."""


def drawn(seed: int, *, faults: int) -> Scenario:
    """So many of them, one after the other, as the seed draws them; the seed repeats them."""

    async def all_drawn(stage: Stage) -> None:
        for name in stage.dice.choices(sorted(DRAWN), k=faults):
            await asyncio.sleep(stage.dice.uniform(0, 1))
            await DRAWN[name](stage)

    return Scenario(f"seed {seed}: {faults} drawn faults", all_drawn, Load(people=100))
