"""Reports of all kinds of servers are known, and judged by whom they are about."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.messages.mail.bounce_report import ReportKind
from service.messages.mail.bounce_reports import parse
from service.messages.mail.smtp_reply import About
from tests.messages.mail.report_corpus import COPY, PERSON, REASONS, SERVERS, corpus, dsn, head, plain

CORPUS = list(corpus())
FAILED, DELAYED = ReportKind.FAILED, ReportKind.DELAYED


@pytest.mark.parametrize(("name", "raw", "about", "at_once"), CORPUS, ids=[row[0] for row in CORPUS])
def test_each_server_and_each_reason(name: str, raw: bytes, about: str, at_once: bool) -> None:
    report = parse(raw)
    assert report is not None, name
    worst = report.worst
    assert (worst.kind, worst.about, worst.at_once) == (FAILED, about, at_once)
    assert worst.recipient == PERSON
    assert len(report.recipients) == 1


def test_the_corpus_is_whole() -> None:
    assert len(SERVERS) >= 20
    assert len(CORPUS) == len(SERVERS) * len(REASONS) >= 100


# ── What a relay says by itself ─────────────────────────────────────────────────────────────────────────────

_EXIM = [
    ("Unrouteable address", "way"),
    ("retry timeout exceeded", "way"),
    ("mailbox is full: retry timeout exceeded", "mailbox"),
    ("452 4.2.2 Over quota, come back later: retry timeout exceeded", "mailbox"),
    ("unknown user, as the look-up in the directory timed out: retry timeout exceeded", "way"),
    ("an MX or SRV record indicated no SMTP service", "address"),
    ("all hosts for 'person.example' have been failing for a long time (and retry time not reached)", "way"),
    ("host lookup did not complete", "way"),
    ("lowest numbered MX record points to local host", "way"),
    ("SMTP error from remote mail server after initial connection:\n    host mx: 554 no", "us"),
    ("Too many \"Received\" headers - suspected mail loop", "way"),
    ("local delivery failed", "way"),
    ("Child process of address_pipe transport returned 69 from command: /usr/bin/filter", "way"),
    ("mailbox is full (MTA-imposed quota exceeded while writing to file /var/mail/pat)", "mailbox"),
    ("unknown local-part \"pat\" in domain \"person.example\"", "address"),
    ("all relevant MX records point to non-existent hosts", "address"),
    ("unrouteable mail domain \"person.example\"", "address"),
    ("SMTP timeout while connected to mx.person.example [192.0.2.40] after end of data", "way"),
]  # fmt: skip

_POSTFIX = [
    ("5.4.4", "Host or domain name not found. Name service error for name=person.example type=AAAA: Host"
              " not found",
     "address"),
    ("5.4.4", "Host or domain name not found. Name service error for name=person.example type=MX: Host not"
              " found,"
     " try again", "way"),
    ("4.4.3", "Host or domain name not found. Name service error for name=person.example type=MX: Host not"
              " found,"
     " try again", "way"),
    ("5.4.4", "Name service error for name=person.example type=MX: Malformed or unexpected name server"
              " reply", "way"),
    ("5.1.1", 'unknown user: "pat"', "address!"),
    ("5.2.2", "maildir delivery failed: the user has exceeded the disk quota", "mailbox"),
    ("5.3.0", 'Command died with status 127: "/usr/bin/filter"', "way"),
    ("4.4.1", "connect to mx.person.example[192.0.2.40]:25: Connection timed out", "way"),
    ("4.4.2", "lost connection with mx.person.example[192.0.2.40] while sending RCPT TO", "way"),
    ("5.4.6", "mail forwarding loop for pat@person.example", "way"),
    ("5.4.6", "mail for person.example loops back to myself", "way"),
    ("5.3.4", "message size 12345678 exceeds size limit 10240000 of server mx.person.example", "us"),
    ("4.0.0", "host mx.person.example[192.0.2.40] refused to talk to me: 554 No mail from you", "us"),
    ("4.7.1", "host mx.person.example[192.0.2.40] refused to talk to me: 554 5.7.1 Listed", "us"),
    ("4.0.0", "host mx.person.example[192.0.2.40] refused to talk to me: 421 Too busy", "way"),
    ("5.6.7", "SMTPUTF8 is required, but was not offered by host mx.person.example", "us"),
    ("5.1.0", "Domain person.example does not accept mail (nullMX)", "address"),
    ("5.7.4", "TLS is required, but was not offered by host mx.person.example", "us"),
    ("4.4.7", "delivery temporarily suspended: connect to mx: Connection refused", "way"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "about"), _EXIM)
@pytest.mark.parametrize("form", ["prose", "report"])
def test_exim_says_its_own_reasons_in_the_text(form: str, reason: str, about: str) -> None:
    text = (
        "This message was created automatically by mail delivery software.\n\nA message that you sent"
        " could not be"
        " delivered to one or more of its\nrecipients. This is a permanent error. The following"
        " address(es) failed:\n\n"
        f"  {PERSON}\n    {reason}\n\n"
    )
    header = head("Mail Delivery System <Mailer-Daemon@relay.example>", "Mail delivery failed",
                  f"X-Failed-Recipients: {PERSON}", "Auto-Submitted: auto-replied")  # fmt: skip
    fields = ("Action: failed", f"Final-Recipient: rfc822;{PERSON}", "Status: 5.0.0")
    mail = plain(header, f"{text}{COPY}") if form == "prose" else dsn(header, text, *fields)
    report = parse(mail.encode())
    assert report is not None
    assert (report.worst.kind, report.worst.about, report.worst.at_once) == (FAILED, about, False)


@pytest.mark.parametrize(("status", "reason", "about"), _POSTFIX)
def test_postfix_gives_its_own_reasons_a_status(status: str, reason: str, about: str) -> None:
    header = head("MAILER-DAEMON@relay.example (Mail Delivery System)", "Undelivered Mail Returned to Sender")
    opening = "This is the mail system at host relay.example.\n\nYour message could not be delivered."
    notice = f"{opening}\n\n<{PERSON}>: {reason}"
    fields = (f"Final-Recipient: rfc822; {PERSON}", "Action: failed", f"Status: {status}")
    report = parse(dsn(header, notice, *fields, f"Diagnostic-Code: X-Postfix; {reason}").encode())
    assert report is not None
    assert (report.worst.about, report.worst.at_once) == (about.rstrip("!"), about.endswith("!"))


# ── Formats with reasons of their own ───────────────────────────────────────────────────────────────────────

_QMAIL = """Hi. This is the qmail-send program at relay.example.
I'm afraid I wasn't able to deliver your message.

"""
_NOTES = "------- Failure Reasons  --------\n\n{0}\n{1}\n\n------- Returned Message --------\n\n"
_OLD_EXCHANGE = (
    "Your message\n\n  To:      {1}\n  Subject: Two goals are due\n  Sent:    Mon, 9 Mar 2026 08:00:00"
    " +0000\n\n"
    "did not reach the following recipient(s):\n\n{1} on Mon, 9 Mar 2026 08:00:05 +0000\n    {0}\n"
    "    MSEXCH:IMS:CORP:SITE:SERVER 0 (000C05A6) {0}\n"
)
_SPECIAL = [
    ("qmail, no mailbox", "MAILER-DAEMON@relay.example", "failure notice",
     f"{_QMAIL}<{PERSON}>:\nSorry, no mailbox here by that name. (#5.1.1)\n", "address!"),
    ("qmail, no host", "MAILER-DAEMON@relay.example", "failure notice",
     f"{_QMAIL}<{PERSON}>:\nSorry, I couldn't find any host named person.example. (#5.1.2)\n", "address!"),
    ("qmail, no connection", "MAILER-DAEMON@relay.example", "failure notice",
     f"{_QMAIL}<{PERSON}>:\nSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n", "way"),
    ("qmail, not our domain", "MAILER-DAEMON@relay.example", "failure notice",
     f"{_QMAIL}<{PERSON}>:\nSorry. Although I'm listed as a best-preference MX or A for that host,\nit"
     f" isn't in my"
     " control/locals file, so I don't treat it as local. (#5.4.6)\n", "way"),
    ("vpopmail, quota", "MAILER-DAEMON@relay.example", "failure notice",
     f"{_QMAIL}<{PERSON}>:\nuser is over quota\n", "mailbox"),
    ("notes, unknown", "Mail_Router@notes.example", "NDN: Two goals are due",
     _NOTES.format("User not listed in public Name & Address Book", PERSON), "address"),
    ("exchange 5.5, unknown", "System Administrator <postmaster@corp.example>", "Undeliverable: Two goals",
     _OLD_EXCHANGE.format("The recipient name is not recognized", PERSON), "address"),
    ("exchange 2003, unknown", "System Administrator <postmaster@corp.example>", "Undeliverable: Two goals",
     "Your message did not reach some or all of the intended recipients.\n\n      Subject:\tTwo"
     " goals\n\nThe following"
     f" recipient(s) could not be reached:\n\n      '{PERSON}' on 09/03/2026 08:00\n            The e-mail"
     f" account does"
     " not exist at the organization this message was sent to.\n            <corp.example"
     " #5.1.1>\n", "address!"),
    ("imail, unknown", '"Postmaster" <postmaster@imail.example>', "Undeliverable Mail",
     f"Unknown user: {PERSON}\n\nOriginal message follows.\n\n{COPY}", "address"),
    ("imail, full", '"Postmaster" <postmaster@imail.example>', "Undeliverable Mail",
     f"User mailbox exceeds allowed size: {PERSON}\n\nOriginal message follows.\n\n{COPY}", "mailbox"),
    ("imail, no answer", '"Postmaster" <postmaster@imail.example>', "Undeliverable Mail",
     f"Delivery failed 20 attempts: {PERSON}\n\nOriginal message follows.\n\n{COPY}", "way"),
    ("au, switched off", "Postmaster@mobile.example", "Mail System Error - Returned Mail",
     f"The user(s) account is disabled.\n\n<{PERSON}>\n\n", "mailbox"),
    ("au, unknown", "Postmaster@mobile.example", "Mail System Error - Returned Mail",
     f"The following recipients did not receive this message:\n\n<{PERSON}>: 550 <{PERSON}>: User"
     f" unknown\n", "address"),
    ("kddi, full", "no-reply@mobile.example", "Undeliverable: Two goals",
     f"Your mail sent on: Mon, 9 Mar 2026\n\nCould not be delivered to:\n\n<{PERSON}>\n\nAs their mailbox"
     f" is full.\n",
     "mailbox"),
    ("verizon, unknown", "post_master@mobile.example", "Undeliverable Message",
     f"Message could not be delivered to mobile.\n\nError: No valid recipients for this MM\n\nTo:"
     f" {PERSON}\n", "address"),
    ("facebook, unknown", "Facebook <mailer-daemon@social.example>", "Sorry, your message could not be"
                                                                     " delivered",
     f"This message was created automatically by Facebook.\n\nYour message could not be delivered"
     f" to:\n\n{PERSON}\n\n"
     f"550 5.1.1 RCP-P1 https://postmaster.social.example/response_codes?ip=192.0.2.17\n", "address!"),
    ("google groups, closed", "Mail Delivery Subsystem"
                              " <mailer-daemon@groups.example>", "Delivery Status Notification"
     " (Failure)", "Hello,\n\nWe're writing to let you know that the group you"
                   " tried to contact"
     " (pat) may not exist, or you may not have permission to post messages to the group.\n", "us"),
    ("fml, closed list", "list-admin@lists.example", "NOT MEMBER article from reminders",
     "Hi, I am the fml ML manager. You are not a member of this mailing list, so your mail is not"
     " delivered.\n", "us"),
    ("surfcontrol", "Mail Administrator <postmaster@filter.example>", "Message could not be sent",
     f"Your message could not be sent.\n\nFailed to send to identified host,\n\n{PERSON}: [192.0.2.40],"
     f" 550 pat: no such"
     " user here\n\n", "address"),
    ("mfilter", "Mailer Daemon <MAILER-DAEMON@filter.example>", "Mail Delivery Failed",
     f"The mail was not delivered to {PERSON}\n-------server message follows--------\n550 5.1.1"
     f" <{PERSON}>... no such user"
     f"\n-------original message follows-----\n{COPY}", "address!"),
    ("mailfoundry", "Mail Foundry <postmaster@filter.example>", "Message Delivery Failure",
     f"This is a MIME encapsulated message.\n\nUnable to deliver message to: <{PERSON}>\nDelivery failed"
     f" for the following"
     f" reason:\nServer mx[192.0.2.40] failed with: 550 <{PERSON}> No such user here\n\nThis has been a"
     f" permanent failure."
     "  No further delivery attempts will be made.\n", "address"),
    ("x6", "Mail Delivery System <postmaster@web.example>", "There was an error sending your mail",
     "We had trouble delivering your message. Full details follow:\n\nSubject: 'Two goals'\n\n1"
     " error(s):\n\nSMTP Server"
     f" <mx.person.example> rejected recipient <{PERSON}>\n  (Error following RCPT command). It responded"
     f" as follows:"
     " [550 5.1.1 unknown user]\n\n", "address!"),
    ("x.400", "X.400 Gateway <postmaster@x400.example>", "Delivery Report (failure)",
     f"This report relates to your message. It could not be delivered to\n\n{PERSON}\n\nReason 1"
     f" (Unable-To-Transfer);"
     " Diagnostic 5 (Maximum-Time-Expired)\n", "way"),
    ("mail.ru", "mailer-daemon@corp.mail.example", "Mail failure.",
     f"This message was created automatically by mail delivery software.\n\nA message that you sent could"
     f" not be delivered"
     f" to one or more of its\nrecipients. The following address(es) failed:\n\n  {PERSON}\n    host mx"
     f" [192.0.2.40]: 550"
     " User not found\n", "address"),
    ("mail.ru, full", "mailer-daemon@corp.mail.example", "Mail failure.",
     f"A message that you sent could not be delivered.\n\n  {PERSON}\n    user's space has been used"
     f" up\n", "mailbox"),
    ("sina", "MAILER-DAEMON@mail.example", "Systems bounce",
     f"Could not deliver to\n<{PERSON}>:\n550 5.2.2 over quota\n", "mailbox"),
    ("german", "MAILER-DAEMON@post.example", "Unzustellbar: Zwei Ziele",
     f"Ihre Nachricht konnte nicht zugestellt werden.\n\n{PERSON}: Empfänger unbekannt\n", "address"),
    ("french", "Postmaster <postmaster@poste.example>", "Non remis : deux objectifs",
     f"Votre message n'a pas pu être remis à :\n\n{PERSON}\nBoîte pleine, la boîte du destinataire est"
     f" pleine\n", "mailbox"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sender", "subject", "text", "about"), _SPECIAL, ids=[s[0] for s in _SPECIAL]
)
def test_formats_in_prose(name: str, sender: str, subject: str, text: str, about: str) -> None:
    for path in ("<>", ""):
        report = parse(plain(head(sender, subject, path=path), text).encode())
        assert report is not None, name
        assert (report.worst.kind, report.worst.about) == (FAILED, about.rstrip("!"))
        assert report.worst.at_once is about.endswith("!")
        assert report.worst.recipient in {PERSON, None}


@pytest.mark.parametrize(
    "text",
    [
        "has not yet been delivered after 4 hours. No action is required on your part.",
        "could not be delivered yet. Delivery attempts will continue to be made for 5 days.",
        "has been delayed, and will be tried again for 2 more days; nobody need do anything.",
    ],
)
def test_a_warning_is_no_failure(text: str) -> None:
    header = head("Mail Delivery System <mailer-daemon@relay.example>", "Warning: message delayed 4 hours")
    report = parse(plain(header, f"Your message to\n\n  {PERSON}\n\n{text}\n").encode())
    assert report is not None
    assert (report.worst.kind, report.worst.about) == (DELAYED, About.WAY)


@pytest.mark.parametrize("path", ["<>", "<pat@person.example>"])
def test_answering_machines_are_ignored(path: str) -> None:
    for subject, text in (
        ("Out of office until Monday", "If your mail could not be delivered, write to 550 others."),
        ("Automatic reply: Two goals are due", "I am away."),
        ("Re: Two goals are due", "The user unknown to you is me: 550 5.1.1 user unknown."),
        ("Abwesenheitsnotiz", "Ich bin nicht da; dringende Mails konnten nicht zugestellt werden."),
    ):
        assert parse(plain(head("Pat <pat@person.example>", subject, path=path), text).encode()) is None


def test_a_report_that_a_gateway_attached_is_read() -> None:
    inner = SERVERS["postfix"](REASONS[0])
    header = head("postmaster@gateway.example", "Delivery Status Notification (Failure)")
    outer = f'{header}Content-Type: multipart/mixed; boundary="o"\n\n--o\nContent-Type: message/rfc822\n\n'
    raw = f"{outer}{inner}\n--o--\n"
    report = parse(raw.encode())
    assert report is not None
    assert (report.worst.about, report.worst.at_once, report.worst.recipient) == (About.ADDRESS, True, PERSON)


def test_a_receipt_of_dovecot_says_that_it_refused_the_mail() -> None:
    header = head("Mail Delivery Subsystem <postmaster@box.example>", "Automatically rejected mail",
                  "Auto-Submitted: auto-replied (rejected)")  # fmt: skip
    raw = (
        f"{header}Content-Type: multipart/report; report-type=disposition-notification; boundary=d\n\n--d\n"
        f"Content-Type: text/plain\n\nYour message to <{PERSON}> was automatically rejected:\n"
        f"Quota exceeded\n\n--d\n"
        f"Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; {PERSON}\n"
        "Disposition: automatic-action/MDN-sent-automatically; deleted\n\n--d--\n"
    )
    report = parse(raw.encode())
    assert report is not None
    assert (report.worst.kind, report.worst.about, report.worst.recipient) == (FAILED, About.MAILBOX, PERSON)


def test_a_recipient_is_ours_however_its_domain_is_written() -> None:
    raw = SERVERS["postfix"](REASONS[0]).replace(PERSON, "pat@xn--bcher-kva.example")
    report = parse(raw.encode())
    assert report is not None
    for address in ("Pat@bücher.example", "pat@XN--bcher-kva.example"):
        assert report.about_recipient(address).about is About.ADDRESS
    assert report.about_recipient("pat@other.example").about is About.MAILBOX


# ── Whatever is said ────────────────────────────────────────────────────────────────────────────────────────

_OF_US = st.sampled_from(
    ["192.0.2.17 is blacklisted", "your IP address 192.0.2.17", "listed at dnsbl.example", "on a block list",
     "the sender is refused", "sender address rejected", "SPF failed", "client host [192.0.2.17] blocked",
     "DNSBL", "blocked using zen", "your host is not allowed", "reverse DNS of 192.0.2.17"]
)  # fmt: skip
_OTHER = st.sampled_from(
    ["user unknown", "no such user", "5.1.1", "550", "(#5.1.1)", "mailbox", "rejected", ";", "here"]
)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(SERVERS)),
    st.sampled_from(["550 5.1.1", "550 5.1.2", "550", "553 5.1.10", "554 5.1.1"]),
    st.lists(_OTHER, max_size=4),
    _OF_US,
    st.lists(_OTHER, max_size=4),
)
def test_what_speaks_of_a_host_a_list_or_the_sender_suppresses_nobody(
    server: str, code: str, before: list[str], of_us: str, after: list[str]
) -> None:
    words = " ".join([*before, of_us, *after])
    reason = type(REASONS[0])("any", "RCPT TO", f"{code} {words}", "5.1.1", "us")
    report = parse(SERVERS[server](reason).encode())
    assert report is not None
    assert report.worst.about is not About.ADDRESS
    assert not report.worst.at_once
