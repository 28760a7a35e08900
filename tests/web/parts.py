"""The parts that the web needs beside the manager, real ones."""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.engine.ledger import Ledger
from service.engine.trigger import timing_of
from service.jobs import hours_of_kinds
from service.messages.explain import Explainer
from service.messages.forecast import Forecaster
from service.messages.kind import nudges
from service.messages.outbox import Outbox
from service.messages.planner import PlannerSettings
from service.messages.preview import Previewer
from tests.acme import JOBS, KINDS
from tests.given import Scripted, composer

UTC = ZoneInfo("UTC")


def web_parts(
    pool: asyncpg.Pool, ledger: Ledger, runner: Any, zone: ZoneInfo = UTC, transport: Any = None
) -> dict[str, Any]:
    """Fields of ``AdminDeps`` by name, for all jobs, also those of a package outside.

    ``runner``: whoever explains, forecasts and previews.
    """
    jobs, made = JOBS, composer()
    planning = PlannerSettings("example.org", nudges=nudges(KINDS.values()))
    timings = {id_: timing_of(job) for id_, job in jobs.items()}
    nothing_archived: Any = None
    return {
        "outbox": Outbox(pool, "test", ledger.lease),
        "explainer": Explainer(pool, runner, jobs, timings, zone, planning),
        "forecaster": Forecaster(pool, ledger, runner, jobs, timings, zone),
        "previewer": Previewer(pool, runner, jobs, made, made.compose, transport or Scripted()),
        "people": PersonalData(pool, Archive(pool, Path("nothing-archived"), nothing_archived)),
        "compose": made.compose,
        "jobs": jobs,
        "hours": hours_of_kinds(jobs),
    }
