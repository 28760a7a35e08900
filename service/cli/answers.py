"""Renders answers of the API as blocks to print. Pure."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from service.cli.phrases import REASONS, withdrawn_text
from service.cli.tables import (
    Block,
    FieldList,
    Row,
    TableColumn,
    TextBlock,
    TextTable,
    ident,
    name,
    number,
    percent,
    period,
    prose,
    sentences,
    text,
    time,
)

Render = Callable[[Any], list[Block]]

_SUCCESSFUL = {"succeeded", "pending", "running"}


def always_succeeds(_answer: Any) -> bool:
    """Every answer is a success."""
    return True


def is_healthy(answer: Any) -> bool:
    """Whether the service is healthy."""
    return bool(answer.get("status") == "healthy")


def run_succeeded(answer: Any) -> bool:
    """Whether a run succeeded or is still active."""
    return answer.get("state") in _SUCCESSFUL


# ── Renderers for several commands ──────────────────────────────────────────────────────────────────────────


def table(*columns: TableColumn, empty: str = "nothing yet; see analytics watermarks") -> Render:
    """A renderer of ``data`` as a table."""
    return lambda answer: [TextTable(columns, answer["data"], empty=empty)]


def fields(*columns: TableColumn) -> Render:
    """A renderer of the answer's own fields."""
    return lambda answer: [FieldList(columns, answer)]


def sentence(text_: str) -> Render:
    """A renderer of a fixed sentence."""
    return lambda _answer: [TextBlock(text_)]


def as_json(answer: Any) -> list[Block]:
    """The answer as JSON."""
    return [TextBlock(json.dumps(answer.get("data", answer), ensure_ascii=False, indent=2))]


# ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────


def short_job(row: Row) -> str:
    """A job's name without its type."""
    return str(row["job"]).rpartition(".")[2]


def focus_minutes(row: Row) -> float:
    """Minutes of focus of a day."""
    return float(row["focusSeconds"]) / 60


def finality(row: Row) -> str:
    """Whether figures are final or provisional, and how often they were revised."""
    state = "final" if row["final"] else "provisional"
    return f"{state}, revised {row['revision'] - 1}×" if row["revision"] > 1 else state


def anomaly_state(row: Row) -> str:
    """Whether an anomaly is open."""
    if row["withdrawnAt"]:
        return "withdrawn"
    return "over" if row["closedAt"] else "open"


def point_state(row: Row) -> str:
    """What is to be known of a point."""
    holiday = f"holiday in {row['holiday']}" if row["holiday"] else ""
    return ", ".join(filter(None, ("provisional" if row["provisional"] else "", holiday)))


def trends(row: Row) -> str:
    """The trends that are significant enough to be shown."""
    signs = {"trend": "", "significant": "!"}
    return ", ".join(
        f"{_FIGURES.get(figure, figure)} {trend['percent']:+.0f} %{signs[trend['verdict']]}"
        for figure, trend in (row.get("trends") or {}).items()
        if trend["verdict"] in signs
    )


_FIGURES = {
    "activeUsers": "active",
    "newUsers": "new",
    "totalSessions": "sessions",
    "totalFocusTime": "minutes",
    "goalsCreated": "goals created",
    "goalsCompleted": "goals completed",
}


def run_duration(row: Row) -> str | None:
    """The duration of a run; None if it has not ended."""
    if not row.get("startedAt") or not row.get("finishedAt"):
        return None
    seconds = (_parse_time(row["finishedAt"]) - _parse_time(row["startedAt"])).total_seconds()
    return format_duration(seconds)


def format_duration(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minute, rest = divmod(round(seconds), 60)
    hour, minute = divmod(minute, 60)
    return f"{hour} h {minute:02} min" if hour else f"{minute} min {rest:02} s"


def _parse_time(time_text: str) -> datetime:
    return datetime.fromisoformat(time_text)


# ── Jobs ────────────────────────────────────────────────────────────────────────────────────────────────────


def jobs(answer: Any) -> list[Block]:
    """Every job of both types."""
    rows = [
        {"type": job_type, "name": job, **job_status}
        for job_type, type_status in answer["jobs"].items()
        for job, job_status in type_status.get("jobs", {}).items()
    ]
    columns = (
        name("type"), name("name"), text("schedule"), text("paused", _paused),
        text("last run", "lastRun.state"), time("last success", "lastSuccessAt"),
        text("clock", "mode", extra=True),
    )  # fmt: skip
    return [*_warnings(answer), TextTable(columns, rows, empty="no jobs: the service is starting")]


def _warnings(answer: Any) -> list[Block]:
    """What may be a mistake; it comes first."""
    return [TextBlock(f"⚠ {one['what']}; {one['remedy']}") for one in answer.get("warnings", ())]


def _paused(row: Row) -> str:
    if not row["paused"]:
        return "no"
    return "yes" + (f": {row['pausedReason']}" if row.get("pausedReason") else "")


def health(answer: Any) -> list[Block]:
    """The overall status, and each check with its details."""
    rows = [
        {"check": check_name, "status": check["status"], "details": check.get("details") or None}
        for check_name, check in answer["checks"].items()
    ]
    columns = (name("check"), name("status"), prose("details"))
    status = TextBlock(f"The service is {answer['status']}.")
    wrong = [
        TextBlock(f"{'✗' if one['severity'] == 'problem' else '⚠'} {one['what']}")
        for one in answer.get("conditions", ())
        if not one.get("inChecks")
    ]
    return [status, *wrong, *_warnings(answer), TextTable(columns, rows)]


def statistics(answer: Any) -> list[Block]:
    """Runs by state, and each job's last success."""
    overview = answer["overview"]
    rows = [
        {"type": job_type, "jobs": entry["jobCount"], "loops": "running" if entry["isRunning"] else "stopped",
         "runs": entry.get("runs")}
        for job_type, entry in answer["details"].items()
    ]  # fmt: skip
    columns = (text("type"), number("jobs"), text("loops"), text("runs"))
    sentence = f"{overview['totalActiveJobs']} jobs are active in {overview['runningJobTypes']} types."
    return [TextBlock(sentence), TextTable(columns, rows)]


def restart(answer: Any) -> list[Block]:
    """The loops after a restart."""
    row = {"type": answer["jobType"], **answer["data"]}
    return [FieldList((text("type"), text("running", "isRunning"), text("jobs", "activeJobs")), row)]


def sync(answer: Any) -> list[Block]:
    """What was asked of the copy of the dashboard."""
    tables = ", ".join(answer["tables"])
    if "confirmed" in answer:
        return [TextBlock(f"{answer['confirmed']:,} rows of {tables} are gone for good.")]
    return [TextBlock(f"Every row of {tables} is read again; see health.")]


def run_result(answer: Any) -> list[Block]:
    """A requested run and its counts."""
    head = FieldList((ident("run", "runId"), text("state")), answer)
    counts = _counts(answer["counts"])
    sample = answer.get("sample")
    sample_blocks: list[Block] = (
        [TextBlock(json.dumps(sample, ensure_ascii=False, indent=2))] if sample else []
    )
    return [head, *([counts] if counts.rows else []), *sample_blocks]


def _counts(counts: dict[str, int], title: str = "") -> TextTable:
    rows = [
        {"number": n, "what": REASONS.get(reason, reason.replace("_", " ")), "reason": reason}
        for reason, n in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
    return TextTable((number("number"), text("what"), name("reason")), rows, title)


def backfill(answer: Any) -> list[Block]:
    """The periods of a backfill."""
    rows = [{"period": period_name, "is": "missing"} for period_name in answer["missing"]]
    rows += [{"period": period_name, "is": "there, derived again"} for period_name in answer["again"]]
    if answer["preview"]:
        head = "Nothing was done; these periods would be derived:"
    else:
        head = f"Run {answer['runId']} derives:" if answer["runId"] else "Nothing is to be derived."
    return [TextBlock(head), TextTable((text("period"), text("is")), rows, empty="no periods")]


def run(answer: Any) -> list[Block]:
    """One run with attempts, counts, reasons and messages."""
    row = answer["data"]
    facts = FieldList(
        (
            ident("run", "id"), text("job", _full_name), text("state"),
            text("reason"), text("trigger"), time("slot", "nominalAt"), text("local slot", "nominalLocal"),
            text("zones"), text("options"), time("started", "startedAt"), time("finished", "finishedAt"),
            text("took", run_duration), text("done", _done), time("not before", "notBefore"),
            time("asked to stop", "cancelRequestedAt"), time("waived", "waivedAt"),
            text("waived by", "waivedBy"), text("waived because", "waivedReason"), text("error"),
        ),
        row,
    )  # fmt: skip
    attempts = TextTable(
        (
            name("process"), text("state"), text("reason"), time("started", "startedAt"),
            time("ended", "endedAt"), prose("error"),
        ),
        row["attempts"], "Attempts",
    )  # fmt: skip
    messages = [
        {"channel": channel, "state": state, "number": n}
        for channel, states in row["deliveries"].items()
        for state, n in states.items()
    ]
    message_table = TextTable((text("channel"), text("state"), number("number")), messages, "Messages")
    tables = [
        attempts,
        _counts(row["counts"], "Counts"),
        _counts(row["reasons"], "Left out"),
        message_table,
    ]
    trace: list[Block] = [TextBlock(row["traceback"])] if row.get("traceback") else []
    return [facts, *(block for block in tables if block.rows), *trace]


def _full_name(row: Row) -> str:
    return f"{row['jobType']}.{row['jobName']}"


def _done(row: Row) -> str:
    return f"{row['done']:,} of {row['total']:,}" if row["total"] else f"{row['done']:,}"


def progress(answer: Any) -> list[Block]:
    """The progress of a watched run in one line; at its end also its counts."""
    part = f" ({100 * answer['done'] // answer['total']} %)" if answer.get("total") else ""
    reason = f" ({answer['reason']})" if answer.get("reason") else ""
    line = TextBlock(f"{answer['state']}{reason}: {_done(answer)} done{part}")
    over = answer["state"] not in {"pending", "running"} and answer.get("counts")
    return [line, _counts(answer["counts"])] if over else [line]


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────


def message_state(answer: Any) -> list[Block]:
    """The new state of a message."""
    return [TextBlock(f"The message is {answer['state']}.")]


def mail(answer: Any, part: str = "text") -> list[Block]:
    """One part of a mail, unchanged."""
    data = answer["data"]
    return [TextBlock(f"{data['subject']}\n\n{data['text']}" if part == "text" else data[part])]


def message(answer: Any, part: str = "text") -> list[Block]:
    """A mail, or the text of a notification."""
    data = answer["data"]
    if data["mail"]:
        return mail({"data": data["mail"]}, part)
    return [FieldList((text("title"), text("message"), text("button")), data["notice"])]


def forecast(answer: Any) -> list[Block]:
    """An upper bound for each job and hour, or the exact numbers of one job's next slot."""
    data = answer["data"]
    if not data["upperBound"]:
        columns = (text("job"), time("slot", "at"), text("where", "groups"), number("mails", "email"),
                   number("notifications", "inApp"))  # fmt: skip
        counts = _counts(data["reasons"], "Left out")
        return [FieldList(columns, data), *([counts] if counts.rows else [])]
    totals = [{"job": job["job"], "paused": job["paused"], **job["total"]} for job in data["jobs"]]
    count_columns = (number("mails at most", "email"), number("notifications", "inApp"))
    return [
        sentences(data["meaning"]),
        TextTable((name("job", short_job), text("paused"), *count_columns), totals, "In all"),
        TextTable(
            (time("hour", "at"), *count_columns, prose("mails of")), _by_the_hour(data["jobs"]), "By the hour"
        ),
    ]


def _by_the_hour(forecasts: Iterable[Row]) -> list[Row]:
    """The hours in which something is sent, summed over all jobs."""
    hours: dict[str, Row] = {}
    for job in forecasts:
        for hour in job["hours"]:
            row = hours.setdefault(hour["at"], {"at": hour["at"], "email": 0, "inApp": 0, "mails of": {}})
            row["email"] += hour["email"]
            row["inApp"] += hour["inApp"]
            if hour["email"]:
                row["mails of"][short_job(job)] = hour["email"]
    return [hours[at] for at in sorted(hours) if hours[at]["email"] or hours[at]["inApp"]]


_RECORD_COLUMNS = {
    "runs": (ident("id"), text("trigger"), text("state"), text("reason"), time("slot", "nominalAt")),
    "deliveries": (
        ident("id"), text("channel"), text("state"), text("reason"), time("not before", "notBefore"),
        time("settled", "settledAt"),
    ),
    "decisions": (ident("run", "runId"), text("reason"), time("decided", "decidedAt"), prose("detail")),
}  # fmt: skip


def explain(answer: Any) -> list[Block]:
    """The conclusion, what is recorded, and every rule."""
    data = answer["data"]
    slot = data["slot"]
    slot_text = f"its slot {slot['local']} ({slot['group']}), {data['when']}" if slot else "no slot that day"
    recorded = [
        TextTable(_RECORD_COLUMNS[table_name], rows, f"Recorded {table_name}")
        for table_name, rows in data["recorded"].items()
        if rows
    ]
    rules = [
        TextTable((name("rule"), text("verdict", _verdict), prose("detail")), rows, f"Rules for {channel}")
        for channel, rows in data["rules"].items()
    ]
    head = sentences(f"{data['conclusion']}\n\n{data['job']} for {data['userId']}: {slot_text}")
    return [head, *recorded, *rules]


def _verdict(rule: Row) -> str:
    return str(rule["reason"] or rule["verdict"].replace("_", " "))


def profile(answer: Any) -> list[Block]:
    """A user's profile."""
    row = answer["data"]
    head = FieldList((text("user", "userId"), text("as of", "asOf"), time("computed", "computedAt")), row)
    figures = [{"figure": figure, "value": value} for figure, value in row["figures"].items()]
    return [head, TextTable((name("figure"), prose("value")), figures, "Figures")]


# ── Analytics ───────────────────────────────────────────────────────────────────────────────────────────────


def insights(answer: Any) -> list[Block]:
    """A line for each sentence."""
    rows: list[Row] = []
    for row in answer["data"]:
        told, gone = row.get("insights", []), row.get("withdrawn", [])
        rows += [{"period": row["period"], "state": finality(row), **one} for one in told]
        rows += [row | {"state": "withdrawn", "text": withdrawn_text(one)} for one in gone]
    columns = (period("period"), text("state"), prose("insight", "text"), number("strength", extra=True))
    return [TextTable(columns, rows, empty="no insights yet; see analytics watermarks")]


def retention(answer: Any) -> list[Block]:
    """Cohorts as rows, periods since the first as columns."""
    data = answer["data"]
    width = len(data["averages"])
    rows = [_cohort(cohort["cohort"], cohort["size"], cohort["cells"]) for cohort in data["cohorts"]]
    if rows:
        rows.append(_cohort("all", None, data["averages"]))
    columns = (name("cohort"), number("size"), *(percent(str(n), f"n{n}") for n in range(width)))
    title = f"Retention in percent, {data['kind']}, {data['mode']}"
    return [TextTable(columns, rows, title, "nothing yet; see analytics watermarks")]


def _cohort(cohort: str, size: int | None, cells: Iterable[Row | None]) -> Row:
    return {"cohort": cohort, "size": size} | {
        f"n{n}": (cell or {}).get("rate") for n, cell in enumerate(cells)
    }


def watermarks(answer: Any) -> list[Block]:
    """How far each statistic is computed."""
    data = answer["data"]
    columns = (
        name("statistic"), period("through"), period("final through", "finalThrough"),
        number("provisional", "provisionalPeriods"), number("stale", "stalePeriods"), text("working"),
    )  # fmt: skip
    waiting = data["staleDays"]
    sentence = f"{waiting['days']:,} days of {waiting['users']:,} people wait to be rebuilt."
    return [TextTable(columns, data["statistics"]), TextBlock(sentence)]


def points(answer: Any) -> list[Block]:
    """A series with its expected ranges, and its forecast."""
    data = answer["data"]
    expected = (number("expected"), number("low"), number("high"))
    points_table = TextTable(
        (period("at"), number("value"), *expected, number("score"), text("state", point_state)),
        data["points"],
        data["name"],
    )
    forecast_table = TextTable((period("at"), *expected), data["forecast"], "Forecast")
    return [points_table, forecast_table]
