"""The words of a mail of goalDeadlines: as bytes, and as a template for peers."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from service.jobs import all_jobs
from service.messages.mail.compose import Composer, Email
from service.messages.reminder import kinds_of, reminders

_JOB = "reminder.goalDeadlines"
_FRONTEND, _PUBLIC, _FROM = "http://localhost:3000", "http://localhost:8080", "Dashboard <a@example.org>"
_TITLE = "QQgoalQQ"


def _email() -> Email:
    """About one goal that is due tomorrow."""
    kind = reminders(all_jobs())[_JOB].kind
    facts = next(sample.facts for sample in kind.samples if sample.facts["count"] == 1)
    title = facts["sections"][0]["goals"][0]["title"]
    return Email(
        template=kind.template,
        facts=json.loads(json.dumps(dict(facts)).replace(title, _TITLE)),
        recipient_name="QQnameQQ",
        address="b@example.org",
        message_id="1@example.org",
        message_date=datetime(2026, 3, 10, 8, tzinfo=UTC),
        token="QQtokenQQ",
        job=_JOB,
    )


def _composer() -> Composer:
    return Composer(_FRONTEND, _PUBLIC, _FROM, kinds_of(all_jobs()).values())


def ready_mail() -> bytes:
    """The whole mail."""
    return _composer().compose(replace(_email(), token="0" * 32))


def write_template(file: Path) -> None:
    """Subject, text and HTML as JSON, in which QQnameQQ, QQgoalQQ and QQtokenQQ are to be replaced."""
    composer, mail = _composer(), _email()
    links = composer.links(mail.token)
    made = composer.render(mail.template, mail.facts, locale="en", name=mail.recipient_name, links=links)
    file.write_text(json.dumps({"subject": made.subject, "text": made.text, "html": made.html}))
