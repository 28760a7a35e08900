"""Background jobs of a productivity dashboard: reminders and analytics.

The story in ten lines. The dashboard's people, goals and sessions are copied into our PostgreSQL
(``sources``). aiocron rings, and the ``trigger`` writes what is due into the ledger of runs (``store``).
A ``runner`` claims a run, lets its job read facts and decide (``jobs``; pure), and writes the decisions
as deliveries into the outbox, in one transaction with its own progress. ``delivery`` claims deliveries,
asks the dashboard once more whether they still hold, composes the mail (``mail``) and sends it, recording
each step so that nobody gets it twice. PostgreSQL's unique keys, epochs and clock make this true for
several such processes and after kill -9. ``admin`` shows it all over HTTP; ``app`` opens and closes
everything; ``manager.JobManager`` is the thin face for those who embed the service.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.manager import JobManager

__all__ = ["JobManager", "__version__"]

__version__ = "0.1.1"


def __getattr__(name: str) -> Any:
    # Lazily, so that importing one module does not open the whole house.
    if name == "JobManager":
        from service.manager import JobManager  # noqa: PLC0415

        return JobManager
    raise AttributeError(name)
