"""Reports as Amazon SES and Postmark send them."""

from typing import Any

_NO_USER = {"status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 <ann@example.org>: user unknown"}


def ses_bounce(
    source: str, to: str = "ann@example.org", type_: str = "Permanent", **said: str
) -> dict[str, Any]:
    recipient = {"emailAddress": to, "action": "failed", **(said or _NO_USER)}
    return {
        "notificationType": "Bounce",
        "bounce": {
            "bounceType": type_,
            "bounceSubType": "General",
            "bouncedRecipients": [recipient],
            "timestamp": "2026-03-10T08:04:00.000Z",
        },
        "mail": {"source": source, "timestamp": "2026-03-10T08:00:00.000Z", "destination": [to]},
    }


def ses_complaint(source: str, type_: str | None = "abuse") -> dict[str, Any]:
    complaint = {
        "complainedRecipients": [{"emailAddress": "ann@example.org"}],
        "complaintFeedbackType": type_,
        "timestamp": "2026-03-10T09:00:00.000Z",
    }
    return {"eventType": "Complaint", "complaint": complaint, "mail": {"source": source}}


def postmark_bounce(type_: str = "HardBounce", **changes: Any) -> dict[str, Any]:
    return {
        "RecordType": "SpamComplaint" if type_ == "SpamComplaint" else "Bounce",
        "MessageStream": "outbound",
        "ID": 4323372036854775807,
        "Type": type_,
        "Name": "Hard bounce",
        "Description": "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
        "Details": "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
        "Email": "ann@example.org",
        "From": "hello@example.org",
        "BouncedAt": "2026-03-10T08:00:05Z",
        **changes,
    }


def postmark_change(*, suppressed: bool, reason: str | None = "ManualSuppression") -> dict[str, Any]:
    return {
        "RecordType": "SubscriptionChange",
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "ServerID": 123456,
        "MessageStream": "outbound",
        "ChangedAt": "2026-03-10T09:00:00Z",
        "Recipient": "Ann@example.org",
        "Origin": "Recipient" if suppressed else "Customer",
        "SuppressSending": suppressed,
        "SuppressionReason": reason if suppressed else None,
        "Tag": "",
        "Metadata": {},
    }
