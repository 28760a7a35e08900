"""What an answer of the API says, as blocks to print. Pure."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from service.cli.phrases import REASONS
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

Show = Callable[[Any], list[Block]]

_WELL = {"succeeded", "pending", "running"}


def always(_answer: Any) -> bool:
    """What is answered is a success."""
    return True


def healthy(answer: Any) -> bool:
    """Whether health says so."""
    return bool(answer.get("status") == "healthy")


def run_went_well(answer: Any) -> bool:
    """Whether a run succeeded, or may still."""
    return answer.get("state") in _WELL


# ── Makers ──────────────────────────────────────────────────────────────────────────────────────────────────


def listed(*columns: TableColumn, empty: str = "nothing yet; see analytics watermarks") -> Show:
    """The rows of ``data``."""
    return lambda answer: [TextTable(columns, answer["data"], empty=empty)]


def told(*columns: TableColumn) -> Show:
    """The answer's own fields."""
    return lambda answer: [FieldList(columns, answer)]


def said(sentence: str) -> Show:
    """An act that has no more to tell."""
    return lambda _answer: [TextBlock(sentence)]


def whole(answer: Any) -> list[Block]:
    """JSON, to be read by programs."""
    return [TextBlock(json.dumps(answer.get("data", answer), ensure_ascii=False, indent=2))]


# ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────


def short_job(row: Row) -> str:
    """A job's name without its type."""
    return str(row["job"]).rpartition(".")[2]


def minutes(row: Row) -> float:
    """Focus of a day."""
    return float(row["focusSeconds"]) / 60


def standing(row: Row) -> str:
    """Whether figures may still change, and how often they did."""
    state = "final" if row["final"] else "provisional"
    return f"{state}, revised {row['revision'] - 1}×" if row["revision"] > 1 else state


def openness(row: Row) -> str:
    """Whether an anomaly still holds."""
    return "over" if row["closedAt"] else "open"


def trends(row: Row) -> str:
    """The trends that are worth a word."""
    signs = {"trend": "", "significant": "!"}
    return ", ".join(
        f"{_FIGURES.get(figure, figure)} {one['percent']:+.0f} %{signs[one['verdict']]}"
        for figure, one in (row.get("trends") or {}).items()
        if one["verdict"] in signs
    )


_FIGURES = {
    "activeUsers": "active",
    "newUsers": "new",
    "totalSessions": "sessions",
    "totalFocusTime": "minutes",
    "goalsCreated": "goals created",
    "goalsCompleted": "goals completed",
}


def took(row: Row) -> str | None:
    """How long a run took, from its start to its end."""
    if not row.get("startedAt") or not row.get("finishedAt"):
        return None
    seconds = (_at(row["finishedAt"]) - _at(row["startedAt"])).total_seconds()
    return span(seconds)


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minute, rest = divmod(round(seconds), 60)
    hour, minute = divmod(minute, 60)
    return f"{hour} h {minute:02} min" if hour else f"{minute} min {rest:02} s"


def _at(text_: str) -> datetime:
    return datetime.fromisoformat(text_)


# ── Jobs ────────────────────────────────────────────────────────────────────────────────────────────────────


def jobs(answer: Any) -> list[Block]:
    """Every job of both types."""
    rows = [
        {"type": type_, "name": job, **standing_}
        for type_, told_ in answer["jobs"].items()
        for job, standing_ in told_.get("jobs", {}).items()
    ]
    columns = (
        name("type"), name("name"), text("schedule"), text("paused", _paused),
        text("last run", "lastRun.state"), time("last success", "lastSuccessAt"),
        text("clock", "mode", extra=True),
    )  # fmt: skip
    return [TextTable(columns, rows, empty="no jobs: the service is starting")]


def _paused(row: Row) -> str:
    if not row["paused"]:
        return "no"
    return "yes" + (f": {row['pausedReason']}" if row.get("pausedReason") else "")


def health(answer: Any) -> list[Block]:
    """One verdict, and each check with what it knows."""
    rows = [
        {"check": one, "status": check["status"], "details": check.get("details") or None}
        for one, check in answer["checks"].items()
    ]
    columns = (name("check"), name("status"), prose("details"))
    return [TextBlock(f"The service is {answer['status']}."), TextTable(columns, rows)]


def statistics(answer: Any) -> list[Block]:
    """Runs by state, and each job's last success."""
    overview = answer["overview"]
    rows = [
        {"type": type_, "jobs": told_["jobCount"], "loops": "running" if told_["isRunning"] else "stopped",
         "runs": told_.get("runs")}
        for type_, told_ in answer["details"].items()
    ]  # fmt: skip
    columns = (text("type"), number("jobs"), text("loops"), text("runs"))
    sentence = f"{overview['totalActiveJobs']} jobs are active in {overview['runningJobTypes']} types."
    return [TextBlock(sentence), TextTable(columns, rows)]


def restarted(answer: Any) -> list[Block]:
    """The loops after a restart."""
    row = {"type": answer["jobType"], **answer["data"]}
    return [FieldList((text("type"), text("running", "isRunning"), text("jobs", "activeJobs")), row)]


def ran(answer: Any) -> list[Block]:
    """A run that was asked for, and what it decided."""
    head = FieldList((ident("run", "runId"), text("state")), answer)
    counts = _counts(answer["counts"])
    sample = answer.get("sample")
    more: list[Block] = [TextBlock(json.dumps(sample, ensure_ascii=False, indent=2))] if sample else []
    return [head, *([counts] if counts.rows else []), *more]


def _counts(counts: dict[str, int], title: str = "") -> TextTable:
    rows = [
        {"number": n, "what": REASONS.get(one, one.replace("_", " ")), "reason": one}
        for one, n in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
    return TextTable((number("number"), text("what"), name("reason")), rows, title)


def backfilled(answer: Any) -> list[Block]:
    """The periods of a backfill."""
    rows = [{"period": one, "is": "missing"} for one in answer["missing"]]
    rows += [{"period": one, "is": "there, derived again"} for one in answer["again"]]
    if answer["preview"]:
        head = "Nothing was done; these periods would be derived:"
    else:
        head = f"Run {answer['runId']} derives:" if answer["runId"] else "Nothing is to be derived."
    return [TextBlock(head), TextTable((text("period"), text("is")), rows, empty="no periods")]


def run(answer: Any) -> list[Block]:
    """One run with all that is known of it."""
    row = answer["data"]
    facts = FieldList(
        (
            ident("run", "id"), text("job", lambda one: f"{one['jobType']}.{one['jobName']}"), text("state"),
            text("reason"), text("trigger"), time("slot", "nominalAt"), text("local slot", "nominalLocal"),
            text("zones"), text("options"), time("started", "startedAt"), time("finished", "finishedAt"),
            text("took", took), text("done", _done), time("not before", "notBefore"),
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
    sent = TextTable((text("channel"), text("state"), number("number")), messages, "Messages")
    tables = [
        attempts,
        _counts(row["counts"], "Counts"),
        _counts(row["reasons"], "Left out"),
        sent,
    ]
    trace: list[Block] = [TextBlock(row["traceback"])] if row.get("traceback") else []
    return [facts, *(one for one in tables if one.rows), *trace]


def _done(row: Row) -> str:
    return f"{row['done']:,} of {row['total']:,}" if row["total"] else f"{row['done']:,}"


def progress(answer: Any) -> list[Block]:
    """How a watched run stands, in one line; at its end also what it decided."""
    part = f" ({100 * answer['done'] // answer['total']} %)" if answer.get("total") else ""
    reason = f" ({answer['reason']})" if answer.get("reason") else ""
    line = TextBlock(f"{answer['state']}{reason}: {_done(answer)} done{part}")
    over = answer["state"] not in {"pending", "running"} and answer.get("counts")
    return [line, _counts(answer["counts"])] if over else [line]


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────


def acted(answer: Any) -> list[Block]:
    """What a message is now."""
    return [TextBlock(f"The message is {answer['state']}.")]


def mail(answer: Any, part: str = "text") -> list[Block]:
    """One part of a mail, as it is."""
    found = answer["data"]
    return [TextBlock(f"{found['subject']}\n\n{found['text']}" if part == "text" else found[part])]


def message(answer: Any, part: str = "text") -> list[Block]:
    """A mail, or the words of a notification."""
    found = answer["data"]
    if found["mail"]:
        return mail({"data": found["mail"]}, part)
    return [FieldList((text("title"), text("message"), text("button")), found["notice"])]


def forecast(answer: Any) -> list[Block]:
    """Per job and local day an upper bound; or one job's next slot exactly."""
    found = answer["data"]
    if not found["upperBound"]:
        columns = (text("job"), time("slot", "at"), text("where", "groups"), number("mails", "email"),
                   number("notifications", "inApp"))  # fmt: skip
        counts = _counts(found["reasons"], "Left out")
        return [FieldList(columns, found), *([counts] if counts.rows else [])]
    totals = [{"job": job["job"], "paused": job["paused"], **job["total"]} for job in found["jobs"]]
    counted = (number("mails at most", "email"), number("notifications", "inApp"))
    return [
        sentences(found["meaning"]),
        TextTable((name("job", short_job), text("paused"), *counted), totals, "In all"),
        TextTable(
            (time("hour", "at"), *counted, prose("mails of")), _by_the_hour(found["jobs"]), "By the hour"
        ),
    ]


def _by_the_hour(forecasts: Iterable[Row]) -> list[Row]:
    """The hours in which something is sent, all jobs together."""
    hours: dict[str, Row] = {}
    for job in forecasts:
        for hour in job["hours"]:
            row = hours.setdefault(hour["at"], {"at": hour["at"], "email": 0, "inApp": 0, "mails of": {}})
            row["email"] += hour["email"]
            row["inApp"] += hour["inApp"]
            if hour["email"]:
                row["mails of"][short_job(job)] = hour["email"]
    return [hours[at] for at in sorted(hours) if hours[at]["email"] or hours[at]["inApp"]]


_RECORDED = {
    "runs": (ident("id"), text("trigger"), text("state"), text("reason"), time("slot", "nominalAt")),
    "deliveries": (
        ident("id"), text("channel"), text("state"), text("reason"), time("not before", "notBefore"),
        time("settled", "settledAt"),
    ),
    "decisions": (ident("run", "runId"), text("reason"), time("decided", "decidedAt"), prose("detail")),
}  # fmt: skip


def explain(answer: Any) -> list[Block]:
    """The conclusion, what is recorded, and every rule."""
    found = answer["data"]
    slot = found["slot"]
    where = f"its slot {slot['local']} ({slot['group']}), {found['when']}" if slot else "no slot that day"
    recorded = [
        TextTable(_RECORDED[what], rows, f"Recorded {what}")
        for what, rows in found["recorded"].items()
        if rows
    ]
    rules = [
        TextTable((name("rule"), text("verdict", _verdict), prose("detail")), rows, f"Rules for {channel}")
        for channel, rows in found["rules"].items()
    ]
    head = sentences(f"{found['conclusion']}\n\n{found['job']} for {found['userId']}: {where}")
    return [head, *recorded, *rules]


def _verdict(rule: Row) -> str:
    return str(rule["reason"] or rule["verdict"].replace("_", " "))


def profile(answer: Any) -> list[Block]:
    """What is known of somebody."""
    row = answer["data"]
    head = FieldList((text("user", "userId"), text("as of", "asOf"), time("computed", "computedAt")), row)
    figures = [{"figure": one, "value": value} for one, value in row["figures"].items()]
    return [head, TextTable((name("figure"), prose("value")), figures, "Figures")]


# ── Analytics ───────────────────────────────────────────────────────────────────────────────────────────────


def insights(answer: Any) -> list[Block]:
    """A line for each sentence."""
    rows = [
        {"period": row["period"], "state": standing(row), **one}
        for row in answer["data"]
        for one in row.get("insights", [])
    ]
    columns = (period("period"), text("state"), prose("insight", "text"), number("strength", extra=True))
    return [TextTable(columns, rows, empty="no insights yet; see analytics watermarks")]


def retention(answer: Any) -> list[Block]:
    """Cohorts in lines, periods since in columns."""
    found = answer["data"]
    wide = len(found["averages"])
    rows = [_cohort(one["cohort"], one["size"], one["cells"]) for one in found["cohorts"]]
    if rows:
        rows.append(_cohort("all", None, found["averages"]))
    columns = (name("cohort"), number("size"), *(percent(str(n), f"n{n}") for n in range(wide)))
    title = f"Retention in percent, {found['kind']}, {found['mode']}"
    return [TextTable(columns, rows, title, "nothing yet; see analytics watermarks")]


def _cohort(cohort: str, size: int | None, cells: Iterable[Row | None]) -> Row:
    return {"cohort": cohort, "size": size} | {
        f"n{n}": (one or {}).get("rate") for n, one in enumerate(cells)
    }


def watermarks(answer: Any) -> list[Block]:
    """How far each statistic has come."""
    found = answer["data"]
    columns = (
        name("statistic"), period("through"), period("final through", "finalThrough"),
        number("provisional", "provisionalPeriods"), number("stale", "stalePeriods"), text("working"),
    )  # fmt: skip
    waiting = found["staleDays"]
    sentence = f"{waiting['days']:,} days of {waiting['users']:,} people wait to be rebuilt."
    return [TextTable(columns, found["statistics"]), TextBlock(sentence)]


def points(answer: Any) -> list[Block]:
    """A series with what was expected, and its forecast."""
    found = answer["data"]
    expected = (number("expected"), number("low"), number("high"))
    shown = TextTable(
        (period("at"), number("value"), *expected, number("score")), found["points"], found["name"]
    )
    ahead = TextTable((period("at"), *expected), found["forecast"], "Forecast")
    return [shown, ahead]
