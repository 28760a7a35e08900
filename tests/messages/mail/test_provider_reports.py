"""Reports of more servers, filters and providers are judged by whom they are about."""

import pytest

from service.messages.mail.bounce_report import ReportKind
from service.messages.mail.bounce_reports import parse
from tests.messages.mail.provider_reports import reports
from tests.messages.mail.report_corpus import PERSON

REPORTS = list(reports())


@pytest.mark.parametrize(("name", "raw", "about"), REPORTS, ids=[row[0] for row in REPORTS])
def test_whom_a_report_is_about(name: str, raw: bytes, about: str) -> None:
    report = parse(raw)
    assert report is not None, name
    worst = report.worst
    assert (worst.kind, worst.recipient) == (ReportKind.FAILED, PERSON)
    assert (worst.about, worst.at_once) == (about.rstrip("!"), about.endswith("!"))
