"""Samples of the break reminder."""

from service.messages.kind import Sample
from service.messages.mail.sample_goals import TODAY

SAMPLES = (
    Sample(
        "break",
        {
            "variant": "break",
            "focused_seconds": 50 * 60,
            "number": 1,
            "local_date": TODAY,
            "break_minutes": 5,
            "session_ids": ["s1"],
            "url_path": "/timer",
        },
    ),
)
