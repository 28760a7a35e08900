"""Reading settings from the environment, from files that it names (``NAME_FILE``), and from JSON.

``settings`` defines the variables and validates their values.
"""

import json
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from service.engine.schedule import Schedule
from service.errors import ScheduleError

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EHLO = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9.]{{7,15}}\]|\[IPv6:[0-9A-Fa-f:.]{{2,39}}\]")


def read_environment(names: Iterable[str], source: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values of the settings that are set, by lower-case name, and the problems of others."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name in names:
        if value := _value_of(name.upper(), source, problems):
            values[name] = value
    if "job_schedules" in values:
        values["job_schedules"] = _schedules_in(values["job_schedules"], problems)
    return values, problems


def _value_of(variable: str, source: Mapping[str, str], problems: list[str]) -> str:
    """A variable's value, or that of the file it names."""
    value = source.get(variable, "")
    if path := source.get(f"{variable}_FILE"):
        if value:
            problems.append(f"{variable}: set either {variable} or {variable}_FILE, not both")
        try:
            return Path(path).read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            problems.append(f"{variable}_FILE: cannot read {_file(path)}: {reason}")
            return ""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        problems.append(
            f"{variable}: the value is in quotes; leave them out"
            " (a shell removes them; files of variables keep them)"
        )
        return value[1:-1]
    return value


def _file(path: str) -> str:
    """The path as it may be shown: not if it could be the secret itself, written into the wrong variable."""
    folder = Path(path).parent
    return (
        path if folder.is_absolute() and folder != folder.parent and folder.is_dir() else "the file it names"
    )


def _schedules_in(text: str, problems: list[str]) -> Any:
    """The valid schedules, from JSON."""
    try:
        schedules = json.loads(text)
    except ValueError as error:
        problems.append(f'JOB_SCHEDULES: not JSON ({error}); use {{"goalDeadlines": "0 9 * * *"}}')
        return {}
    if not isinstance(schedules, dict) or not all(
        isinstance(expression, str) for expression in schedules.values()
    ):
        problems.append(
            'JOB_SCHEDULES: must be jobs with a cron expression each, like {"goalDeadlines": "0 9 * * *"}'
        )
        return {}
    invalid = schedule_problems(schedules)
    problems += [f"JOB_SCHEDULES: {problem}" for problem in invalid.values()]
    return {job: expression for job, expression in schedules.items() if job not in invalid}


def _ca_file(path: Path | None) -> Path | None:
    if path is None:
        return None
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise ValueError(f"{path} is no file that can be read; name the PEM file of the authority (CA)")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        raise ValueError(
            f"{path} holds no certificate in PEM; write the authority's there, from"
            " -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
        ) from None
    return path


def _ehlo_name(name: str) -> str:
    if name and (len(name) > 255 or not _EHLO.fullmatch(name)):
        raise ValueError(
            f"{name!r} is no host name; use the one that this machine's address has in DNS, such as"
            " jobs.example.org (or the address itself in brackets: [192.0.2.1])"
        )
    return name


CaFile = Annotated[Path | None, AfterValidator(_ca_file)]
"""A file with the certificate of an authority, in PEM; None: those that the system trusts."""
EhloName = Annotated[str, AfterValidator(_ehlo_name)]
"""A name that a mail server takes in EHLO; or empty."""


def misspelt(names: Iterable[str], source: Mapping[str, str]) -> list[str]:
    """Hints at variables in ``source`` that nothing reads and that look like misspelt ones of these."""
    known = set(names)
    hints = []
    for name in sorted(set(source) - known - {f"{one}_FILE" for one in known}):
        family = [one for one in known if one.partition("_")[0] == name.partition("_")[0] and "_" in name]
        if (near := get_close_matches(name, family, n=1, cutoff=0.8)) and near[0] not in source:
            hints.append(f"{name} is set and nothing reads it; is {near[0]} meant?")
    return hints


def about_others(problems: Iterable[str], candidates: Iterable[str]) -> list[str]:
    """Those candidates that are about other variables: what one is wrong about needs no second complaint.

    Schedules are problems of their own, each named by its job.
    """
    named = {word.removesuffix("_FILE") for problem in problems for word in _variables(problem)}
    named.discard("JOB_SCHEDULES")
    return [problem for problem in candidates if named.isdisjoint(_variables(problem))]


def _variables(problem: str) -> list[str]:
    return re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", problem.partition(":")[0])


def schedule_problems(schedules: Mapping[str, str]) -> dict[str, str]:
    """The problems of cron expressions, by job; a sentence each."""
    problems = {}
    for job, expression in schedules.items():
        try:
            Schedule.parse(expression)
        except ScheduleError as error:
            problems[job] = f"{job}: {error}"
    return problems
