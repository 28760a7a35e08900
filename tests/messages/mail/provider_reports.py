"""Reports of more servers and filters, after the wordings that they are known for, and what each must mean.

The replies stand in the reports of the relays that got them; ``!`` after what it is about: the address is
certainly unknown.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.messages.mail.report_corpus import COPY, PERSON, SENDER, dsn, head, plain

_REPLIES = Path(__file__).parent / "provider_replies.tsv"


def _exim(command: str, reply: str) -> bytes:
    after = {
        "CONNECT": "initial connection",
        "MAIL FROM": f"MAIL FROM:<{SENDER}>",
        "end of DATA": "end of data",
    }
    text = (
        "This message was created automatically by mail delivery software.\n\nA message that you sent could"
        " not be delivered to one or more of its\nrecipients. This is a permanent error. The following"
        f" address(es) failed:\n\n  {PERSON}\n    host mx.person.example [192.0.2.40]\n    SMTP error from"
        f" remote mail server after {after.get(command, f'RCPT TO:<{PERSON}>')}:\n    {reply}\n"
    )
    header = head("Mail Delivery System <Mailer-Daemon@relay.example>", "Mail delivery failed",
                  f"X-Failed-Recipients: {PERSON}", "Auto-Submitted: auto-replied")  # fmt: skip
    fields = ("Action: failed", f"Final-Recipient: rfc822;{PERSON}", "Status: 5.0.0")
    return dsn(header, text, *fields, f"Diagnostic-Code: smtp; {reply}").encode()


def _postfix(command: str, reply: str) -> bytes:
    said = f"said: {reply} (in reply to {command} command)"
    words = f"refused to talk to me: {reply}" if command == "CONNECT" else said
    status = next((w.lstrip("#") for w in reply.split()[1:2] if w.lstrip("#")[:2] in {"4.", "5."}), "")
    status = status or f"{4 if command == 'CONNECT' else reply[0]}.0.0"
    return dsn(
        head("MAILER-DAEMON@relay.example (Mail Delivery System)", "Undelivered Mail Returned to Sender"),
        "This is the mail system at host relay.example.\n\nYour message could not be delivered.\n\n"
        f"<{PERSON}>: host mx.person.example[192.0.2.40] {words}",
        f"Final-Recipient: rfc822; {PERSON}", "Action: failed", f"Status: {status}",
        "Remote-MTA: dns; mx.person.example", f"Diagnostic-Code: smtp; {reply}",
    ).encode()  # fmt: skip


_HMAIL = (
    "Your message did not reach some or all of the intended recipients.\n\n   Sent: Mon, 9 Mar 2026 08:00:00"
    " +0000\n   Subject: Two goals are due\n\nThe following recipient(s) could not be reached:\n\n{person}\n"
    "   Error Type: SMTP\n   Remote server (192.0.2.40) issued an error.\n   hMailServer sent: RCPT"
    " TO:<{person}>\n   Remote server replied: {reply}\n\n\nhMailServer\n"
)
_MAILENABLE = (
    "MailEnable: Message Delivery Failure.\n\nThe following recipient(s) could not be reached:\n\n"
    "\tRecipient: [SMTP:{person}]\n\tReason: {reply}\n\n\nMessage headers follow:\n\n{copy}"
)
_MIMECAST = (
    "This is a delivery failure notification message indicating that\nan email you addressed to email address"
    " :\n-- {person}\n\ncould not be delivered. The problem appears to be :\n-- {problem}\n\nAdditional"
    " information follows :\n-- {reply}\n\nThis condition occurred after 1 attempt(s) to deliver over\n"
    "a period of 0 hour(s).\n"
)
_CISCO = "The following message to <{person}> was undeliverable.\nThe reason for the problem:\n{reply}\n"


def _named(form: str, reply: str = "", problem: str = "") -> str:
    return form.format(person=PERSON, reply=reply, problem=problem, copy=COPY)


OWN_FORMATS = [
    ("hmailserver, unknown", "mailer-daemon@hmail.example", "Message undeliverable: Two goals are due",
     _named(_HMAIL, "550 Unknown user"), "address"),
    ("hmailserver, listed", "mailer-daemon@hmail.example", "Message undeliverable: Two goals are due",
     _named(_HMAIL, "554 5.7.1 Client host [192.0.2.17] blocked"), "us"),
    ("mailenable, unknown", "Postmaster@enable.example", "Message Delivery Failure",
     _named(_MAILENABLE, "The message could not be delivered because the mailbox does not exist"), "address"),
    ("mailenable, no connection", "Postmaster@enable.example", "Message Delivery Failure",
     _named(_MAILENABLE, "Could not connect to the remote mail server"), "way"),
    ("mailenable, refused", "Postmaster@enable.example", "Message Delivery Failure",
     _named(_MAILENABLE, "Remote SMTP Server Returned: 550 5.7.1 Refused by local policy"), "us"),
    ("mimecast, unknown", "postmaster@mimecast.example", "[Postmaster] Email Delivery Failure",
     _named(_MIMECAST, "5.1.1 User Unknown", "Recipient email address is possibly incorrect"), "address"),
    ("mimecast, no answer", "postmaster@mimecast.example", "[Postmaster] Email Delivery Failure",
     _named(_MIMECAST, "Connection timed out", "Recipient server unavailable or busy"), "way"),
    ("mimecast, policy", "postmaster@mimecast.example", "[Postmaster] Email Delivery Failure",
     _named(_MIMECAST, "550 Administrative prohibition", "Rejected by the recipient's policy"), "us"),
    ("cisco, unknown", "MAILER-DAEMON@esa.example", "Delivery Status Notification (Failure)",
     _named(_CISCO, "5.1.0 - Unknown address error 550-'5.1.1 User unknown'"), "address!"),
    ("cisco, listed", "MAILER-DAEMON@esa.example", "Delivery Status Notification (Failure)",
     _named(_CISCO, "5.1.0 - Unknown address error 554-'5.7.1 Client host [192.0.2.17] blocked'"), "us"),
    ("cisco, no domain", "MAILER-DAEMON@esa.example", "Delivery Status Notification (Failure)",
     _named(_CISCO, "5.1.2 - Bad destination host 'DNS Hard Error looking up person.example (MX):"
                    "  NXDomain'"),
     "address"),
    ("cisco, refused", "MAILER-DAEMON@esa.example", "Delivery Status Notification (Failure)",
     _named(_CISCO, "5.3.0 - Other mail system problem 554-'Message refused as spam'"), "us"),
    ("cisco, no answer", "MAILER-DAEMON@esa.example", "Delivery Status Notification (Failure)",
     _named(_CISCO, "4.4.7 - Message expired, [Errno 110] Connection timed out"), "way"),
    ("barracuda, blocked", "postmaster@firewall.example",
     "**Message you sent blocked by our bulk email filter**",
     f"Your message to: {PERSON}\nwas blocked by our Spam Firewall. The email you sent with the following"
     " subject has NOT BEEN DELIVERED:\n\nSubject: Two goals are due\n", "us"),
    ("fastmail, full", "MAILER-DAEMON@fast.example (Mail Delivery System)",
     "Undelivered Mail Returned to Sender",
     f"This is the mail system at host fast.example.\n\nI'm sorry to have to inform you that your message"
     f" could not\nbe delivered to one or more recipients.\n\n<{PERSON}>: Mailbox over quota\n", "mailbox"),
    ("yandex, in two languages", "mailer-daemon@yandex.example", "Недоставленное сообщение",
     "Это письмо отправлено почтовым сервером.\n\nК сожалению, мы вынуждены сообщить Вам о том, что Ваше"
     f" письмо не может быть отправлено одному или нескольким адресатам.\n\n<{PERSON}>:"
     f" host mx.person.example said: 550 5.1.1 User unknown (in reply to RCPT TO command)\n", "address!"),
    ("t-online, unknown", "Mail Delivery System <mailer-daemon@t-online.example>", "Mail delivery failed",
     f"|------------------------- Message log follows: -------------------------|\n no valid recipients were"
     f" found for this message\n|------------------------- Failed addresses follow: ---------------------|\n"
     f" <{PERSON}> ... unknown user\n|------------------------- Message text follows: --------------------|\n"
     f"{COPY}", "address"),
    ("kerio, unknown", "Kerio Connect <postmaster@kerio.example>", "Undeliverable: Two goals are due",
     f"Your message could not be delivered to the following recipients:\n\n   {PERSON}\n      User unknown\n",
     "address"),
    ("office, in german", "Mail Administrator <postmaster@firma.example>", "Unzustellbar: Two goals are due",
     f"Fehler bei der Nachrichtenzustellung an folgende Empfänger oder Verteilerlisten:\n\n{PERSON}\nDie"
     " eingegebene E-Mail-Adresse konnte nicht gefunden werden.\n\nDiagnoseinformationen für Administratoren:"
     f"\n\nGenerierender Server: firma.example\n\n{PERSON}\n#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found"
     " ##\n", "address!"),
]  # fmt: skip


def reports() -> Iterator[tuple[str, bytes, str]]:
    """(name, mail, what it is about) of each."""
    lines = _REPLIES.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#"):
            continue
        name, command, about, reply = line.replace("{person}", PERSON).split("\t")
        yield f"{name} {number}, by postfix", _postfix(command, reply), about
        yield f"{name} {number}, by exim", _exim(command, reply), about
    for name, sender, subject, text, about in OWN_FORMATS:
        yield name, plain(head(sender, subject), text).encode(), about
