"""Every sample of every mail, with the job that writes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from service.engine.job import Job
from service.messages.kind import MessageKind
from service.messages.reminder import Reminder, reminders
from tests.acme import JOBS


@dataclass(frozen=True, slots=True)
class MailSample:
    """One way in which the mail of a job can turn out."""

    job: str
    kind: MessageKind
    variant: str
    facts: Mapping[str, Any]

    @property
    def template(self) -> str:
        return self.kind.template

    @property
    def name(self) -> str:
        """Of files and tests: ``weekly_review_quiet``."""
        return f"{self.template}_{self.variant}"


def samples_of(jobs: Mapping[str, Job]) -> tuple[MailSample, ...]:
    """In the order of the gallery."""
    return tuple(
        MailSample(job.id, job.kind, sample.variant, sample.facts)
        for job in in_order(reminders(jobs).values())
        for sample in job.kind.samples
    )


def in_order(jobs: Iterable[Reminder]) -> list[Reminder]:
    """As the preference page and the gallery show them."""
    return sorted(jobs, key=lambda job: job.kind.position)


SAMPLES = samples_of(JOBS)
"""Those of the service and of a package outside it."""
