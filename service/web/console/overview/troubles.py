"""The problems, remedies and sparklines of the overview. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.web.console.formatting import duration, plural

SPARKS = 24
"""How many runs a sparkline shows."""
_GOOD = ("succeeded", "partial")
_LAG_MS = 250.0
_JOB_TYPES = ("reminder", "analytics")
_WRONG = {"unhealthy", "error", "stopped"}
_SYSTEM = "/console/system#dashboard"
_LOST = "The System page says what is missing, and takes a confirmation."
_REMEDIES = {
    "database": "Check DATABASE_URL and this service's PostgreSQL.",
    "dashboard": "Check DASHBOARD_URL and the dashboard's database; reminders wait for it.",
    "mail": "Check SMTP_HOST and the mail server; mails wait until they expire.",
    "inbox": "Notifications wait until they expire.",
    "loops": "It is restarted by itself; the log says why it stopped.",
}


@dataclass(frozen=True, slots=True)
class OverviewProblem:
    """A problem, its remedy, and a link to the page for it."""

    description: str
    remedy: str
    link: str = ""


def problems_of(
    health: Mapping[str, Any],
    replicas: Sequence[Mapping[str, Any]],
    alerts: Sequence[Mapping[str, Any]],
    anomalies: Sequence[Mapping[str, Any]],
    unconfirmed: int,
) -> list[OverviewProblem]:
    """All current problems, the most severe first; empty: all is well."""
    problems = [
        *_of_health(health["checks"]),
        *map(_of_condition, _untold(health.get("conditions", ()))),
        *map(_of_warning, health.get("warnings", ())),
    ]
    if not replicas:
        problems.append(
            OverviewProblem(
                "No process has shown a sign of life for five minutes.", "Start one: nothing runs now."
            )
        )
    problems += [
        OverviewProblem(f"{row['name']}: {row['detail']}", "It clears by itself once that is over.")
        for row in alerts
    ]
    if unconfirmed:
        problems.append(
            OverviewProblem(
                f"Nobody knows whether {plural(unconfirmed, 'mail')} arrived.",
                "Look at each, and resend it or leave it.",
                "/console/messages?state=unconfirmed",
            )
        )
    problems += [
        OverviewProblem(f"{row['series']}: {row['explanation']}", "Compare it with what changed then.")
        for row in anomalies
        if row["severity"] != "minor"
    ]
    problems += _of_replicas(replicas)
    return problems


def _of_health(checks: Mapping[str, Any]) -> Iterable[OverviewProblem]:
    for name, check in checks.items():
        details = check.get("details") or {}
        if name in _JOB_TYPES and details.get("problems"):
            for job, sentences in details["problems"].items():
                failed = details.get("unsettled", {}).get(job, [])
                yield from (_of_slot(job, slot) for slot in failed)
                described = {slot["problem"] for slot in failed}
                if rest := [sentence for sentence in sentences if sentence not in described]:
                    link = f"/console/jobs/{name}/{job}"
                    yield OverviewProblem(
                        f"{job}: {'; '.join(rest)}.", "Its page shows the last runs and why.", link
                    )
        elif name in _JOB_TYPES and check["status"] == "stopped" and check.get("activeJobs"):
            yield OverviewProblem(f"The {name} jobs are stopped in this process.", "Restart it.")
        elif check["status"] in _WRONG and name not in _JOB_TYPES:
            remedy = _LOST if details.get("lost") else _REMEDIES.get(name, "See the log.")
            link = _SYSTEM if name == "dashboard" else ""
            yield OverviewProblem(f"{name.capitalize()}: {_why(name, details)}.", remedy, link)


def _untold(conditions: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (condition for condition in conditions if not condition["inChecks"])


def _of_condition(condition: Mapping[str, Any]) -> OverviewProblem:
    what, _, remedy = condition["what"].partition("; ")
    return OverviewProblem(f"{_sentence(what)}.", f"{_sentence(remedy)}." if remedy else "The log says more.")


def _of_warning(warning: Mapping[str, Any]) -> OverviewProblem:
    link = f"/console/runs/{warning['runId']}?reason={warning['reason']}#left" if "runId" in warning else ""
    return OverviewProblem(f"{_sentence(warning['what'])}.", f"{_sentence(warning['remedy'])}.", link)


def _sentence(text: str) -> str:
    """With a capital letter, unless it begins with the name of a job or table."""
    first = text.partition(" ")[0]
    return text if first.lower() != first or "_" in first else text[0].upper() + text[1:]


def _of_slot(job: str, slot: Mapping[str, Any]) -> OverviewProblem:
    remedy = "Retry it or waive it." if slot["retryable"] else "It is too late to retry it: waive it."
    return OverviewProblem(f"{job}: {slot['what']}.", remedy, f"/console/runs/{slot['runId']}")


def _why(name: str, details: Mapping[str, Any]) -> str:
    if name == "loops":
        restarting = [loop for loop, status in details.items() if status.get("state") != "running"]
        return f"{', '.join(restarting)} restarting" if restarting else "one is restarting"
    return str(details.get("problem") or details.get("error") or "not working").rstrip(".")


def _of_replicas(replicas: Sequence[Mapping[str, Any]]) -> Iterable[OverviewProblem]:
    versions = sorted({row["version"] for row in replicas})
    if len(versions) > 1:
        yield OverviewProblem(
            f"Processes of different versions run: {', '.join(versions)}.",
            "Finish the roll-out, or take it back.",
        )
    for row in replicas:
        lag = (row["vitals"].get("loopLagMs") or {}).get("p99")
        if lag is not None and lag > _LAG_MS:
            yield OverviewProblem(
                f"{row['name']} is overloaded: its loop lags by {duration(lag / 1000)}.", "Give it more CPU."
            )


# ── The job grid ────────────────────────────────────────────────────────────────────────────────────────────


def streak(states: Sequence[str]) -> int:
    """The number of consecutive successes up to the newest run. ``states``: newest first."""
    return next((n for n, state in enumerate(states) if state not in _GOOD), len(states))


@dataclass(frozen=True, slots=True)
class SparkBar:
    """A bar of a sparkline, in units of its viewBox."""

    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Sparkline:
    """Durations of the last runs as bars, the newest last; ``summary``: the same in words."""

    bars: tuple[SparkBar, ...]
    summary: str


def spark(seconds: Sequence[float], width: float = 120, height: float = 28) -> Sparkline | None:
    """A sparkline of durations in seconds, newest first; None if there are none."""
    newest = list(seconds[:SPARKS])[::-1]
    if not newest:
        return None
    top, step = max(newest) or 1.0, width / SPARKS
    bars = []
    for n, value in enumerate(newest):
        high = max(1.5, height * value / top)
        bars.append(SparkBar(round(n * step, 2), round(height - high, 2), round(high, 2)))
    words = (
        f"Took {duration(newest[-1])} last; {duration(min(newest))} to {duration(max(newest))}"
        f" in {plural(len(newest), 'run')}"
    )
    return Sparkline(tuple(bars), words)
