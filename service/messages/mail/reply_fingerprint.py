"""Whether two replies say the same: their words without what differs from mail to mail."""

import re
from functools import lru_cache

from service.messages.mail.report_verdict import quoted_reply

_LONGEST = 160
_DIFFERS = re.compile(
    r"""https?://\S+                                 # links
      | <[^>\s]*>|\S+@\S+                            # addresses
      | \b(?:\d{1,3}\.){3}\d{1,3}\b|\[[^\]]*:[^\]]*\]  # IP addresses
      | \b(?:[a-z0-9_-]+\.)+[a-z]{2,}\b              # host names
      | \b(?=\w*\d)[0-9a-z_-]{5,}\b                  # queue ids
      | \d{4,}                                       # times, sizes
    """,
    re.IGNORECASE | re.VERBOSE,
)
_WORD = re.compile(r"\w+(?:\.\w+)*")


@lru_cache(maxsize=64)
def fingerprint(code: int | None, text: str) -> str:
    """The code and the words of a reply, without addresses, hosts, links, ids and numbers over three digits.

    The enhanced code stays. At most 160 characters.
    """
    words = _WORD.findall(_DIFFERS.sub(" ", text.lower()))
    return " ".join([str(code or ""), *words]).strip()[:_LONGEST]


def fingerprint_of_report(text: str) -> str:
    """The same of the reply that a report quotes, or of the whole text if it quotes none."""
    return fingerprint(*quoted_reply(text))
