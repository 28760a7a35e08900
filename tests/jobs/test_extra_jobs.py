"""Jobs of packages outside the service: what is required of them, and what a mistake is answered with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import asyncpg
import pytest

from service.errors import ConfigurationError
from service.jobs import all_jobs
from service.jobs.extra_jobs import prepare_queries, require_usable
from service.messages.kind import MessageKind, Sample
from service.messages.mail.kind_check import kind_problems
from service.messages.reminder import Reminder
from service.settings import Settings
from service.setup.parts import problems_of
from tests.acme import JOBS, KINDS, PACKAGE, STALLED
from tests.acme_jobs.goal_ages import JOB as GOAL_AGES
from tests.acme_jobs.stalled_goals import JOB, KIND


def _changed(kind: MessageKind, **changes: Any) -> MessageKind:
    return replace(kind, **changes)


def _problems(*jobs: Any, package: str = "acme") -> list[str]:
    try:
        require_usable(all_jobs().values(), {package: jobs})
    except ConfigurationError as error:
        return error.problems
    return []


def test_the_jobs_of_a_package_stand_beside_the_services_own() -> None:
    assert set(JOBS) - set(all_jobs()) == {STALLED, "analytics.acme.goalAges"}
    assert JOBS[STALLED] is JOB


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_every_kind_has_all_its_words_in_every_language(kind: MessageKind) -> None:
    assert kind_problems(kind) == []


@pytest.mark.parametrize(
    ("job", "problem"),
    [
        (replace(JOB, name="stalledGoals"), "the job 'stalledGoals' needs a prefix"),
        (replace(JOB, name="reminder.stalledGoals"), "the job 'reminder.stalledGoals' needs a prefix"),
        (replace(GOAL_AGES, name="acme.goal ages"), "the job 'acme.goal ages' needs a prefix"),
        (replace(JOB, kind=_changed(KIND, name="stalled")), "the kind 'stalled' needs a prefix"),
        (replace(JOB, kind=_changed(KIND, name="daily")), "the kind 'daily' exists more than once"),
        (replace(JOB, kind=_changed(KIND, name="other.stalled")), "must have the prefix of its job"),
        (
            replace(JOB, kind=_changed(KIND, template="goal_deadlines")),
            "the template 'goal_deadlines' exists more than once",
        ),
    ],
)
def test_names_carry_a_prefix_and_are_not_taken(job: Any, problem: str) -> None:
    assert any(problem in found for found in _problems(job))


def test_two_jobs_of_one_name_and_two_packages_of_one_prefix_are_named() -> None:
    twice = _problems(JOB, JOB)
    assert "EXTRA_JOBS: the job 'reminder.acme.stalledGoals' exists more than once" in twice

    with pytest.raises(ConfigurationError, match="the prefix 'acme' is used by one and two"):
        require_usable((), {"one": [JOB], "two": [GOAL_AGES]})


@pytest.mark.parametrize("word", ["label", "hint", "reason", "stop"])
def test_a_missing_word_is_named(word: str) -> None:
    assert _problems(replace(JOB, kind=_changed(KIND, **{word: ""}))) == [
        f"EXTRA_JOBS: {STALLED}: the kind has no {word}"
    ]


def test_a_missing_translation_is_named() -> None:
    untranslated = replace(JOB, kind=_changed(KIND, label="Forgotten goals"))
    assert _problems(untranslated) == [
        f"EXTRA_JOBS: {STALLED}: de.po has no translation of 'Forgotten goals'"
    ]

    without_catalogue = _problems(replace(JOB, kind=_changed(KIND, catalogues=None)))
    assert any(
        "de.po has no translation of 'Take one up again, or close it.'" in one for one in without_catalogue
    )


def test_a_missing_template_and_one_that_does_not_fit_its_facts_are_named(tmp_path: Path) -> None:
    (mail := tmp_path / "mail").mkdir()
    for file in KIND.mail.iterdir():
        (mail / file.name).write_bytes(file.read_bytes())
    broken = replace(JOB, kind=_changed(KIND, mail=mail))
    assert _problems(broken) == []

    (mail / "in_app.txt").unlink()
    assert _problems(broken) == [f"EXTRA_JOBS: {STALLED}: {mail / 'in_app.txt'} is missing"]

    (mail / "in_app.txt").write_text("{% if %}")
    assert "cannot be read" in _problems(broken)[0]

    assert "has no sample" in _problems(replace(JOB, kind=_changed(KIND, samples=())))[0]
    unfit = replace(JOB, kind=_changed(KIND, samples=(Sample("bare", {"goals": []}),)))
    assert "the sample 'bare' cannot be rendered" in _problems(unfit)[0]


# ── From the environment ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a package with one job; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> str:
        (folder := tmp_path / name / "job").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("")
        (folder / "__init__.py").write_text(dedent(source))
        return name

    return write


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("acme_typo", "import no_such_module", "acme_typo cannot be imported (ModuleNotFoundError"),
        ("acme_fails", "1 / 0", "acme_fails cannot be imported (ZeroDivisionError"),
        ("acme_other", "JOB = 'a string'", "acme_other.job exports no JOB"),
        (
            "acme_names",
            "from dataclasses import replace\n"
            "from service.jobs.daily_analytics import JOB\n"
            "JOB = replace(JOB, name='goals')",
            "acme_names: the job 'goals' needs a prefix; use a name like acme.stalledGoals",
        ),
    ],
)
def test_a_mistake_in_a_package_is_named_before_anything_starts(
    package: Callable[[str, str], str], name: str, source: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as stopped:
        Settings.load({"EXTRA_JOBS": package(name, source)}, also=problems_of)

    [sentence] = stopped.value.problems
    assert sentence.startswith(f"EXTRA_JOBS: {problem}")


def test_a_package_that_is_not_there_or_brings_nothing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="EXTRA_JOBS: no_such_package cannot be imported"):
        Settings.load({"EXTRA_JOBS": "no_such_package"}, also=problems_of)
    with pytest.raises(ConfigurationError, match=r"EXTRA_JOBS: xml\.dom has no package below it"):
        Settings.load({"EXTRA_JOBS": "xml.dom"}, also=problems_of)


def test_settings_speak_of_such_jobs_as_of_the_services_own() -> None:
    schedules = '{"acme.stalledGoals": "0 8 * * *", "reminder.goalDeadlines": "0 7 * * *"}'
    environ = {"EXTRA_JOBS": f" {PACKAGE} ", "JOB_SCHEDULES": schedules}
    assert Settings.load(environ, also=problems_of).job_packages == (PACKAGE,)

    with pytest.raises(ConfigurationError, match=r"there is no job 'acme\.stalledGoals'"):
        Settings.load({"JOB_SCHEDULES": schedules}, also=problems_of)


async def test_queries_are_checked_by_the_database_at_the_start(
    pool: asyncpg.Pool, package: Callable[[str, str], str], tmp_path: Path
) -> None:
    async with pool.acquire() as connection:
        await prepare_queries(connection, [PACKAGE])

        name = package("acme_sql", "")
        (tmp_path / name / "job" / "job.sql").write_text(
            "-- name: page\nSELECT no_such_column FROM service.users"
        )
        with pytest.raises(
            ConfigurationError, match=r'acme_sql\.job, job\.sql page: column "no_such_column"'
        ):
            await prepare_queries(connection, [name])


def test_reminders_say_what_they_are() -> None:
    assert all(isinstance(job, Reminder) == id_.startswith("reminder.") for id_, job in JOBS.items())
