"""Six mails, one family: whatever holds for one of them holds for all, in every variant."""

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from service.messages.mail.render import RenderedMail
from service.messages.mail.sample_goals import RECIPIENT
from service.messages.reminder import reminders
from tests.acme import JOBS
from tests.messages.mail.cast import composer, letter
from tests.messages.mail.reading import Page, addresses, check_wire, parsed, part, said
from tests.samples import SAMPLES, MailSample

SNAPSHOTS = Path(__file__).parent / "snapshots"
TOKEN = "Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr"

HOSTILE = {
    "html": '</td></table><script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>',
    "lines": "first\r\nBcc: everybody@evil.example\r\n\r\n<b>second</b>\r.\r\n",
    "bidi": "\u202egpj.exe\u2066\u200f abc \u202d",
    "long": "a very long word " * 640,
    "unbroken": "x" * 10_240,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈👍🏽 é נסיון 目標",
    "nul": "nul\0 bell\x07 escape\x1b[31m",
    "surrogate": "half \ud83d of a pair",
    "template": "{{ 7 * 7 }} {% include 'x' %} <!--% set w = 0 %--> {# x #} %(num)s %s @@content@@",
}

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def rendered(
    sample: MailSample, facts: Mapping[str, Any] | None = None, name: str = RECIPIENT
) -> RenderedMail:
    made = composer()
    return made.render(
        sample.template,
        sample.facts if facts is None else facts,
        locale="en",
        name=name,
        links=made.links(TOKEN),
    )


def composed(sample: MailSample, facts: Mapping[str, Any] | None = None, name: str = RECIPIENT) -> bytes:
    return composer().compose(
        letter(
            dict(sample.facts if facts is None else facts),
            template=sample.template,
            job=sample.job,
            recipient_name=name,
        )
    )


def test_every_mail_that_a_job_can_write_has_a_sample() -> None:
    assert {sample.job for sample in SAMPLES} == set(reminders(JOBS))
    assert {sample.kind for sample in SAMPLES} == {job.kind for job in reminders(JOBS).values()}
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)


@every_sample
def test_facts_survive_the_outbox(sample: MailSample) -> None:
    assert json.loads(json.dumps(sample.facts)) == sample.facts


@every_sample
def test_the_mail_looks_as_it_was_agreed(sample: MailSample) -> None:
    """``UPDATE_SNAPSHOTS=1`` writes the agreed texts anew: look at the difference before committing it."""
    mail = rendered(sample)

    for suffix, content in (("txt", f"{mail.subject}\n\n{mail.text}"), ("html", mail.html)):
        path = SNAPSHOTS / f"{sample.name}.{suffix}"
        if os.environ.get("UPDATE_SNAPSHOTS") == "1":
            path.write_text(content, "utf-8")
        assert content == path.read_text("utf-8")


@every_sample
def test_text_and_html_say_the_same_words_and_lead_to_the_same_places(sample: MailSample) -> None:
    mail = rendered(sample)

    page = Page(mail.html)

    assert words(" ".join(page.seen)) == words(mail.text)
    assert page.links == addresses(mail.text)


def words(text: str) -> list[str]:
    """Brackets and colons are how plain text shows what a table shows by its cells."""
    return [word for raw in said(text) if (word := raw.strip("():"))]


@every_sample
def test_the_bytes_obey_every_rule(sample: MailSample) -> None:
    raw = composed(sample)

    check_wire(raw)
    assert part(raw, "plain").strip() == rendered(sample).text.strip()
    assert len(rendered(sample).html.encode()) <= 20_000


@every_sample
def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(sample: MailSample) -> None:
    assert_harmless(rendered(sample).html)


@every_sample
def test_the_page_can_be_read_aloud(sample: MailSample) -> None:
    html = rendered(sample).html
    headings = re.findall(r"<(h\d)", html)

    assert headings[0] == "h1"
    assert set(headings[1:]) <= {"h2"}
    assert '<html lang="en" dir="ltr">' in html
    for table in re.findall(r"<table[^>]*>", html):
        assert 'role="presentation"' in table or re.search(r'class="(?:figures|chart)"', table)
    assert all('scope="row"' in cell for cell in re.findall(r"<th\b[^>]*>", html))
    assert html.count("<th") - html.count("<thead") == html.count('scope="row"')


@every_sample
def test_the_footer_says_why_and_how_to_stop(sample: MailSample) -> None:
    base = "https://jobs.dashboard.example"
    page = Page(rendered(sample).html)

    assert page.links[-3:] == [
        f"{base}/preferences/{TOKEN}",
        f"{base}/u/{TOKEN}",
        f"{base}/u/{TOKEN}?all=1",
    ]
    assert "You get this because" in " ".join(page.words)


@every_sample
def test_bars_have_no_empty_cells(sample: MailSample) -> None:
    widths = re.findall(r'class="(?:fill|rest)"[^>]* width="(\d+)%"', rendered(sample).html)

    assert "0" not in widths


def test_rows_of_figures_and_charts_are_data_tables_with_a_header_each() -> None:
    full = next(sample for sample in SAMPLES if sample.name == "weekly_review_full")
    html = rendered(full).html

    assert html.count('scope="row"') == 6 + 7


# ── Facts that are missing ──────────────────────────────────────────────────────────────────────────────────

_NOT_PRINTED = {"goal_ids", "session_ids", "number"}


def without_each(value: Any, unprinted: set[str]) -> Iterator[tuple[str, Any]]:
    """The value once without each key of each of its mappings, with the path of that key."""
    if isinstance(value, Mapping):
        for key in value:
            if key in unprinted:
                continue
            yield key, {k: v for k, v in value.items() if k != key}
            for path, changed in without_each(value[key], unprinted):
                yield f"{key}.{path}", {**value, key: changed}
    elif isinstance(value, list):
        for n, item in enumerate(value):
            for path, changed in without_each(item, unprinted):
                yield f"{n}.{path}", [*value[:n], changed, *value[n + 1 :]]


@every_sample
def test_a_missing_fact_raises_instead_of_printing_nothing(sample: MailSample) -> None:
    silent = []
    for path, facts in without_each(sample.facts, _NOT_PRINTED):
        try:
            rendered(sample, facts)
        except (UndefinedError, KeyError, TypeError):
            continue
        silent.append(path)

    assert [path for path in silent if not is_optional(sample, path)] == []


def is_optional(sample: MailSample, path: str) -> bool:
    """Facts that this variant has no use for: it prints nothing of them."""
    last = path.rpartition(".")[2]
    if last == "id":
        return True  # asked for again before sending, never printed
    if last in {"current", "unit", "target", "due", "days"}:
        return True  # printed only together with another fact that is null here, or not at all
    return (sample.template, last) in {
        ("daily_check", "streak"),
        ("inactive_users", "days_away"),
        ("inactive_users", "longest_streak"),
        ("break_reminders", "break_minutes"),
        ("weekly_review", "average_seconds"),
        ("weekly_review", "days"),
        ("monthly_report", "average_seconds"),
        ("monthly_report", "weeks"),
        ("monthly_report", "categories"),
        ("goal_deadlines", "tomorrow"),
        ("weekly_review", "active_days"),
    } or path.startswith(("suggestion.", "days.", "weeks.", "categories."))


# ── Facts that mean harm ────────────────────────────────────────────────────────────────────────────────────

_KEPT = {"local_date", "variant", "key", "first", "last", "date", "best_day", "month", "due", "rule"}


def poisoned(value: Any, poison: str, key: str = "") -> Any:
    """Every text that people can write replaced; what the service itself writes (dates, names) stays."""
    if isinstance(value, str):
        return value if key in _KEPT else poison
    if isinstance(value, Mapping):
        return {k: poisoned(v, poison, k) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(item, poison, key) for item in value]
    return value


@pytest.mark.parametrize("poison", HOSTILE)
@every_sample
def test_hostile_content_leaves_the_mail_well_formed_and_harmless(sample: MailSample, poison: str) -> None:
    text = HOSTILE[poison]
    facts = poisoned(copy.deepcopy(dict(sample.facts)), text)

    raw = composed(sample, facts, name=text)

    check_wire(raw)
    html = part(raw, "html")
    assert_harmless(html)
    page = Page(html)
    assert page.links[-3:] == Page(rendered(sample).html).links[-3:]
    assert all(link.startswith(("https://dashboard.example/", "https://jobs.")) for link in page.links)
    assert page.tags == [tag for tag in page.tags if tag not in {"script", "img"}]
    assert "evil.example" not in str(parsed(raw)["To"].addresses[0].addr_spec)
    assert "Bcc" not in parsed(raw)
    assert not re.search("[\0\x07\x1b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html + part(raw, "plain"))
    assert "49" not in re.findall(r"\b49\b", part(raw, "plain"))
    assert len(html.encode()) <= 40_000


def assert_harmless(html: str) -> None:
    """No element that loads or runs anything; layout that old mail programs understand."""
    assert not re.search(r"<(?:img|script|link|iframe|svg|form|object|base|video)\b", html, re.I)
    tags = "".join(re.findall(r"<[^>]*>", html))
    assert not re.search(r"\s(?:src|background|on\w+)=", re.sub(r'="[^"]*"', "=", tags), re.I)
    styles = "".join(map("".join, re.findall(r'style="([^"]*)"|<style>(.*?)</style>', html, re.S)))
    assert not re.search(r"url\(|@import|display:\s*(?:flex|grid)|var\(--", styles)
