"""Reading settings from the environment, from files that it names (``NAME_FILE``), and from JSON.

``settings`` defines the variables and validates their values.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from service.engine.schedule import Schedule
from service.errors import ScheduleError


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
            return Path(path).read_text("utf-8").strip()
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


def schedule_problems(schedules: Mapping[str, str]) -> dict[str, str]:
    """The problems of cron expressions, by job; a sentence each."""
    problems = {}
    for job, expression in schedules.items():
        try:
            Schedule.parse(expression)
        except ScheduleError as error:
            problems[job] = f"{job}: {error}"
    return problems
