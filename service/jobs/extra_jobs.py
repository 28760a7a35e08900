"""Jobs from packages outside this one (EXTRA_JOBS): loads and checks them.

Such a package has the layout of ``service.jobs``: each package below it exports one ``JOB``. It contains its
SQL, templates and translations; it has no tables and no migrations. The names of its jobs, kinds and
templates begin with a prefix of its own: ``acme.stalledGoals``.
"""

import importlib
import importlib.resources
import pkgutil
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service.engine import queries
from service.engine.job import Job, JobType
from service.errors import ConfigurationError
from service.messages.mail.kind_check import kind_problems
from service.messages.reminder import Reminder

_NAME = re.compile(r"[a-z][a-z0-9]*\.[A-Za-z][A-Za-z0-9_]*")


def jobs_of_package(package: str) -> list[Job]:
    """The ``JOB`` of every package below ``package``, by module name.

    Raises ConfigurationError if it cannot be imported, or has no job.
    """
    try:
        modules = [importlib.import_module(name) for name in _packages_below(package)]
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise ConfigurationError([f"EXTRA_JOBS: {package} cannot be imported ({words})"]) from error
    jobs = {module.__name__: getattr(module, "JOB", None) for module in modules}
    problems = [
        f"EXTRA_JOBS: {name} exports no JOB; let it be a Job or a Reminder"
        for name, job in jobs.items()
        if not isinstance(job, Job)
    ]
    if not modules:
        problems.append(f"EXTRA_JOBS: {package} has no package below it that exports a JOB")
    if problems:
        raise ConfigurationError(problems)
    return [job for job in jobs.values() if isinstance(job, Job)]


def _packages_below(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return sorted(f"{package}.{module.name}" for module in pkgutil.iter_modules(path) if module.ispkg)


def require_usable(own_jobs: Iterable[Job], extra: Mapping[str, Sequence[Job]]) -> None:
    """Raises ConfigurationError naming all problems of the jobs of other packages.

    ``own_jobs``: the service's jobs. ``extra``: package to its jobs.
    """
    problems = [
        *(problem for package, jobs in extra.items() for problem in _name_problems(package, jobs)),
        *_clashes([*own_jobs, *(job for jobs in extra.values() for job in jobs)]),
        *_shared_prefixes(extra),
        *(
            f"{job.id}: {problem}"
            for jobs in extra.values()
            for job in jobs
            if isinstance(job, Reminder)
            for problem in kind_problems(job.kind)
        ),
    ]
    if problems:
        raise ConfigurationError([f"EXTRA_JOBS: {problem}" for problem in problems])


def _names(job: Job) -> dict[str, str]:
    """The names of a job that have to be unique, by what they name."""
    names = {"job": job.id}
    if isinstance(job, Reminder):
        names |= {"kind": job.kind.name, "template": job.kind.template}
    return names


def _name_problems(package: str, jobs: Iterable[Job]) -> list[str]:
    problems = []
    for job in jobs:
        for role, name in (_names(job) | {"job": job.name}).items():
            if not _NAME.fullmatch(name) or _prefix(name) in set(JobType):
                problems.append(
                    f"{package}: the {role} {name!r} needs a prefix; use a name like acme.stalledGoals"
                )
            elif _prefix(name) != _prefix(job.name):
                problems.append(
                    f"{package}: the {role} {name!r} must have the prefix of its job {job.name!r}"
                )
    return problems


def _clashes(jobs: Iterable[Job]) -> list[str]:
    counts = Counter((role, name) for job in jobs for role, name in _names(job).items())
    return [f"the {role} {name!r} exists more than once" for (role, name), n in counts.items() if n > 1]


def _shared_prefixes(extra: Mapping[str, Sequence[Job]]) -> list[str]:
    packages: dict[str, set[str]] = {}
    for package, jobs in extra.items():
        for job in jobs:
            packages.setdefault(_prefix(job.name), set()).add(package)
    return [
        f"the prefix {prefix!r} is used by {' and '.join(sorted(names))}; each needs its own"
        for prefix, names in packages.items()
        if len(names) > 1
    ]


def _prefix(name: str) -> str:
    return name.partition(".")[0]


async def prepare_queries(connection: PoolConnectionProxy, packages: Iterable[str]) -> None:
    """Let PostgreSQL check every query of these packages.

    Raises ConfigurationError naming the queries that it refuses.
    """
    problems = []
    for package in packages:
        for name in _packages_below(package):
            for file, sql in _queries_of(name):
                try:
                    await connection.prepare(sql)
                except asyncpg.PostgresError as error:
                    problems.append(f"EXTRA_JOBS: {name}, {file}: {error}")
    if problems:
        raise ConfigurationError(problems)


def _queries_of(package: str) -> list[tuple[str, str]]:
    """(file and query, SQL) of each ``.sql`` file of a package."""
    files = [file for file in importlib.resources.files(package).iterdir() if file.name.endswith(".sql")]
    return [
        (f"{file.name} {query}", sql)
        for file in sorted(files, key=lambda file: file.name)
        for query, sql in queries.parse(file.read_text("utf-8")).items()
    ]
