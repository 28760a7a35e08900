"""JobManager: what those who embed the service, the API and the command line start, watch and stop."""

from service.manager.job_manager import JobManager

__all__ = ["JobManager"]
