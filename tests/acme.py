"""The jobs of the service, and those of ``tests.acme_jobs``, a package as an adopter could have written it.

Whatever holds for the service's own jobs holds for these too, so that the tests of all jobs are given both.
"""

from service.jobs import all_jobs
from service.messages.reminder import kinds_of

PACKAGE = "tests.acme_jobs"
JOBS = all_jobs((PACKAGE,))
KINDS = kinds_of(JOBS)
STALLED = "reminder.acme.stalledGoals"
