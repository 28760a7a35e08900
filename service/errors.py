"""The errors of this service: one tree, one line each.

ServiceError
├── ConfigurationError     a setting is missing or impossible; the start stops with exit code 2
│   └── ScheduleError      a cron expression that is malformed or never comes due
├── UnknownJobType         ``Unknown job type: x``
├── UnknownJob             ``Unknown job: x``
├── BadRequest             the options of a call are invalid or contradict each other
│   └── JobOff             the job needs a table that does not exist according to the mapping file
├── UnknownUser            ``Unknown user: x``
├── NothingToSay           the job would not write to this user; the sentence says why
├── MailRefused            the mail server refused a test mail
├── AlreadyRunning         the job runs already and does not overlap itself
├── CleanupRefused         the dashboard's rows may not be removed; the sentence says why
├── ArchiveDamaged         a file of the archive is not what its manifest says
├── SchemaUnknown          documents exist, but no schema profile fits them
├── SourceUnavailable      the dashboard's database cannot be reached
│   ├── AnswerDoubted      it answers, but rows are missing; the answer is not used
│   ├── DashboardBusy      another process reads the dashboard now
│   └── DashboardIncomplete    it lacks a table or field that the job needs; the sentence names it
├── ChangeStreamUnavailable    the dashboard has no change stream that we may read; the sentence says why
├── ChangeHistoryLost      the change stream cannot go on from where it was
├── NotYet                 a statistic depends on another one that has not run yet
│   └── ReleaseTooOld      the database needs a newer release; this process claims and writes nothing
├── InboxClosed            the dashboard has no inbox that we may write to; the message says what to do
├── RunCancelled           somebody asked the run to stop
└── LeaseLost              this process no longer owns the run; its writes are refused
"""


class ServiceError(Exception):
    """Root of all errors that this service raises on purpose."""


class ConfigurationError(ServiceError):
    """One or more settings are wrong. ``problems`` holds one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ScheduleError(ConfigurationError):
    """A cron expression is malformed or can never come due."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


class UnknownJobType(ServiceError):
    """The job type is neither ``reminder`` nor ``analytics``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Unknown job type: {name}")


class UnknownJob(ServiceError):
    """The job type has no job of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Unknown job: {name}")


class BadRequest(ServiceError):
    """The options of a call contradict each other or cannot be read."""


class JobOff(BadRequest):
    """The job needs a table that the dashboard does not have, according to the mapping file."""


class UnknownUser(ServiceError):
    """The dashboard's copy has no user of this id."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"Unknown user: {user_id}")


class NothingToSay(ServiceError):
    """A job would not write a mail to this user at this moment."""


class MailRefused(ServiceError):
    """The mail server refused a test mail."""


class AlreadyRunning(ServiceError):
    """The job is running and may not overlap itself."""


class CleanupRefused(ServiceError):
    """The dashboard's rows may not be removed: it needs ``confirm``, or other rows depend on them."""


class ArchiveDamaged(ServiceError):
    """A file of the archive is missing or is not what its manifest, or the database, says."""


class SchemaUnknown(ServiceError):
    """Documents exist, but no schema profile maps them. Jobs refuse to run."""


class SourceUnavailable(ServiceError):
    """The dashboard's database cannot be reached. Runs wait until their deadline."""


class DashboardBusy(SourceUnavailable):
    """Another process reads the dashboard, and the copy is too old. Try again in a moment."""


class AnswerDoubted(SourceUnavailable):
    """The dashboard's answer lacks rows that it had: a table may be empty for a moment. Messages wait."""


class DashboardIncomplete(SourceUnavailable):
    """The dashboard lacks a table or a field that a job needs. Its runs wait until their deadline.

    ``names``: what is missing, canonical: ``goals``, ``users.email``.
    """

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


class ChangeStreamUnavailable(ServiceError):
    """The dashboard has no change stream that we may read. Its tables are compared instead."""


class ChangeHistoryLost(ServiceError):
    """The change stream cannot go on from where it was: begin a new one, and compare all tables."""


class NotYet(ServiceError):
    """A statistic depends on another one that has not run yet. The run waits until its deadline."""


class ReleaseTooOld(NotYet):
    """The database needs a newer release than this one; newer processes do the work."""


class InboxClosed(ServiceError):
    """The dashboard has no inbox for notifications, or not one that this service may write to.

    Notifications wait until it can be written to; the message says what is missing and what to do.
    """


class RunCancelled(ServiceError):
    """Somebody asked the run to stop; what its step has written is undone."""


class LeaseLost(ServiceError):
    """Another process owns the run or delivery now (its epoch is newer than ours)."""
