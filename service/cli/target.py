"""The address and token of the service to call: from ``--url``, the environment, or a file."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from service.cli.exit_codes import CommandError, Exit

TOKENS = ("JOBS_TOKEN", "ADMIN_TOKEN")
"""Environment variables for the token, the first that is set wins; with ``_FILE`` they name a file."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running service. ``repr`` does not show the token."""

    url: str
    token: str = field(default="", repr=False)
    token_from: str = ""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """The options as given, not validated. ``url`` is empty for a local command."""

    url: str
    source: str
    """``--url`` or ``JOBS_URL``."""
    token_file: Path | None

    def resolve(self) -> Target:
        """Validate the URL and read the token. Raises CommandError."""
        return Target(base_url(self.url, self.source), *_token(self.token_file, os.environ))


def parse_target(arguments: Sequence[str]) -> tuple[TargetOptions, list[str]]:
    """The target options, and the remaining arguments. Raises CommandError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--url", default=None)
    parser.add_argument("--token-file", type=Path, default=None)
    if any(word == "--token" or word.startswith("--token=") for word in arguments):
        raise CommandError(
            "a token on the command line can be seen by others: set JOBS_TOKEN or use --token-file",
            Exit.WRONG_USE,
        )
    try:
        options, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise CommandError(f"{error.argument_name}: {error.message}", Exit.WRONG_USE) from None
    if options.url is None:
        return TargetOptions(os.environ.get("JOBS_URL", ""), "JOBS_URL", options.token_file), rest
    return TargetOptions(options.url, "--url", options.token_file), rest


def base_url(url: str, source: str) -> str:
    """The URL without a trailing slash. Raises CommandError if it is invalid."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CommandError(
            f"{source} {url!r} is not an address; use one like https://jobs.example.org", Exit.WRONG_USE
        )
    if parts.username or parts.password:
        raise CommandError(
            f"{source} holds a name or password; the token comes from JOBS_TOKEN", Exit.WRONG_USE
        )
    if parts.query or parts.fragment:
        raise CommandError(
            f"{source} {url!r} ends in a query; name the service's own address", Exit.WRONG_USE
        )
    return url.rstrip("/")


def _token(file: Path | None, environment: Mapping[str, str]) -> tuple[str, str]:
    if file is not None:
        return _read(file, "--token-file"), f"--token-file {file}"
    for name in TOKENS:
        if value := environment.get(name):
            return _usable(value, name), name
        if path := environment.get(f"{name}_FILE"):
            return _read(Path(path), f"{name}_FILE"), f"{name}_FILE"
    return "", ""


def _read(file: Path, name: str) -> str:
    try:
        return _usable(file.read_text("utf-8-sig"), name)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(f"{name}: cannot read {file}: {reason}", Exit.WRONG_USE) from None


def _usable(text: str, name: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError(f"{name}: there is no token in it: one word of ASCII is expected", Exit.WRONG_USE)
    return token
