"""What comes back: every known form is read, nothing else is a bounce, and no bytes can hurt."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.messages.mail.bounce_report import BounceReport, RecipientReport, ReportKind
from service.messages.mail.bounce_reports import parse
from service.messages.mail.smtp_reply import About
from service.messages.mail.verp import delivery_of, envelope_sender

FAILED, DELAYED, DELIVERED, COMPLAINT = ReportKind
WAY, MAILBOX, US, GONE = About
FOLDER = Path(__file__).parent / "bounces"
SAMPLES = {file.stem: file.read_bytes() for file in sorted(FOLDER.glob("*.eml"))}

# kind, what it is about, status, whether there is certainly no such address
EXPECTED: dict[str, tuple[ReportKind, About | None, str | None, bool]] = {
    "aol_disabled": (FAILED, MAILBOX, "5.2.1", False),
    "arf_generic_fraud": (COMPLAINT, None, None, False),
    "arf_outlook": (COMPLAINT, None, None, False),
    "arf_yahoo": (COMPLAINT, None, None, False),
    "broken_boundary": (FAILED, GONE, "5.1.1", True),
    "broken_truncated": (FAILED, GONE, "5.1.1", True),
    "exchange_old_plain": (FAILED, GONE, "5.1.1", True),
    "exim_dsn": (FAILED, GONE, "5.1.1", True),
    "exim_plain": (FAILED, GONE, None, False),
    "exim_plain_warning": (DELAYED, WAY, None, False),
    "footer_and_base64": (FAILED, GONE, "5.1.1", True),
    "gmail_quota": (FAILED, MAILBOX, "5.2.2", False),
    "gmail_quota_expired": (FAILED, MAILBOX, "4.2.2", False),
    "gmail_user_unknown": (FAILED, GONE, "5.1.1", True),
    "gmx_full": (FAILED, MAILBOX, None, False),
    "icloud_no_user": (FAILED, GONE, "5.1.1", True),
    "internationalised": (FAILED, GONE, "5.1.1", True),
    "office365_not_found": (FAILED, GONE, "5.1.10", True),
    "outlook_blocked": (FAILED, US, "5.7.1", False),
    "outlook_mailbox_unavailable": (FAILED, US, "5.5.0", False),
    "postfix_delayed": (DELAYED, WAY, "4.2.0", False),
    "postfix_delivered": (DELIVERED, None, "2.0.0", False),
    "postfix_expired": (FAILED, WAY, "4.4.1", False),
    "postfix_user_unknown": (FAILED, GONE, "5.1.1", True),
    "qmail_quota": (FAILED, MAILBOX, None, False),
    "qmail_user_unknown": (FAILED, GONE, "5.1.1", True),
    "sendmail_dsn": (FAILED, GONE, "5.1.2", True),
    "sendmail_plain": (FAILED, GONE, "5.1.1", True),
    "ses_suppressed": (FAILED, GONE, "5.1.1", True),
    "several_recipients": (FAILED, GONE, "5.1.1", True),
    "webde_policy": (FAILED, US, None, False),
    "yahoo_mailbox_full": (FAILED, MAILBOX, "5.0.0", False),
    "yahoo_no_account": (FAILED, GONE, "5.0.0", False),
}
RECIPIENTS = {
    "aol_disabled": "nobody@example.net",
    "outlook_mailbox_unavailable": "nobody@example.net",
    "arf_generic_fraud": None,
    "internationalised": "jürgen@bücher.example",
    "sendmail_dsn": "nobody@nowhere.example.net",
    "several_recipients": "team@example.net",
}
ORDINARY = {name: raw for name, raw in SAMPLES.items() if name.startswith("none_")}
# In these a whole bounce from a mail system is quoted; without a line or two they are one.
NEARLY = {"none_autoreply_header", "none_forwarded_bounce", "none_vacation_quoting_a_bounce"}


def dsn(*lines: str, head: str = "") -> bytes:
    """A bounce with these lines about its recipient."""
    status = "\n".join(("Final-Recipient: rfc822; nobody@example.net", *lines))
    return (
        f"From: MAILER-DAEMON@mx.example.org\n{head}"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n"
        f"{status}\n\n--b--\n"
    ).encode()


def read(raw: bytes) -> RecipientReport:
    """The worst of the report, which must be one."""
    report = parse(raw)
    assert report is not None
    return report.worst


def accuses(report: BounceReport | None) -> bool:
    """Whether it would count against a person."""
    return report is not None and any(r.kind is COMPLAINT or r.about is GONE for r in report.recipients)


def test_every_sample_is_expected_to_be_something() -> None:
    assert SAMPLES.keys() - ORDINARY.keys() - EXPECTED.keys() == {"arf_not_spam"}
    assert EXPECTED.keys() <= SAMPLES.keys()
    assert len(ORDINARY) == 6


@pytest.mark.parametrize("name", EXPECTED)
def test_each_form_is_read(name: str) -> None:
    report = parse(SAMPLES[name])
    assert report is not None
    worst = report.worst
    assert (worst.kind, worst.about, worst.status, worst.at_once) == EXPECTED[name]
    default = ("nobody" if worst.about is GONE else "somebody") + "@example.net"
    assert worst.recipient == RECIPIENTS.get(name, default)
    assert all(address.endswith("@example.org") for address in report.envelope_to)
    assert len(report.envelope_to) == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_line_ends_do_not_matter(name: str) -> None:
    raw = SAMPLES[name]
    assert parse(raw.replace(b"\n", b"\r\n")) == parse(raw)
    assert parse(raw.replace(b"\n", b"\r")) == parse(raw)
    assert parse(raw.replace(b"a", b"\0a")) == parse(raw)
    assert parse(b"From MAILER-DAEMON Mon Jan 12 09:00:04 2026\n" + raw) == parse(raw)


@pytest.mark.parametrize("name", [*ORDINARY, "arf_not_spam"])
def test_everything_else_is_no_report(name: str) -> None:
    assert parse(SAMPLES[name]) is None


@pytest.mark.parametrize(
    ("status", "diagnostic", "about"),
    [
        ("5.1.1", "550 5.1.1 nobody", GONE),
        ("5.1.3", "501 5.1.3 bad syntax", GONE),
        ("5.1.8", "550 5.1.8 your domain does not exist", US),
        ("5.1.1", "550 5.7.1 203.0.113.80 is on a blocklist", US),
        ("5.1.1", "550 5.1.1 over quota", MAILBOX),
        ("5.2.1", "550 5.2.1 disabled", MAILBOX),
        ("5.2.1", "450 The user is receiving mail at a rate that prevents delivery", MAILBOX),
        ("5.2.2", "552 5.2.2 full", MAILBOX),
        ("5.2.3", "552 5.2.3 too long", MAILBOX),
        ("5.3.4", "552 5.3.4 too big", US),
        ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied.", GONE),
        ("5.4.4", "host not found", WAY),
        ("5.4.4", "domain not found", GONE),
        ("5.5.0", "550 5.5.0 mailbox unavailable", US),
        ("5.6.1", "content not supported", US),
        ("5.7.26", "550 5.7.26 unauthenticated", US),
        ("5.7.1", "550 5.7.1 user unknown", US),
        ("4.0.0", "550 5.1.1 user unknown", WAY),
        ("4.4.7", "delivery time expired", WAY),
        ("5.0.0", "552 mailbox full", MAILBOX),
        ("5.0.0", "550 user is over the quota", MAILBOX),
        ("5.0.0", "554 refused by local policy", US),
        ("5.0.0", "550 no such user; see our policy", GONE),
        ("5.0.0", "550 sender address rejected: domain does not exist", US),
        ("5.0.0", "552-5.2.2 too much mail", MAILBOX),
        ("5.0.0", "(reason unknown)", WAY),
        ("5.5.0", "550 mailbox is full", MAILBOX),
        ("5.5.0", "550 account disabled", MAILBOX),
        ("", "550 user unknown", GONE),
        ("", "550 address does not exist", GONE),
        ("", "user unknown", GONE),
        ("", "450 user unknown", WAY),
        ("", "552 Mailbox quota exceeded", MAILBOX),
        ("", "connection to 192.5.1.1 or 5.1.1.20 lost", US),
        ("", "gave up after 1550 seconds", WAY),
        ("2.0.0", "", WAY),
        ("", "", WAY),
    ],
)
def test_a_failure_is_judged_by_status_and_reply(status: str, diagnostic: str, about: About) -> None:
    lines = ("Action: failed", f"Status: {status}", f"Diagnostic-Code: smtp; {diagnostic}")
    assert read(dsn(*lines)).about is about


@pytest.mark.parametrize(
    ("action", "kind"),
    [("delivered", DELIVERED), ("Relayed", DELIVERED), ("expanded", DELIVERED), ("delayed", DELAYED)],
)
def test_an_action_that_is_no_failure_is_none(action: str, kind: ReportKind) -> None:
    report = read(dsn(f"Action: {action}", "Status: 5.1.1"))
    assert (report.kind, report.at_once) == (kind, False)


@pytest.mark.parametrize(
    ("status", "gone"), [("5.1.1", True), ("5.1.2", True), ("5.1.10", True), ("5.1.6", False)]
)
def test_no_such_address(status: str, gone: bool) -> None:
    assert read(dsn("Action: failed", f"Status: {status}")).at_once is gone


def test_the_original_recipient_is_ours_wherever_it_was_forwarded() -> None:
    report = read(dsn("Original-Recipient: rfc822;<o'brien@example.com>", "Action: failed", "Status: 5.1.1"))
    assert report.recipient == "o'brien@example.com"
    report = read(dsn("Original-Recipient: x400; /C=DE/", "Action: failed", "Status: 5.1.1"))
    assert report.recipient == "nobody@example.net"


@pytest.mark.parametrize("escape", [r"\x{D800}", r"\x{110000}", r"\x{FFFFFF}", r"\x{0}"])
def test_an_impossible_character_makes_no_address(escape: str) -> None:
    report = read(
        dsn(f"Original-Recipient: utf-8; a{escape}b@example.com", "Action: failed", "Status: 5.1.1")
    )
    assert report.recipient is not None
    assert report.recipient.isprintable()


@pytest.mark.parametrize("length", [64, 65])
def test_a_long_address_is_read_whole_or_not_at_all(length: int) -> None:
    address = "a" * length + "@example.com"
    report = read(dsn(f"Original-Recipient: rfc822; {address}", "Action: failed", "Status: 5.1.1"))
    assert report.recipient == (address if length == 64 else "nobody@example.net")


def test_an_ip_address_is_no_status() -> None:
    report = read(dsn("Action: failed", "Status: 5.0.0", "Diagnostic-Code: smtp; 554 5.1.1.20 refused"))
    assert (report.status, report.at_once) == ("5.0.0", False)


def test_the_diagnostic_is_one_short_printable_line() -> None:
    said = "550 " + "\u202enope\x07 \x1b[31m\n\t " + "very " * 500
    diagnostic = read(dsn("Action: failed", "Status: 5.1.1", f"Diagnostic-Code: smtp; {said}")).diagnostic
    assert diagnostic.startswith("550 nope [31m very")
    assert len(diagnostic) <= 300
    assert diagnostic.isprintable()


def test_a_bounce_finds_its_delivery() -> None:
    mine = envelope_sender("bounce@example.org", 4711, b"secret")
    head = (
        f'To: "Bounces, of us" <other@example.org>, {mine.upper()}\nDelivered-To: {mine}\n'
        f"X-Original-To: {mine}\nEnvelope-To: <third@example.org>\nCc: fourth@example.org\n"
    )
    report = parse(dsn("Action: failed", "Status: 5.1.1", head=head))
    assert report is not None
    assert report.envelope_to == ("other@example.org", mine.upper(), mine, "third@example.org")
    named = [delivery_of(address, "bounce@example.org", b"secret") for address in report.envelope_to]
    assert named == [None, 4711, 4711, None]


@pytest.mark.parametrize("name", ["qmail_user_unknown", "exim_plain", "exchange_old_plain", "sendmail_plain"])
def test_prose_counts_only_from_a_mail_system(name: str) -> None:
    head, _, body = SAMPLES[name].partition(b"\n\n")
    assert parse(b"From: somebody@example.net\nReturn-Path: <somebody@example.net>\n\n" + body) is None
    assert parse(b"From: postmaster@example.net\n\n> " + body.replace(b"\n", b"\n> ")) is None
    assert parse(head + b"\n\nYou wrote to me:\n\n" + body) is None
    assert parse(b"Subject: Out of office\n" + head + b"\n\n" + body) is None
    person = (
        b"Return-Path: <>\nFrom: somebody@example.net\nAuto-Submitted: auto-replied\nSubject: Undelivered\n\n"
    )
    assert parse(person + body) is None


def test_a_complaint_comes_only_as_a_feedback_report() -> None:
    raw = SAMPLES["arf_yahoo"]
    assert read(raw.replace(b"multipart/report", b"multipart/mixed")).kind is COMPLAINT
    assert parse(raw.replace(b"message/feedback-report", b"text/plain")) is None
    assert parse(raw.replace(b"Type: abuse", b"Type: opt-out")) is None
    assert read(raw.replace(b"Type: abuse", b"Type: virus")).kind is COMPLAINT


def test_a_status_part_counts_only_in_a_report_or_from_a_mail_system() -> None:
    raw = dsn("Action: failed", "Status: 5.1.1").replace(b"multipart/report", b"multipart/mixed")
    assert read(raw).about is GONE
    assert parse(raw.replace(b"MAILER-DAEMON", b"somebody")) is None


def test_a_receipt_is_no_bounce_whatever_it_contains() -> None:
    raw = dsn("Action: failed", "Status: 5.1.1")
    assert parse(raw.replace(b"delivery-status; b", b"disposition-notification; b")) is None


def test_the_returned_copy_is_not_read_as_prose() -> None:
    raw = SAMPLES["exim_plain"] + b"Your parcel has not yet been delivered.\n"
    assert read(raw).about is GONE


def wrapped(raw: bytes, depth: int) -> bytes:
    """The mail inside of as many multiparts."""
    for n in range(depth):
        head = b"From: postmaster@x\nContent-Type: multipart/mixed; boundary=w%d\n\n--w%d\n" % (n, n)
        raw = head + raw + b"\n--w%d--\n" % n
    return raw


def test_what_lies_beyond_the_bounds_is_not_looked_for() -> None:
    raw = dsn("Action: failed", "Status: 5.1.1")
    assert read(wrapped(raw, 7)).about is GONE
    assert parse(wrapped(raw, 8)) is None
    assert read(raw.replace(b"--b\n", b"--b\n\n" * 20 + b"--b\n")).about is GONE
    assert parse(raw.replace(b"--b\n", b"--b\n\n" * 80 + b"--b\n")) is None
    nested = b"--b\nContent-Type: multipart/mixed; boundary=c\n\n" + b"--c\n\n" * 40
    assert parse(raw.replace(b"--b\n", nested * 2 + b"--b\n")) is None
    assert parse(raw.replace(b"--b\n", b"x" * 600_000 + b"\n--b\n")) is None
    late = dsn(
        "Action: failed", "Status: 5.1.1", head="X-Long: " + "x" * 70_000 + "\nTo: bounce@example.org\n"
    )
    assert parse(late) is None


_UNITS = (
    *(
        b"<a@b.example>:\n550 x\n",
        b"could not be ",
        b">>> RCPT To:<a@b>\n",
        b"550-5.1.1 ",
        b"please ",
        b"mail ",
    ),
    *(b"x: ", b"not ", b"user ", b"5.1.1", b"\n", b" ", b"=", b"\t\n "),
)
"""What a notice may repeat without end."""


def hostile() -> dict[str, bytes]:
    """Bytes made to cost time or memory."""
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(9000))
    many = b"From: postmaster@x\nContent-Type: multipart/report; boundary=b\n\n"
    report = dsn("Action: failed", "Status: 5.1.1")
    prose = b"From: postmaster@x\nSubject: Undeliverable\n\nIt could not be delivered:\n\n"
    return {
        "deep": nested,
        "deep messages": b"Content-Type: message/rfc822\n\n" * 20_000,
        "many parts": many + b"--b\n\n" * 400_000,
        "many boundaries": b"Content-Type: multipart/mixed\n\n"
        + b"".join(b"--%d\n" % n for n in range(300_000)),
        "many fields": b"a:\n" * 700_000,
        "one long field": b"To: " + b"a@b, " * 500_000,
        "folded for ever": b"Subject: x" + b"\n " * 900_000,
        "many blocks": report.replace(b"\n\n--b--", b"\n\nAction: failed\n" * 100_000),
        "spaces": report.replace(b"smtp", b" " * 2_000_000) + b" " * 2_000_000,
        "quotes": b'Content-Type: multipart/report; boundary="' + b'\\"' * 500_000,
        "brackets": b"To: " + b"(" * 1_000_000,
        "apostrophes": b"To: " + b"a'" * 1_000_000,
        "at signs": b"To: " + b"a@" * 1_000_000,
        "dashes": b"From: postmaster@x\n\nThis is the mail system at host\n" + b"-" * 1_000_000,
        "quoted": b"From: postmaster@x\n\n" + b"> \t" * 500_000 + b"message-id:",
        "nul": b"\0" * 3_000_000,
        "charset": b"Subject: =?nope?b?////?= =?utf-8?b?=?=\nFrom: postmaster@x\n",
        **{f"notice of {unit!r}": prose + unit * (60_000 // len(unit)) for unit in _UNITS},
        "html": prose.replace(b"\n\n", b"\nContent-Type: text/html\n\n") + b"<style <p a=" * 50_000,
        "bare carriage returns": report.replace(b"\n", b"\r"),
    }


HOSTILE = hostile()


@pytest.mark.parametrize(("name", "raw"), HOSTILE.items(), ids=HOSTILE)
def test_hostile_bytes_cost_little(name: str, raw: bytes) -> None:
    start = time.perf_counter()
    parse(raw)
    assert time.perf_counter() - start < 2, name


def mutated(pool: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """Samples with some of their bytes replaced, removed or doubled."""

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        raw = bytearray(draw(st.sampled_from(sorted(pool.values()))))
        for _ in range(draw(st.integers(1, 6))):
            at = draw(st.integers(0, len(raw)))
            end = at + draw(st.integers(0, 40))
            raw[at:end] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(raw[at:end] * 2))))
        return bytes(raw)

    return made()


def check_shape(report: BounceReport | None) -> None:
    """What every report promises, whatever it was made of."""
    if report is None:
        return
    for said in report.recipients:
        for text in (
            said.diagnostic,
            said.recipient,
            *report.envelope_to,
            *report.copy_from,
            *report.message_ids,
        ):
            assert "\0" not in (text or "")
            (text or "").encode()
        assert len(said.diagnostic) <= 300
        assert not said.at_once or (said.kind, said.about) == (FAILED, GONE)


@given(st.binary(max_size=2000))
def test_random_bytes_are_no_report(raw: bytes) -> None:
    assert parse(raw) is None


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(SAMPLES))
def test_mutated_samples_never_raise(raw: bytes) -> None:
    check_shape(parse(raw))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(mutated({name: raw for name, raw in ORDINARY.items() if name not in NEARLY}))
def test_mutated_ordinary_mails_never_accuse_anybody(raw: bytes) -> None:
    report = parse(raw)
    assert not accuses(report)


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable", "x-uuencode", "8bit"]))
def test_any_content_of_a_status_part_is_survived(content: bytes, encoding: str) -> None:
    raw = dsn("Action: failed").replace(b"Reporting-MTA", content + b"\nReporting-MTA")
    kind = b"message/delivery-status\nContent-Transfer-Encoding: " + encoding.encode()
    check_shape(parse(raw.replace(b"message/delivery-status", kind)))


@given(st.text(max_size=200))
def test_any_subject_is_survived(subject: str) -> None:
    raw = f"Subject: =?utf-8?b?{subject}?= =?x?q?{subject}?=\n".encode()
    check_shape(parse(raw + SAMPLES["qmail_quota"]))
