"""The settings of the copy of the dashboard."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from service.dashboard.profiles.shapes import Profile

Progress = Callable[[str, int], None]
"""``progress(table, rows read so far)``, called after each page of a first load."""


@dataclass(frozen=True)
class SyncSettings:
    """How a dashboard is read.

    ``schema``: auto, A, B, J or PG; ``profile``, from a mapping file, takes its place. ``session_tail``: see
    ``profiles.session_tail``. ``interval``: seconds between two synchronisations. ``overlap``: how far before
    the newest update each reading of changes starts. ``batch``: rows per transaction. ``owner``: a name that
    no other process has; None: a random one. ``lease``: after this long without a heartbeat another process
    takes over. ``compare_people_every``: how often users and goals are compared with the dashboard, at least;
    ``compare_sessions_every``: all sessions; ``compare_recent_every``: those of the last days. ``needs``:
    what each job needs of the dashboard, by the job's name, so that health can say which jobs wait.
    ``change_stream``: whether a change stream is followed where the dashboard has one.
    """

    default_timezone: str = "UTC"
    schema: str = "auto"
    profile: Profile | None = None
    deadline_date_only: Literal["auto", "never"] = "auto"
    session_tail: Literal["auto", "included", "excluded"] = "auto"
    interval: float = 120.0
    overlap: timedelta = timedelta(minutes=5)
    compare_people_every: timedelta = timedelta(minutes=5)
    compare_sessions_every: timedelta = timedelta(hours=24)
    compare_recent_every: timedelta = timedelta(hours=1)
    batch: int = 2000
    progress: Progress | None = None
    owner: str | None = None
    lease: timedelta = timedelta(seconds=30)
    change_stream: bool = True
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
