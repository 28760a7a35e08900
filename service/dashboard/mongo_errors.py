"""Errors of the MongoDB driver as sentences: what is wrong, and the remedy. No value of the URL is quoted."""

import re
from collections.abc import Iterator

from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from service import connection_errors

_AUTHENTICATION = {18, 11, 8000}  # AuthenticationFailed, UserNotFound, the refusal of a hosted MongoDB
_UNAUTHORISED = 13
_ON_VIEW = {166, 168}  # CommandNotSupportedOnView; an option that an aggregation does not have
_TOO_LONG = {50, 262}
_NOT_ALLOWED = re.compile(
    r'not authorized on (?P<database>\S+) to execute command \{ (?P<command>\w+): "?(?P<name>[^",}]*)'
)
_VIEW = re.compile(r"namespace (?P<name>\S+) is a view", re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<address>[\w.\-\[\]:]+:\d{1,5}): ")
_NEXT_SERVER = re.compile(r",(?=[\w.\-\[\]:]+:\d{1,5}: )")
_TIMEOUTS = re.compile(r" \(configured timeouts[^)]*\)")
_CA_FILE = "DASHBOARD_CA_FILE"


def describe(error: BaseException) -> str:
    """An error of the driver in a sentence, for health, logs and the command line."""
    if isinstance(error, OperationFailure):
        return f"DASHBOARD_URL: MongoDB {_refusal(error)}"
    if isinstance(error, ConfigurationError) and "DNS" in str(error):
        return f"DASHBOARD_URL: MongoDB {connection_errors.reason('no address associated', _CA_FILE)}"
    if isinstance(error, (PyMongoError, OSError)):
        return f"DASHBOARD_URL: MongoDB {'; '.join(dict.fromkeys(_unreachable(error)))}"
    return f"DASHBOARD_URL: MongoDB sent a document that cannot be read ({type(error).__name__})"


def _refusal(error: OperationFailure) -> str:
    message = str((error.details or {}).get("errmsg", ""))
    if error.code in _AUTHENTICATION:
        return (
            "refuses the user or the password; check both, and end the URL with ?authSource=admin if the user"
            " is stored in that database"
        )
    if error.code == _UNAUTHORISED:
        return _missing_role(message)
    if error.code in _ON_VIEW:
        match = _VIEW.search(message)
        view = f"{match['name']} is a view" if match else "the collection is a view"
        return f"cannot do this: {view}; let the mapping name the collection behind it"
    if error.code in _TOO_LONG:
        return "gave a query up because it took too long; look for load, or a missing index, there"
    return f"refuses a command ({error.__class__.__name__}, code {error.code})"


def _missing_role(message: str) -> str:
    if "requires authentication" in message:
        return (
            "wants a user and a password, and the URL names none; write mongodb://user:password@host/database"
        )
    if (match := _NOT_ALLOWED.search(message)) is None:
        return "does not allow this to the user of the URL; grant it the role read"
    target = (
        match["name"] if match["command"] in {"find", "aggregate", "count", "distinct", "listIndexes"} else ""
    )
    allowed = f"read {target}" if target else f"do {match['command']}"
    grant = f"grant it the role read on the database {match['database']}"
    return f"does not let the user of the URL {allowed}; {grant}"


def _unreachable(error: BaseException) -> Iterator[str]:
    """A reason for each server, with its address; the driver's message joins theirs with commas."""
    message = str(error)
    if "replica set name" in message:
        yield "has no member of the replica set that the URL names; correct replicaSet, or leave it out"
        return
    if "no primary" in message.lower():
        yield "has no primary at the moment; wait for its election, or check its members"
        return
    message = _TIMEOUTS.sub("", message.partition(", Timeout: ")[0])
    for part in _NEXT_SERVER.split(message):
        yield f"{_place(part)}{_reason(part, type(error).__name__)}"


def _place(message: str) -> str:
    match = _ADDRESS.search(message)
    return f"at {match['address']} " if match else ""


def _reason(text: str, name: str) -> str:
    if "connection closed" in text:  # what a server that demands TLS does to a client without it
        return "closes the connection at once; if it demands TLS, add tls=true to the URL, else read its log"
    return connection_errors.reason(text, _CA_FILE) or f"does not answer as a MongoDB does ({name})"
