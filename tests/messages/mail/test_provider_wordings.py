"""What large providers and common servers say, on the wire and in a report: whom it is about."""

import pytest

from service.messages.mail.report_verdict import judge_report
from service.messages.mail.smtp_reply import About, ReplyVerdict, judge
from service.messages.mail.transport import SmtpPhase

# The reply to RCPT or, marked ".", to the final dot; what it is about, "!": suppressed at once.
WORDINGS = [
    # Gmail and Google Workspace
    ("550 5.1.1 The email account that you tried to reach does not exist. Please try"
     " double-checking", "address!"),
    ("550 5.2.1 The email account that you tried to reach is inactive.", "mailbox"),
    ("552 5.2.2 The recipient's inbox is out of storage space.", "mailbox"),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly.", "mailbox"),
    (".550 5.7.1 [192.0.2.17 12] Our system has detected that this message is likely unsolicited"
     " mail.", "us"),
    (".550 5.7.26 This mail is unauthenticated, which poses a security risk", "us"),
    (".421 4.7.0 [192.0.2.17 15] Our system has detected an unusual rate of unsolicited mail", "way"),
    (".550 5.7.25 The IP address sending this message does not have a PTR record setup", "us"),
    # Outlook.com, Exchange, Office 365
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [EDGE1.mail.example]", "address"),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "address!"),
    ("550 5.1.1 RESOLVER.ADR.RecipNotFound; not found", "address!"),
    ("550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found", "address!"),
    ("550 5.1.351 Remote server returned unknown recipient or mailbox unavailable", "address"),
    ("550 5.4.310 DNS domain person.example does not exist [Message=InfoDomainNonexistent]", "address"),
    ("550 5.4.316 Message expired, connection refused(Socket error code 10061)", "way"),
    ("550 5.4.14 Hop count exceeded - possible mail loop ATTR34", "way"),
    ("550 5.7.124 Sender not in allowed-senders list", "us"),
    ("550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required", "us"),
    ("550 5.7.1 RESOLVER.RST.NotAuthorized; not authorized", "us"),
    ("550 5.1.1 RESOLVER.RST.RecipSizeLimit; message too large for this recipient", "us"),
    ("554 5.2.2 mailbox full;"
     " STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded", "mailbox"),
    ("550 5.2.2 STOREDRV.Deliver; mailbox full. The recipient's mailbox exceeds its limit", "mailbox"),
    ("550 5.7.1 Unfortunately, messages from [192.0.2.17] weren't sent. Please contact your provider"
     " (S3150).", "us"),
    ("550 SC-001 (BAY1) Unfortunately, messages from 192.0.2.17 weren't sent.", "us"),
    ("550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP", "us"),
    ("550 5.7.1 Unable to relay", "us"),
    # Yahoo and AOL
    ("554 delivery error: dd This user doesn't have a yahoo.example account (pat@person.example)"
     " [0]", "address"),
    ("554 delivery error: dd Sorry your message to pat@person.example cannot be delivered. This account"
     " has been"
     " disabled or discontinued [#102]. - mta4.example", "mailbox"),
    ("552 1 Requested mail action aborted, mailbox not found", "address"),
    (".554 Message not allowed - [PH01] Email not accepted for policy reasons", "us"),
    (".553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.17, because the ip is in the"
     " list", "us"),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.17 temporarily deferred", "way"),
    ("550 5.1.1 <pat@person.example>: Recipient address rejected: person.example", "address!"),
    # Apple, Comcast, Cox, Verizon
    ("550 5.1.1 <pat@person.example>: user lookup success but no user record found", "address!"),
    ("552 5.2.2 <pat@person.example>: user is over quota", "mailbox"),
    (".550 5.7.1 [CS01] Message rejected due to local policy", "us"),
    (".554 5.7.1 [HM08] Message rejected due to local policy", "us"),
    ("550 5.1.1 Not our Customer", "address!"),
    ("554 192.0.2.17 Comcast block for spam. BL000001", "us"),
    ("550 5.1.0 <pat@person.example> recipient rejected (address unknown)", "address"),
    (".550 5.1.0 sender rejected. AUP#I-1010", "us"),
    # mail.ru, Yandex
    ("550 Message was not accepted -- invalid mailbox. Local mailbox pat@person.example is unavailable:"
     " user not found", "address"),
    ("550 5.7.1 No such user!", "us"),
    ("550 5.1.1 No such user!", "address!"),
    (".550 spam message discarded/rejected", "us"),
    (".554 5.7.1 Message rejected under suspicion of SPAM; 1:2", "us"),
    ("552 5.2.2 Mailbox size limit exceeded", "mailbox"),
    ("550 That mailbox is disabled", "mailbox"),
    # GMX, web.de, T-Online, Orange, Free
    ("550 Requested action not taken: mailbox unavailable (e.g., mailbox not found)", "address"),
    ("554 No SMTP service Bad DNS PTR resource record.", "us"),
    (".554 Transaction failed Reject due to policy restrictions.", "us"),
    (".550 Requested action not taken: mailbox unavailable Reject due to SPF policy.", "us"),
    ("554 IP=192.0.2.17 - A problem occurred. (Ask your postmaster for help or to contact"
     " tosa@rx.example)", "us"),
    ("550 5.2.1 Boite du destinataire archivee. Archived recipient OFR_417 [417]", "mailbox"),
    ("550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]", "address!"),
    ("550 5.5.0 Mail rejete. Mail rejected. OFR506_506 [506]", "us"),
    (".550 spam detected", "us"),
    # QQ, 163, Zoho, Proton, Fastmail
    ("550 Mailbox not found. http://service.mail.example/cgi-bin/help?id=20022", "address"),
    ("550 Mail content denied. http://service.mail.example/cgi-bin/help?id=20022", "us"),
    ("550 User not found: pat@person.example", "address"),
    (".554 DT:SPM 163 smtp1,C8CowADXc, please see the page on spam", "us"),
    ("550 MI:NVD 163 user is not exist", "address|us"),
    ("550 5.1.1 <pat@person.example>: Recipient address rejected: Address does not exist", "address!"),
    ("550 5.1.1 User does not exist - <pat@person.example>", "address!"),
    ("550 #5.1.0 Address rejected.", "address"),
    # Facebook, Amazon, SendGrid
    ("550 5.1.1 RCP-P1 https://postmaster.social.example/response_codes?ip=192.0.2.17#rcp", "address!"),
    ("550 5.1.1 RCP-P2 https://postmaster.social.example/response_codes?ip=192.0.2.17#rcp", "us"),
    ("550 5.1.1 Amazon SES did not send the message to this address because it is on the suppression"
     " list", "mailbox"),
    ("454 4.7.0 Throttling failure: Maximum sending rate exceeded.", "way"),
    ("554 5.7.1 Message rejected: Email address is not verified.", "us"),
    # filters and lists
    ("554 5.7.1 Service unavailable; Client host [192.0.2.17] blocked using zen.spamhaus.example", "us"),
    ("550 5.7.1 Service unavailable; client blocked using Spamhaus XBL", "us"),
    ("550 Denied by Mimecast: envelope blocked - User Entry", "us"),
    ("554 Blocked - see https://ipcheck.filter.example/?ip=192.0.2.17", "us"),
    ("550 rejected because 192.0.2.17 is in a black list at b.barracudacentral.example", "us"),
    ("550 permanent failure for one or more recipients (pat@person.example:blocked)", "us"),
    ("550 Rejected by SpamAssassin milter, score 12.2", "us"),
    (".554 5.7.1 Gtube pattern", "us"),
    ("550 5.1.1 SPF check failed for dash.example", "us"),
    ("550 mail from a dynamic IP range is not taken here", "us"),
    ("550 High probability of spam", "us"),
    ("550 Too many invalid recipients", "us"),
    ("550 Denied", "us"),
    ("550 hostname invalid; unknown host", "us"),
    ("550 Your email address does not exist in our list", "us"),
    ("550 no mailbox for pat@person.example", "address"),
    ("550 Recipient is not on the whitelist", "us"),
    ("553 The From address does not exist", "us"),
    ("553 Mail from domain must exist", "us"),
    ("550 Your domain does not exist", "us"),
    ("550 The recipient only accepts mail from known senders", "us"),
    ("553 Recipient's domain must exist", "address"),
    ("553 Invalid/inactive user", "mailbox"),
    ("550 Protocol violation: the HELO is no host name", "us"),
    # Postfix
    ("550 5.1.1 <pat@person.example>: Recipient address rejected: User unknown in virtual mailbox"
     " table", "address!"),
    ("450 4.1.1 <pat@person.example>: Recipient address rejected: unverified address", "way"),
    ("550 5.1.1 <pat@person.example>: Recipient address rejected: undeliverable address: mail for it"
     " loops", "way"),
    ("550 5.7.1 <pat@person.example>: Recipient address rejected: Please see our policy", "us"),
    ("554 5.7.1 <unknown[192.0.2.17]>: Client host rejected: Access denied", "us"),
    ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "us"),
    ("553 5.1.8 <bounce@dash.example>: Sender address rejected: Domain not found", "us"),
    ("552 5.3.4 Message size exceeds fixed limit", "us"),
    # Exim
    ("550-Callout verification failed:\n550 550 5.1.1 User unknown", "address!"),
    ("550 Unknown user", "address"),
    ("550 Sender verify failed", "us"),
    ("550 Administrative prohibition", "us"),
    ("550 relay not permitted", "us"),
    ("550 Rejected because 192.0.2.17 is in a black list", "us"),
    # sendmail, qmail, Courier, OpenSMTPD, Domino, IronPort
    ("550 5.1.1 <pat@person.example>... User unknown", "address!"),
    ("550 5.1.2 <pat@nowhere.example>... Host unknown (Name server: nowhere.example: host not"
     " found)", "address!"),
    ("550 5.7.1 <pat@person.example>... Relaying denied. Proper authentication required.", "us"),
    ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "us"),
    ("553 sorry, your envelope recipient is in my badrcptto list (#5.7.1)", "us"),
    ("550 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "address"),
    ("552 sorry, that message size exceeds my databytes limit (#5.3.4)", "us"),
    ("511 sorry, no mailbox here by that name (#5.1.1)", "address!"),
    ("550 Invalid recipient: <pat@person.example>", "address"),
    ("550 pat@person.example... No such user", "address"),
    ("550 5.1.1 unknown or illegal alias: pat@person.example", "address!"),
    ("554 5.3.2 System is not accepting network messages", "way"),
    ("550 5.2.0 mail system full", "mailbox"),
    ("554 5.5.1 Error: no valid recipients", "us"),
]  # fmt: skip


def _case(row: tuple[str, str]) -> tuple[SmtpPhase, int, str]:
    text, _ = row
    phase = SmtpPhase.DOT if text.startswith(".") else SmtpPhase.RCPT
    text = text.removeprefix(".")
    code = int(text[:3])
    return (
        phase,
        code,
        "\n".join(line.removeprefix(f"{code}-").removeprefix(f"{code} ") for line in text.split("\n")),
    )


@pytest.mark.parametrize("row", WORDINGS, ids=[text[:60] for text, _ in WORDINGS])
def test_what_it_is_about(row: tuple[str, str]) -> None:
    phase, code, text = _case(row)
    verdict = judge(phase, code, text)
    assert verdict.about in row[1].rstrip("!").split("|")
    assert verdict.at_once is row[1].endswith("!")


@pytest.mark.parametrize("row", WORDINGS, ids=[text[:60] for text, _ in WORDINGS])
def test_a_report_that_quotes_it_is_judged_alike(row: tuple[str, str]) -> None:
    """Whether it quotes the phase or not; what it adds never makes it worse for the address."""
    text = row[0].removeprefix(".")
    command = "end of DATA" if row[0].startswith(".") else "RCPT TO"
    assert judge_report("5.0.0", f"{text} (in reply to {command} command)").about in row[1].rstrip("!").split(
        "|"
    )
    alone: ReplyVerdict = judge_report(None, text)
    assert alone.about is not About.ADDRESS or row[1].startswith(("address", "us|address"))
