"""Samples of the mail about goals at rest."""

from service.messages.kind import Sample
from service.messages.mail.sample_goals import BOOKS, GARDEN, SOMEDAY, TODAY, goal_ids

SAMPLES = (
    Sample("one", {"local_date": TODAY, "goals": [SOMEDAY], "more": 0, "goal_ids": goal_ids([SOMEDAY])}),
    Sample(
        "several",
        {
            "local_date": TODAY,
            "goals": [BOOKS, GARDEN, SOMEDAY],
            "more": 2,
            "goal_ids": goal_ids([BOOKS, GARDEN, SOMEDAY]),
        },
    ),
)
