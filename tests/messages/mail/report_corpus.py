"""Reports of common servers, made from their documented formats: server x reason, with what each must mean.

Names, addresses, hosts and texts are ours; the sentences by which a format is known are the format's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

PERSON = "pat@person.example"
SENDER = "bounce+abc-defgh234@dash.example"
COPY = (
    f"Return-Path: <{SENDER}>\nFrom: Dashboard <reminders@dash.example>\nTo: <{PERSON}>\n"
    "Subject: Two goals are due tomorrow\nDate: Mon, 9 Mar 2026 08:00:00 +0000\n"
    "Message-ID: <0a1b2c3d@dash.example>\nMIME-Version: 1.0\nContent-Type: text/plain\n\n"
    "Is your mailbox full of spam? Blocked or unknown users, quota and policy: none of it counts here.\n"
)


@dataclass(frozen=True)
class Reason:
    """Why a mail came back: the command, the reply to it, and what that is about."""

    name: str
    command: str
    reply: str
    status: str
    about: str
    at_once: bool = False

    @property
    def code(self) -> str:
        """The basic code."""
        return self.reply[:3]


REASONS = [
    Reason("unknown", "RCPT TO", f"550 5.1.1 <{PERSON}>: nobody of that name"
                                 f" here", "5.1.1", "address", at_once=True),
    Reason("unknown, no code", "RCPT TO", f"550 <{PERSON}> unknown user", "5.0.0", "address"),
    Reason("full", "RCPT TO", "552 5.2.2 The mailbox of the recipient is full", "5.2.2", "mailbox"),
    Reason("full, no code", "RCPT TO", "550 This mailbox is over quota", "5.0.0", "mailbox"),
    Reason("disabled", "RCPT TO", "550 5.2.1 That account is switched off for now", "5.2.1", "mailbox"),
    Reason("listed", "RCPT TO", "554 5.7.1 Refused, 192.0.2.17 is on a block list of"
                                " dnsbl.example", "5.7.1", "us"),
    Reason("code against words", "RCPT TO", "550 5.1.1 Your IP 192.0.2.17 is blacklisted", "5.1.1", "us"),
    Reason("greeting", "CONNECT", "554 mx.person.example takes nothing from 192.0.2.17", "5.0.0", "us"),
    Reason("sender", "MAIL FROM", "553 The domain of the sender cannot be looked at", "5.0.0", "us"),
    Reason("content", "DATA", "550 This mail was taken for spam, see"
                              " https://rules.example/5.1.1", "5.0.0", "us"),
    Reason("nothing said at the end", "DATA", "554 Transaction failed", "5.0.0", "us"),
    Reason("too busy", "RCPT TO", "451 4.3.2 The system is too busy, come back later", "4.3.2", "way"),
]  # fmt: skip

Server = Callable[[Reason], str]
SERVERS: dict[str, Server] = {}


def server(name: str) -> Callable[[Server], Server]:
    """Register the format of a server."""

    def register(form: Server) -> Server:
        SERVERS[name] = form
        return form

    return register


def head(sender: str, subject: str, *more: str, path: str = "<>") -> str:
    """The header of a report."""
    lines = [f"Return-Path: {path}"] if path else []
    lines += [f"From: {sender}", f"To: {SENDER}", f"Subject: {subject}", "MIME-Version: 1.0", *more]
    return "\n".join(lines) + "\n"


def dsn(header: str, notice: str, *fields: str, mta: str = "dns; relay.example", copy: str = COPY) -> str:
    """A multipart/report."""
    block = "\n".join(fields)
    return (
        f'{header}Content-Type: multipart/report; report-type=delivery-status;\n boundary="r_1"\n\n'
        f"--r_1\nContent-Type: text/plain\n\n{notice}\n\n--r_1\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: {mta}\n\n{block}\n\n--r_1\nContent-Type: message/rfc822\n\n{copy}\n--r_1--\n"
    )


def plain(header: str, text: str) -> str:
    """A report that is one text."""
    return f"{header}Content-Type: text/plain; charset=us-ascii\n\n{text}"


def in_exim(command: str) -> str:
    return {"CONNECT": "initial connection", "MAIL FROM": f"MAIL FROM:<{SENDER}>", "DATA": "end of data"}.get(
        command, f"RCPT TO:<{PERSON}>"
    )


@server("postfix")
def postfix(r: Reason) -> str:
    command = "end of DATA" if r.command == "DATA" else r.command
    words = (
        f"host mx.person.example[192.0.2.40] refused to talk to me: {r.reply}"
        if r.command == "CONNECT"
        else f"host mx.person.example[192.0.2.40] said: {r.reply} (in reply to {command} command)"
    )
    return dsn(
        head("MAILER-DAEMON@relay.example (Mail Delivery System)", "Undelivered Mail Returned to Sender",
             "Auto-Submitted: auto-replied"),
        "This is the mail system at host relay.example.\n\nI'm sorry to have to inform you that your"
        " message could not\n"
        "be delivered to one or more recipients. It's attached below.\n\nFor further assistance, please"
        " send mail to"
        " postmaster.\n\nIf you do so, please include this problem report. You can\ndelete your own text"
        " from the"
        f" attached returned message.\n\n                   The mail system\n\n<{PERSON}>: {words}",
        f"Final-Recipient: rfc822; {PERSON}", "Action: failed", f"Status: {r.status}",
        "Remote-MTA: dns; mx.person.example", f"Diagnostic-Code: smtp; {r.reply}",
    )  # fmt: skip


def exim_text(r: Reason) -> str:
    return (
        "This message was created automatically by mail delivery software.\n\nA message that you sent"
        " could not be"
        " delivered to one or more of its\nrecipients. This is a permanent error. The following"
        " address(es) failed:\n\n"
        f"  {PERSON}\n    host mx.person.example [192.0.2.40]\n    SMTP error from remote mail server after"
        f" {in_exim(r.command)}:\n    {r.reply}\n"
    )


@server("exim 4, prose")
def exim_plain(r: Reason) -> str:
    header = head("Mail Delivery System <Mailer-Daemon@relay.example>",
                  "Mail delivery failed: returning message to sender",
                  f"X-Failed-Recipients: {PERSON}", "Auto-Submitted: auto-replied")  # fmt: skip
    mark = "------ This is a copy of the message, including all the headers. ------"
    return plain(header, f"{exim_text(r)}\n{mark}\n\n{COPY}")


@server("exim 4, report")
def exim_dsn(r: Reason) -> str:
    header = head("Mail Delivery System <Mailer-Daemon@relay.example>",
                  "Mail delivery failed: returning message to sender",
                  f"X-Failed-Recipients: {PERSON}", "Auto-Submitted: auto-replied")  # fmt: skip
    return dsn(header, exim_text(r), "Action: failed", f"Final-Recipient: rfc822;{PERSON}", "Status: 5.0.0",
               "Remote-MTA: dns; mx.person.example", f"Diagnostic-Code: smtp; {r.reply}")  # fmt: skip


@server("exim 3")
def exim_3(r: Reason) -> str:
    header = head("Mail Delivery System <Mailer-Daemon@relay.example>",
                  "Mail delivery failed: returning message to sender", path="")  # fmt: skip
    return plain(
        header,
        "This message was created automatically by mail delivery software (Exim).\n\nA message that you"
        " sent could not"
        " be delivered to one or more of its\nrecipients. The following address(es) failed:\n\n"
        f"  {PERSON}\n    SMTP error from remote mailer after {in_exim(r.command)}:\n    host"
        f" mx.person.example"
        f" [192.0.2.40]: {r.reply}\n\n------ This is a copy of the message, including all the headers."
        f" ------\n\n{COPY}",
    )


def transcript(r: Reason) -> str:
    command = {"CONNECT": "", "MAIL FROM": f">>> MAIL From:<{SENDER}>\n", "DATA": ">>> DATA\n"}.get(
        r.command, f">>> RCPT To:<{PERSON}>\n"
    )
    said = f"... while talking to mx.person.example.:\n{command}<<< {r.reply}\n"
    return f"   ----- Transcript of session follows -----\n{said}"


@server("sendmail 8")
def sendmail_8(r: Reason) -> str:
    return dsn(
        head("Mail Delivery Subsystem"
             " <MAILER-DAEMON@relay.example>", "Returned mail: see transcript for details",
             "Auto-Submitted: auto-generated (failure)"),
        "The original message was received at Mon, 9 Mar 2026 08:00:01 GMT\nfrom dash.example"
        " [192.0.2.17]\n\n"
        f"   ----- The following addresses had permanent fatal errors -----\n<{PERSON}>\n"
        f"    (reason: {r.reply})\n\n"
        + transcript(r),
        f"Final-Recipient: RFC822; {PERSON}", "Action: failed", f"Status: {r.status}",
        "Remote-MTA: DNS; mx.person.example", f"Diagnostic-Code: SMTP; {r.reply}",
        "Last-Attempt-Date: Mon, 9 Mar 2026 08:00:02 GMT",
    )  # fmt: skip


@server("sendmail 5")
def sendmail_5(r: Reason) -> str:
    return plain(
        head("Mail Delivery Subsystem <MAILER-DAEMON@relay.example>", "Returned mail: User unknown", path=""),
        f"{transcript(r)}{r.code} <{PERSON}>... {r.reply[4:]}\n\n   ----- Unsent message follows"
        f" -----\n{COPY}",
    )


@server("qmail")
def qmail(r: Reason) -> str:
    said = {
        "CONNECT": "Connected to 192.0.2.40 but greeting failed.",
        "MAIL FROM": "Connected to 192.0.2.40 but sender was rejected.",
        "DATA": "192.0.2.40 failed after I sent the message.",
    }.get(r.command, "192.0.2.40 does not like recipient.")
    return plain(
        head("MAILER-DAEMON@relay.example", "failure notice"),
        "Hi. This is the qmail-send program at relay.example.\nI'm afraid I wasn't able to deliver your"
        " message to the"
        " following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n"
        f"<{PERSON}>:\n{said}\nRemote host said: {r.reply}\nGiving up on 192.0.2.40.\n\n"
        f"--- Below this line is a copy of the message.\n\n{COPY}",
    )


@server("courier")
def courier(r: Reason) -> str:
    command = {"CONNECT": "", "MAIL FROM": f">>> MAIL FROM:<{SENDER}>\n", "DATA": ">>> DATA\n"}.get(
        r.command, f">>> RCPT TO:<{PERSON}>\n"
    )
    return dsn(
        head('"Courier mail server at relay.example" <@relay.example>', "NOTICE: mail delivery status."),
        "This is a delivery status notification from relay.example,\nrunning the Courier mail server,"
        " version 0.65.\n\n"
        "                             UNDELIVERABLE MAIL\n\nYour message to the following recipients"
        " cannot be"
        f" delivered:\n\n<{PERSON}>:\n    mx.person.example [192.0.2.40]:\n{command}<<< {r.reply}",
        f"Final-Recipient: rfc822; {PERSON}", "Action: failed", f"Status: {r.status}",
        f"Diagnostic-Code: smtp; {r.reply}",
    )  # fmt: skip


@server("opensmtpd")
def opensmtpd(r: Reason) -> str:
    return plain(
        head("Mailer Daemon <MAILER-DAEMON@relay.example>", "Delivery status notification: error",
             "Auto-Submitted: auto-replied"),
        "    Hi!\n\n    This is the MAILER-DAEMON, please DO NOT REPLY to this email.\n\n    An error has"
        " occurred while"
        " attempting to deliver a message for\n    the following list of recipients:\n\n"
        f"{PERSON}: {r.reply}\n\n    Below is a copy of the original message:\n\n{COPY}",
    )  # fmt: skip


@server("office 365")
def office_365(r: Reason) -> str:
    return dsn(
        head("Microsoft Outlook"
             " <MicrosoftExchange329e71ec88@person.example>", "Undeliverable: Two goals are due",
             "Auto-Submitted: auto-replied"),
        f"Delivery has failed to these recipients or groups:\n\n{PERSON}<mailto:{PERSON}>\nYour message"
        f" couldn't be"
        " delivered. Please try sending it again after checking what is written below.\n\nDiagnostic"
        " information for"
        f" administrators:\n\nGenerating server: EDGE1.mail.example\n\n{PERSON}\nRemote Server returned"
        f" '{r.reply}'\n",
        f"Final-Recipient: rfc822;{PERSON}", "Action: failed", f"Status: {r.status}",
        f"Diagnostic-Code: smtp;{r.reply}",
    )  # fmt: skip


@server("exchange 2007")
def exchange_2007(r: Reason) -> str:
    return plain(
        head("Microsoft Exchange <postmaster@corp.example>", "Undeliverable: Two goals are due", path=""),
        f"Delivery has failed to these recipients or distribution lists:\n\n{PERSON}\nThere was a problem."
        f" Microsoft"
        " Exchange will not try to redeliver this message for you.\n\nDiagnostic information for"
        " administrators:\n\n"
        f"Generating server: corp.example\n\n{PERSON}\n#{r.reply} ##\n\nOriginal message headers:\n\n{COPY}",
    )


@server("gmail, prose")
def gmail_prose(r: Reason) -> str:
    state = {"CONNECT": "", "MAIL FROM": " (state 12)", "DATA": " (state 18)"}.get(r.command, " (state 14)")
    after = {"CONNECT": "after initial connection ", "MAIL FROM": "in reply to MAIL FROM "}.get(r.command, "")
    return plain(
        head("Mail Delivery Subsystem"
             " <mailer-daemon@googlemail.com>", "Delivery Status Notification (Failure)",
             f"X-Failed-Recipients: {PERSON}"),
        f"Delivery to the following recipient failed permanently:\n\n     {PERSON}\n\nTechnical details of"
        f" permanent"
        " failure: \nGoogle tried to deliver your message, but it was rejected by the recipient domain. We"
        " recommend"
        " contacting the other email provider for further information about the cause of this error. The"
        " error that the"
        f" other server returned {after}was: {r.code} {r.reply}{state}.\n\n   ----- Original message"
        f" -----\n\n{COPY}",
    )  # fmt: skip


@server("yahoo")
def yahoo(r: Reason) -> str:
    command = {"CONNECT": "[CONNECT]", "MAIL FROM": "[MAIL_FROM]", "DATA": "[BODY]"}.get(
        r.command, "[RCPT_TO]"
    )
    greeting = "Greeting failed. in reply to connect: " if r.command == "CONNECT" else ""
    return plain(
        head("MAILER-DAEMON@yahoo.example", "Failure Notice", path=""),
        f"Sorry, we were unable to deliver your message to the following address.\n\n<{PERSON}>:\n{greeting}"
        f"Remote host said: {r.reply} {command}\n\n--- Below this line is a copy of the message.\n\n{COPY}",
    )


@server("zoho")
def zoho(r: Reason) -> str:
    command = {"CONNECT": "after initial connection", "MAIL FROM": "in reply to MAIL FROM command",
               "DATA": "in reply to end of DATA"}.get(r.command, "in reply to RCPT TO command")  # fmt: skip
    words = r.reply[4:]
    return plain(
        head("mailer-daemon@mail.zoho.example", "Undelivered Mail Returned to Sender"),
        "This message was created automatically by mail delivery software.\n A message that you sent could"
        " not be"
        f" delivered to one or more of its recipients. This is a permanent error.\n\n{PERSON} , ERROR_CODE"
        f" :{r.code},"
        f" ERROR_CODE :{words} ({command})\n\n--- The header of the original message is following."
        f" ---\n{COPY}",
    )


@server("gmx and web.de")
def gmx(r: Reason) -> str:
    command = {"CONNECT": "initial", "MAIL FROM": "MAIL FROM", "DATA": "TEXT"}.get(r.command, "RCPT TO")
    greeting = "SMTP error from remote server after initial connection" if command == "initial" else (
        f"SMTP error from remote server for {command} command")  # fmt: skip
    return plain(
        head(
            '"GMX Mailer Daemon" <mailer-daemon@gmx.example>',
            "Mail delivery failed: returning message to sender",
        ),
        "This message was created automatically by mail delivery software.\n\nA message that you sent"
        " could not be"
        " delivered to one or more of\nits recipients. This is a permanent error. The following"
        " address\nfailed:\n\n"
        f'"{PERSON}":\n{greeting}, host: mx.person.example (192.0.2.40)\nreason: {r.reply}\n\n'
        f"--- The header of the original message is following. ---\n\n{COPY}",
    )


@server("momentum")
def momentum(r: Reason) -> str:
    command = {"CONNECT": "(after initial connection)", "MAIL FROM": "(after MAIL FROM)",
               "DATA": "(after end of data)"}.get(r.command, "(after RCPT TO)")  # fmt: skip
    return plain(
        head("mailer-daemon@relay.example", "Mail Delivery Failure"),
        "This message was created automatically by the mail system (ecelerity).\n\nA message that you sent"
        " could not be"
        f" delivered to one or more of its\nrecipients. The following address(es) failed:\n\n>>> {PERSON}"
        f" {command}:"
        f" {r.reply}\n\n------ This is a copy of the headers of the original message. ------\n\n{COPY}",
    )


@server("domino")
def domino(r: Reason) -> str:
    return dsn(
        head("Mail Router <Mail_Router@notes.example>", "DELIVERY FAILURE: refused"),
        f"Your message\n\n  Subject: Two goals are due tomorrow\n\nwas not delivered to:\n\n "
        f" {PERSON}\n\nbecause:\n\n"
        f"  {r.reply}\n", f"Final-Recipient: rfc822;{PERSON}", "Action: failed", f"Status: {r.status}",
        f"Diagnostic-Code: X-Notes; {r.reply}",
    )  # fmt: skip


@server("mailmarshal")
def mailmarshal(r: Reason) -> str:
    return plain(
        head("Postmaster <postmaster@filter.example>", "Undeliverable Mail: Two goals are due", path=""),
        f"Your message:\n   From:    {SENDER}\n   To:      {PERSON}\n   Subject: Two goals are due"
        f" tomorrow\n\n"
        f"Could not be delivered because of\n\n{r.reply}\n\nThe following recipients were affected: \n   "
        f" {PERSON}\n\n",
    )


@server("interscan")
def interscan(r: Reason) -> str:
    command = {"MAIL FROM": f"MAIL FROM:<{SENDER}>", "DATA": "DATA"}.get(r.command, f"RCPT TO:<{PERSON}>")
    sent = "" if r.command == "CONNECT" else f"Sent >>> {command}\n"
    return plain(
        head("InterScan MSS <postmaster@filter.example>", "Mail could not be delivered", path=""),
        f"Could not deliver the mail. in reply to {'connect' if r.command == 'CONNECT' else r.command} it"
        f" was said:\n\n"
        f"{sent}Received <<< {r.reply}\n\nUnable to deliver message to <{PERSON}>.\n\n************* End of"
        f" message ***\n",
    )


@server("mcafee")
def mcafee(r: Reason) -> str:
    return dsn(
        head("McAfee <postmaster@filter.example>", "Delivery failure"),
        f"   --- The following addresses had delivery problems ---\n\n<{PERSON}>   ({r.reply})\n",
        f"Original-Recipient: <{PERSON}>", f"Final-Recipient: <{PERSON}>", "Action: failed",
        f"Diagnostic-Code: {r.reply}", "Remote-MTA: 192.0.2.40",
    )  # fmt: skip


@server("james")
def james(r: Reason) -> str:
    return plain(
        head("postmaster@james.example", "[BOUNCE] Two goals are due"),
        "Hi. This is the James mail server at james.example.\nI'm afraid I wasn't able to deliver your"
        " message to the"
        " following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out."
        " Below\nI include the"
        " list of recipients and the reason why I was unable to deliver\nyour message.\n\nError message"
        " below:\n"
        f"{r.reply}\n\nMessage details:\n  Subject: Two goals are due tomorrow\n  MAIL FROM: {SENDER}\n"
        f"  RCPT TO: {PERSON}\n",
    )


@server("messaging server")
def messaging_server(r: Reason) -> str:
    return dsn(
        head("Internet Mail Delivery <postmaster@jes.example>", "Delivery Notification: Delivery has failed"),
        "This report relates to a message you sent with the following header fields:\n\n  Message-id:"
        " <0a1b2c3d@dash.example>\n  From: Dashboard <reminders@dash.example>\n\nYour message cannot be"
        " delivered to"
        f" the following recipients:\n\n  Recipient address: {PERSON}\n  Reason: Remote SMTP server has"
        f" rejected"
        f" address\n  Diagnostic code: smtp;{r.reply}\n", f"Original-recipient: rfc822;{PERSON}",
        f"Final-recipient: rfc822;{PERSON}", "Action: failed", f"Status: {r.status}",
        f"Diagnostic-code: smtp;{r.reply}",
    )  # fmt: skip


@server("html only")
def html_only(r: Reason) -> str:
    header = head("Mail Delivery System <postmaster@web.example>", "Undeliverable: Two goals are due")
    said = r.reply.replace("<", "&lt;").replace(">", "&gt;")
    return (
        f"{header}Content-Type: text/html; charset=utf-8\n\n<html><head><style>p"
        f" {{color: #550000}}</style></head><body>"
        f"<p>Your message could not be delivered to</p><p>{PERSON}</p><p>The server said:"
        f" {said}</p></body></html>\n"
    )


def corpus() -> Iterator[tuple[str, bytes, str, bool]]:
    """(name, mail, about, at once) of each server and each reason that its format can tell."""
    for name, form in SERVERS.items():
        for reason in REASONS:
            yield f"{name}: {reason.name}", form(reason).encode(), reason.about, reason.at_once
