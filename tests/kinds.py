"""The kinds of message that the service brings, by name, for tests and benchmarks."""

from service.jobs import all_jobs
from service.messages.kind import nudges
from service.messages.reminder import kinds_of

KINDS = kinds_of(all_jobs())
DEADLINES, DAILY, WEEKLY, INACTIVE, BREAKS, MONTHLY = KINDS.values()
NUDGES = nudges(KINDS.values())
