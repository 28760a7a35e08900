"""What must hold after every scenario, from the tables, the relay's record and the dashboard."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from tests.chaos.load_jobs.every_minute import PAGES
from tests.chaos.replica import Held
from tests.chaos.stage import MAILS, SLOTS, Stage

_RUNS = (
    "SELECT nominal_at, state, trigger FROM service.job_run WHERE job = $1 AND trigger IN ('cron', 'catchup')"
)
_DECIDED = """
SELECT user_id, count(*) AS n FROM (
    SELECT user_id FROM service.delivery_with_state WHERE job = $1 AND channel = 'email'
    UNION ALL
    SELECT d.user_id FROM service.refusal_in_words AS d JOIN service.job_run AS r ON r.id = d.run_id
    WHERE d.job = $1 AND d.reason <> 'already_sent'
) AS decided GROUP BY user_id
"""
_OTHER_RUNS = """
SELECT job, state, count(*) AS n FROM service.job_run
WHERE job <> $1 AND state NOT IN ('succeeded', 'skipped', 'missed', 'pending') GROUP BY job, state
"""
_MAILS = "SELECT message_id, user_id, state, reason FROM service.delivery_with_state WHERE channel = 'email'"
_FIGURES = "SELECT user_id, local_date, focus_seconds FROM service.user_day WHERE focus_seconds > 0"
_COPY = "SELECT id, user_id, focus_seconds FROM service.timer_sessions"
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'jobs'"
MORE = {"files": 40, "threads": 12, "tasks": 40, "memory": 80}
"""By how much a replica may hold more than before: a pool that was used, buffers."""
_MOST_CONNECTIONS = 22
"""Of one replica: its pool, and what it may open beside it."""


@dataclass
class Outcome:
    """What came of a scenario. ``red``, ``green``: seconds after the fault's begin and end; None: never.

    ``held``: mails that are unconfirmed. ``rate``: slots per second before the fault; ``back``: seconds after
    its end until half of that was back; None: not looked at. ``problems``: what else is wrong, in words.
    """

    name: str
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    held: int = 0
    red: float | None = None
    green: float | None = None
    rate: float | None = None
    back: float | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be."""
        counts = {"lost": self.lost, "doubled": self.doubled}
        return [f"{n} {name}" for name, n in counts.items() if n] + self.problems


async def check(stage: Stage, outcome: Outcome, *, every: int = 1) -> None:
    """Fill in what was lost, doubled and held, and every problem. ``every``: minutes from slot to slot."""
    if stage.load.people:
        await _check_figures(stage, outcome)
    await _check_slots(stage, outcome, every)
    await _check_people(stage, outcome)
    await _check_mails(stage, outcome)
    if others := await stage.sql(_OTHER_RUNS, SLOTS):
        outcome.problems += [f"{row['n']} runs of {row['job']} are {row['state']}" for row in others]


async def _check_slots(stage: Stage, outcome: Outcome, every: int) -> None:
    """Each slot has one row, and each of its pages took effect once."""
    rows = await stage.sql(_RUNS, SLOTS)
    times = Counter(row["nominal_at"] for row in rows)
    states = Counter(row["state"] for row in rows)
    effects = Counter(tuple(row) for row in await stage.sql("SELECT job, slot, page FROM chaos_effect"))
    due: datetime = await stage.value("SELECT service.now() - interval '30 seconds'")
    first, *_, last = sorted([stage.first_slot, stage.first_slot, *times])
    wanted = [slot for slot in _slots(first, last, every) if slot < due or slot in times]
    outcome.lost += sum(slot not in times for slot in wanted)
    outcome.lost += sum((SLOTS, slot, page + 1) not in effects for slot in times for page in range(PAGES))
    outcome.doubled += sum(n - 1 for n in (*times.values(), *effects.values()))
    if states.keys() - {"succeeded"}:
        outcome.problems.append(f"slots by state: {dict(states)}")


def _slots(first: datetime, last: datetime, every: int) -> list[datetime]:
    minutes = range(int((last - first) / timedelta(minutes=1)) + 1)
    slots = [first + timedelta(minutes=n) for n in minutes]
    return [slot for slot in slots if slot.minute % every == 0]


async def _check_people(stage: Stage, outcome: Outcome) -> None:
    """Everybody was decided once."""
    if not stage.load.people:
        return
    decided = {row["user_id"]: row["n"] for row in await stage.sql(_DECIDED, MAILS)}
    people = set(stage.people.people)
    outcome.lost += len(people - decided.keys())
    outcome.doubled += sum(n - 1 for n in decided.values())


async def _check_mails(stage: Stage, outcome: Outcome) -> None:
    """What is sent was taken once; what is not sent is held, and is counted; nobody got what was over."""
    taken = Counter(one.message_id for one in stage.relay.accepted)
    rows = await stage.sql(_MAILS)
    states: dict[str, str] = {row["message_id"]: row["state"] for row in rows}
    outcome.held += sum(state == "unconfirmed" for state in states.values())
    outcome.lost += sum(state == "sent" and id_ not in taken for id_, state in states.items())
    outcome.doubled += sum(n - 1 for n in taken.values())
    over = {row["message_id"] for row in rows if row["user_id"] in stage.people.closed}
    if wrong := over & taken.keys():
        outcome.problems.append(f"{len(wrong)} mails about goals that had been reached")
    others = Counter(
        f"{row['state']}: {row['reason']}"
        for row in rows
        if row["state"] not in ({"skipped"} if row["message_id"] in over else {"sent", "unconfirmed"})
    )
    if others:
        outcome.problems.append(f"mails that were not sent: {dict(others)}")
    if unplanned := [id_ for id_ in taken if id_ not in states]:
        outcome.problems.append(f"{len(unplanned)} mails that nobody planned")


async def _check_figures(stage: Stage, outcome: Outcome) -> None:
    """The figures are those of the sessions at the dashboard, once dailyAnalytics has run."""
    rows = await stage.sql(_FIGURES)
    told = {(row["user_id"], row["local_date"]): row["focus_seconds"] for row in rows}
    right = stage.people.figures()
    wrong = [key for key in right.keys() | told.keys() if right[key] != told.get(key, 0)]
    if wrong:
        outcome.problems.append(f"figures of {len(wrong)} of {len(right)} days are wrong")


async def copy_differs(stage: Stage) -> int:
    """How many sessions of the copy are not those of the dashboard."""
    told = {tuple(row) for row in await stage.sql(_COPY)}
    right = {(one.id, one.person, one.seconds) for one in stage.people.sessions.values()}
    return len({key[0] for key in told ^ right})


async def check_resources(stage: Stage, outcome: Outcome, before: dict[str, Held]) -> None:
    """Files, threads, tasks, memory and connections are back where they were."""
    live = [replica for replica in stage.replicas if replica.alive]
    connections = await stage.value(_CONNECTIONS)
    if connections > _MOST_CONNECTIONS * len(live):
        outcome.problems.append(f"{connections} connections to our PostgreSQL")
    for replica in live:
        if replica.url in before:
            then, now = asdict(before[replica.url]), asdict(await replica.held())
            outcome.problems += [
                f"{name} grew to {now[name]} from {then[name]}"
                for name, more in MORE.items()
                if now[name] > then[name] + more
            ]
