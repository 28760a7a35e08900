"""Replies that differ in what is about one mail only have one fingerprint."""

import pytest

from service.messages.mail.reply_fingerprint import fingerprint


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (550, "5.7.1 <ann@example.org>: Blocked", "550 5.7.1 blocked"),
        (550, "5.7.1 Blocked, see https://lists.example/?ip=192.0.2.7", "550 5.7.1 blocked see"),
        (554, "5.7.1 Service refused [192.0.2.7] by mx1.example.org", "554 5.7.1 service refused by"),
        (451, "4.7.0 queue 4F3Q2abc17, try in 12345 s", "451 4.7.0 queue try in s"),
        (452, "4.2.2 over quota of 100 MB", "452 4.2.2 over quota of 100 mb"),
        (None, "connection reset", "connection reset"),
    ],
)
def test_what_differs_from_mail_to_mail_is_taken_out(code: int | None, text: str, expected: str) -> None:
    assert fingerprint(code, text) == expected


def test_long_replies_are_cut() -> None:
    assert len(fingerprint(550, "word " * 500)) == 160
