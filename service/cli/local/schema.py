"""The local command ``schema``: a built-in profile as a mapping file, and a trial of one on the dashboard."""

import argparse
import sys
from dataclasses import asdict

from rich.markup import escape

from service.cli.exit_codes import Exit
from service.cli.local.terminal import err, out, print_rows
from service.dashboard.profiles.mapping_text import mapping_text
from service.dashboard.profiles.shapes import PROFILES, Profile
from service.dashboard.schema_trial import SAMPLE_SIZE, SchemaTrial, TableTrial, try_profile
from service.errors import BadRequest, ConfigurationError
from service.jobs import all_jobs
from service.messages.reminder import kinds_of
from service.settings import Settings
from service.setup import parts


async def schema(settings: Settings, options: argparse.Namespace) -> Exit:
    """Print a built-in profile, or try a mapping file on the dashboard."""
    if options.what == "show":
        return _show(options)
    profile = _profile(settings, options.profile)
    if not settings.dashboard_url:
        raise ConfigurationError(["DASHBOARD_URL: name the dashboard on which the mapping is to be tried"])
    needs = {job.name: job.needs for job in all_jobs(settings.job_packages).values()}
    source = parts.source_of(settings.dashboard_url, settings)
    try:
        trial = await try_profile(source, profile, needs, settings.default_timezone)
    finally:
        await source.close()
    if options.json:
        out.print_json(data=asdict(trial) | {"fits": trial.fits})
    else:
        _print(trial, profile, options)
    return Exit.DONE if trial.fits else Exit.FAILED


def _show(options: argparse.Namespace) -> Exit:
    if options.profile not in PROFILES:
        raise BadRequest(f"there is no built-in profile {options.profile}; there are {', '.join(PROFILES)}")
    text = mapping_text(PROFILES[options.profile])
    if options.json:
        out.print_json(data={"profile": options.profile, "mapping": text})
    else:
        sys.stdout.write(text)
    return Exit.DONE


def _profile(settings: Settings, name: str) -> Profile:
    """A built-in profile, or that of a mapping file. Raises ConfigurationError."""
    if name in PROFILES:
        return PROFILES[name]
    kinds = kinds_of(all_jobs(settings.job_packages))
    try:
        profile = parts.profile_of(settings.model_copy(update={"dashboard_schema": name}), kinds.values())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{name}: the mapping file cannot be read: {error}"]) from None
    except ConfigurationError as error:
        problems = [problem.removeprefix("DASHBOARD_SCHEMA: ") for problem in error.problems]
        raise ConfigurationError([f"{name}: {problem}" for problem in problems]) from None
    if profile is None:
        raise BadRequest(f"name a mapping file, or one of {', '.join(PROFILES)}")
    return profile


def _print(trial: SchemaTrial, profile: Profile, options: argparse.Namespace) -> None:
    for table in trial.tables:
        _print_table(table, options)
    rejections = [
        {
            "what": rejection.reason,
            "how many": str(rejection.count),
            "is left out": "the record" if rejection.left_out else "the value",
            "for example": ", ".join(rejection.ids),
        }
        for rejection in trial.rejections
    ]
    print_rows(rejections, options, title="\nRejected", empty="\nNothing would be rejected.")
    jobs = [{"job": job.job, "verdict": job.verdict, "reason": job.reason} for job in trial.jobs]
    print_rows(jobs, options, title="\nJobs")
    if trial.problem:
        err.print(f"[red]✗[/] {escape(f'{profile.name}: {trial.problem}')}", highlight=False, soft_wrap=True)


def _print_table(table: TableTrial, options: argparse.Namespace) -> None:
    newest = "newest " if table.documents == SAMPLE_SIZE else ""
    rows = [
        {
            "field": field.field,
            "from": field.origin,
            "filled": f"{100 * field.filled:.0f} %",
            "examples": " · ".join(field.examples),
        }
        for field in table.fields
    ]
    title = f"\n{table.name}: the {newest}{table.documents} records"
    print_rows(rows, options, title=title, empty=f"\n{table.name}: no records")
    if table.unmapped:
        out.print(f"not mapped: {', '.join(table.unmapped)}", markup=False, highlight=False, soft_wrap=True)
    if table.problem:
        out.print(f"✗ {table.problem}", markup=False, highlight=False, soft_wrap=True)
