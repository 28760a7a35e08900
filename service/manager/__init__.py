"""JobManager: the interface of embedding applications, the API and the command line."""

from service.manager.job_manager import JobManager

__all__ = ["JobManager"]
