"""Commands for jobs and runs."""

from service.cli import answers
from service.cli.arguments import body, day, delay, instant, path, positional, positive_integer, query
from service.cli.commands.command import BEFORE, Command
from service.cli.tables import ident, name, number, prose, text, time

_JOB = (path("type", "reminder or analytics"), path("name", "for example goalDeadlines"))
_JOB_BODY = (
    positional("type", "jobType", "reminder or analytics"),
    positional("name", "jobName", "for example goalDeadlines"),
)
_RUN = path("id", "the run's number; runs list shows them", positive_integer)

COMMANDS = (
    Command(
        "jobs", "getStatus", "GET", "/api/admin/jobs/status",
        "the jobs now: schedule, pause, last run", "jobs", answers.jobs,
    ),
    Command(
        "health", "getHealth", "GET", "/api/admin/jobs/health",
        "healthy or not, and why; exit code 1 when not", "health", answers.health,
        succeeded=answers.is_healthy, ok_statuses=(200, 503),
    ),
    Command(
        "statistics", "getStatistics", "GET", "/api/admin/jobs/statistics",
        "runs by their state, per type and job", "statistics", answers.statistics,
    ),
    Command(
        "run", "runJob", "POST", "/api/admin/jobs/run",
        "run one job now, for each user's local date", "run reminder goalDeadlines --dry-run",
        answers.run_result,
        (
            *_JOB_BODY,
            body("--dry-run", "decide, write nothing", field="dryRun", const=True),
            body("--as-of", "another moment, ISO 8601 with a zone", instant, field="asOf"),
            body("--user", "one user only", field="userId", metavar="ID"),
            body("--force", "send even if it was sent before (needs --user)", const=True),
            body("--confirm", "dataCleanup: more than 20 %% of the sessions may go", const=True),
            body("--no-wait", "do not wait for its end; see runs watch", field="wait", const=False),
        ),
        succeeded=answers.run_succeeded, timeout=3600,
    ),
    Command(
        "restart", "restart", "POST", "/api/admin/jobs/restart",
        "stop and start the loops of a job type", "restart reminder", answers.restart,
        (positional("type", "jobType", "reminder or analytics"),),
    ),
    Command(
        "schedule", "scheduleOnce", "POST", "/api/admin/jobs/schedule",
        "run a job once, later", "schedule reminder goalDeadlines --in 30m",
        answers.fields(ident("run", "id"), text("state"), time("runs at", "runAt")),
        (
            *_JOB_BODY,
            body("--in", "after this while: 90s, 30m, 2h, 7d (30 days at most)", delay, field="delayMs",
                 required=True),
        ),
    ),
    Command(
        "unschedule", "unschedule", "DELETE", "/api/admin/jobs/schedule/{id}",
        "take back a run that was scheduled", "unschedule 42", answers.sentence("The run is taken back."),
        (path("id", "its number, as schedule told it", positive_integer),),
    ),
    Command(
        "pause", "pause", "POST", "/api/admin/jobs/{type}/{name}/pause",
        "let a job's slots pass", "pause reminder dailyCheck --reason holidays --until 2026-12-27T00:00:00Z",
        answers.sentence("The job is paused; its slots pass."),
        (
            *_JOB,
            body("--reason", "why, for those who wonder"),
            body("--until", "resume by itself then; without: until resume", instant),
        ),
    ),
    Command(
        "resume", "resume", "POST", "/api/admin/jobs/{type}/{name}/resume",
        "end a pause", "resume reminder dailyCheck", answers.sentence("The job is not paused."), _JOB,
    ),
    Command(
        "backfill", "backfill", "POST", "/api/admin/jobs/{type}/{name}/backfill",
        "derive the figures of a range again",
        "backfill analytics dailyAnalytics --from 2026-03-01 --to 2026-03-08 --preview", answers.backfill,
        (
            *_JOB,
            body("--from", "first date, included", day, required=True),
            body("--to", "last date, included", day, required=True),
            body("--preview", "only tell which periods", const=True),
        ),
    ),
    # ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "runs list", "getHistory", "GET", "/api/admin/jobs/history",
        "runs, newest first", "runs list --type reminder --state failed",
        answers.table(
            ident("id"), name("job", "jobName"), text("state"), text("trigger"), time("slot", "nominalAt"),
            text("took", answers.run_duration), number("done"), text("reason", extra=True),
            name("type", "jobType", extra=True), empty="no runs",
        ),
        (
            query("--type", "only this type", field="jobType"),
            query("--name", "only this job (needs --type)", field="jobName"),
            query("--state", "only this state, for example failed"),
            *BEFORE,
        ),
        pages="before",
    ),
    Command(
        "runs show", "getRun", "GET", "/api/admin/runs/{id}",
        "one run: its attempts, its counts, its messages", "runs show 42", answers.run, (_RUN,),
    ),
    Command(
        "runs watch", "getRunEvents", "GET", "/api/admin/runs/{id}/events",
        "a run's progress, line by line, up to its end; exit code 1 unless it succeeded", "runs watch 42",
        answers.progress, (_RUN,), succeeded=answers.run_succeeded,
    ),
    Command(
        "runs cancel", "cancelRun", "POST", "/api/admin/runs/{id}/cancel",
        "ask a run to stop", "runs cancel 42", answers.sentence("The run is asked to stop."), (_RUN,),
    ),
    Command(
        "runs retry", "retryRun", "POST", "/api/admin/runs/{id}/retry",
        "let a run that failed, or is dead, go on where it stopped", "runs retry 42",
        answers.sentence("The run goes on; see runs watch."), (_RUN,),
    ),
    Command(
        "runs waive", "waiveRun", "POST", "/api/admin/runs/{id}/waive",
        "leave a run that failed, or is dead, as it is; health is red about it no longer",
        "runs waive 42 --reason imported-twice", answers.sentence("The run is waived."),
        (_RUN, body("--reason", "why, for those who wonder", required=True)),
    ),
    Command(
        "gates list", "getGates", "GET", "/api/admin/gates",
        "what is stopped now, by whom and why", "gates list",
        answers.table(
            ident("id"), name("scope"), name("name"), name("cause"), time("since", "since"),
            time("until", "until"), text("by"), prose("details"), empty="nothing is stopped",
        ),
    ),
    Command(
        "gates shut", "shutGate", "POST", "/api/admin/gates",
        "stop everything, a job, a kind of message or a domain: it waits until the gate is opened",
        'gates shut kind --name deadlines --reason "wrong words"',
        answers.sentence("It is stopped; see gates list."),
        (
            positional("scope", "scope", "what to stop: all, job, kind or domain"),
            body("--name", "which job, kind or domain"),
            body("--reason", "why, for those who wonder", required=True),
            body("--until", "it opens by itself then; without: until gates open", instant),
        ),
    ),
    Command(
        "gates open", "openGate", "POST", "/api/admin/gates/{id}/open",
        "let go on what a gate stopped", "gates open 3", answers.sentence("The gate is open."),
        (path("id", "the gate's number; gates list shows them", positive_integer),),
    ),
)  # fmt: skip
