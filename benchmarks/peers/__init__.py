"""Other senders of mail, for comparison: each is installed into a folder of its own, or left out by name.

All get the same people, the same words (a mail of goalDeadlines of this service, as a template of theirs),
the same PostgreSQL and the same mail server. They are told whom to write to; they ask no dashboard.
"""
