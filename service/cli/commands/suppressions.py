"""Commands for addresses that are not written to, and for complaints."""

from typing import Any

from service.cli import answers
from service.cli.arguments import body, day, path, positive_integer, query
from service.cli.commands.command import BEFORE, Command
from service.cli.tables import Block, FieldList, Row, TextTable, ident, name, number, prose, text, time

_SUPPRESSION = path("id", "its number; suppressions list shows it", positive_integer)


def _address(row: Row) -> str:
    return row["address"] or "(erased)"


def _complaint_rate(row: Row) -> str:
    """In percent, to the hundredth: what matters is a tenth."""
    return f"{100 * row['rate']:.2f} %"


def _suppression(answer: Any) -> list[Block]:
    """A suppression and what led to it."""
    row = answer["data"]
    head = FieldList(
        (ident("id"), name("address", _address), text("reason"), time("since"), time("until"),
         prose("detail"), prose("accounts", lambda one: ", ".join(one["users"]))),
        row,
    )  # fmt: skip
    columns = (
        ident("message", "deliveryId"), time("at"), name("kind"), text("state"), text("counts", "counted"),
        number("code", "smtpCode"), prose("said"),
    )  # fmt: skip
    return [head, TextTable(columns, row["evidence"], "Replies and reports", "none is stored")]


COMMANDS = (
    Command(
        "suppressions list", "getSuppressions", "GET", "/api/admin/suppressions",
        "addresses that are not written to, newest first", "suppressions list --reason complaint",
        answers.table(
            ident("id"), name("address", _address), text("reason"), time("since"),
            time("until"), prose("detail"), empty="no address is suppressed",
        ),
        (
            query("--address", "how it begins; of somebody who was erased the whole address"),
            query("--reason", "only this reason, for example hard_bounce, complaint or mailbox_rest"),
            query("--from", "first date, UTC", day), query("--to", "last date, UTC", day), *BEFORE,
        ),
        pages="before",
    ),
    Command(
        "suppressions show", "getSuppression", "GET", "/api/admin/suppressions/{id}",
        "one of them, with the replies and reports that led to it", "suppressions show 7",
        _suppression, (_SUPPRESSION,),
    ),
    Command(
        "suppressions lift", "liftSuppression", "POST", "/api/admin/suppressions/{id}/lift",
        "write to the address again", 'suppressions lift 7 --reason "the mailbox was made anew"',
        answers.sentence("The address is written to again."),
        (
            _SUPPRESSION,
            body("--reason", "why, for those who wonder", required=True),
            body("--person-asked", "the person asked for mail again; a complaint is lifted only then",
                 field="personAsked", const=True),
            body("--same-words", "also to all of whom the server said the same; for words that are about us",
                 field="sameWords", const=True),
        ),
    ),
    Command(
        "complaints", "getComplaints", "GET", "/api/admin/complaints",
        "how many mails of 30 days were reported as spam, by kind and domain", "complaints",
        answers.table(
            name("kind"), name("domain"), number("sent"), number("complaints"),
            text("rate", _complaint_rate), empty="no mail was sent within 30 days",
        ),
    ),
)  # fmt: skip
