"""What each stage of the statistics costs: CPU of PostgreSQL and of this process."""

import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.postgres_cost import PostgresMeter
from service.analytics import maintenance, rollups, user_profiles
from service.analytics.anomaly import series


@dataclass(slots=True)
class Cpu:
    """Seconds of CPU: of all processes of PostgreSQL, and of this one."""

    postgres: float = 0.0
    python: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.postgres + self.python

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.postgres - other.postgres, self.python - other.python)

    def add(self, other: "Cpu") -> None:
        """Add what another stretch has cost."""
        self.postgres += other.postgres
        self.python += other.python


class StageMeter:
    """Adds up the CPU of stages that run one after another; ``stages`` are those since ``clear``."""

    def __init__(self, postgres: PostgresMeter) -> None:
        self.stages: dict[str, Cpu] = {}
        self._postgres = postgres
        self._looking = 0.0
        self._wrap(maintenance, "rebuild_stale_days", lambda *_: "user days")
        self._wrap(maintenance, "derive_missing", lambda _, statistic, *__: str(statistic))
        self._wrap(rollups, "derive_stale", lambda _, statistic, *__: str(statistic))
        self._wrap(maintenance, "update_profiles", lambda *_: "profiles")
        self._wrap(user_profiles, "insights_of_month", lambda *_: "insights")
        self._wrap(user_profiles, "fit_churn", lambda *_: "churn model")
        self._wrap(series, "detect", lambda *_: "series")

    def now(self) -> Cpu:
        """The CPU so far, without that of looking."""
        began = time.process_time()
        postgres = self._postgres.cpu()
        self._looking += time.process_time() - began
        return Cpu(postgres, began - self._looking)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stretch that belongs to a stage."""
        before = self.now()
        yield
        self.stages.setdefault(name, Cpu()).add(self.now() - before)

    def _wrap(self, module: Any, name: str, stage: Callable[..., str]) -> None:
        function: Callable[..., Awaitable[Any]] = getattr(module, name)

        @functools.wraps(function)
        async def measured(*args: Any, **more: Any) -> Any:
            with self.stage(stage(*args)):
                return await function(*args, **more)

        setattr(module, name, measured)
