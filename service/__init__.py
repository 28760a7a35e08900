"""Background jobs of a productivity dashboard: reminders and analytics.

The dashboard's people, goals and sessions are copied into our PostgreSQL (``dashboard``). aiocron rings,
and the trigger writes what is due into the ledger of runs (``engine``). A runner claims a run and lets
its job (``jobs``) work in steps. A reminder reads facts and decides; the planner writes the decisions as
deliveries into the outbox (``messages``), in one transaction with the run's progress. Delivery asks the
dashboard once more whether they still hold, composes the mail and sends it, recording each step so that
nobody gets it twice. PostgreSQL's unique keys, epochs and clock make this true for several such
processes and after kill -9. ``web`` shows it all over HTTP; ``app`` opens and closes everything;
``manager.JobManager`` is for those who embed the service. See docs/architecture.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.engine.run import RunRequest
    from service.manager import JobManager

__all__ = ["JobManager", "RunRequest", "__version__"]

__version__ = "0.1.1"


def __getattr__(name: str) -> Any:
    # Lazily, so that importing one module does not open the whole house.
    if name == "JobManager":
        from service.manager import JobManager  # noqa: PLC0415

        return JobManager
    if name == "RunRequest":
        from service.engine.run import RunRequest  # noqa: PLC0415

        return RunRequest
    raise AttributeError(name)
