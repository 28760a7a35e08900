"""The reasons for not sending a message (spec: eligibility)."""

from enum import StrEnum


class Reason(StrEnum):
    """A stored, countable reason for not sending."""

    INACTIVE_ACCOUNT = "inactive_account"
    NO_EMAIL = "no_email"
    SUPPRESSED_ADDRESS = "suppressed_address"
    PREF_EMAIL_OFF = "pref_email_off"
    PREF_CATEGORY_OFF = "pref_category_off"
    PAUSED_UNTIL = "paused_until"
    TOO_NEW = "too_new"
    NOT_DUE = "not_due"
    NO_CONTENT = "no_content"
    QUIET_HOURS = "quiet_hours"
    CAP_DAILY = "cap_daily"
    CAP_WEEKLY = "cap_weekly"
    SUPERSEDED_BY = "superseded_by"
    ALREADY_SENT = "already_sent"
    STALE = "stale"
    REVALIDATED_AWAY = "revalidated_away"
    SUPERSEDED = "superseded"
    """It was decided again before sending: another message takes its place."""
    TZ_CHANGE = "tz_change"
    """The person is in a zone now where the slot is at another time: that slot decides."""
    ADDRESS_NEEDS_SMTPUTF8 = "address_needs_smtputf8"
    """The part before the @ is international, and the mail server does not take such addresses."""
    HISTORIC = "historic"
    SCHEMA_UNKNOWN = "schema_unknown"
    USER_ERROR = "user_error"
    """Deciding for this user failed; the run is partial and the traceback is stored."""
