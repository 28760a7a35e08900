"""An SMTP server that takes every mail, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def mail_server() -> Iterator[int]:
    """Run it; yields its port on 127.0.0.1."""
    smtp = subprocess.Popen(
        [sys.executable, "-m", "tests.smtp_server", "--log", os.devnull],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert smtp.stdout is not None
        yield int(smtp.stdout.readline())
    finally:
        smtp.kill()
        smtp.wait()
