"""What a mail costs before it leaves: ``python -m benchmarks.mail_cost [repetitions]``.

Prints, for the first sample of each template, µs for the three texts, for the whole message, and for the
message with an Ed25519 and an RSA-2048 signature; each the median of several rounds in one process. Then a
mixed run: mails per second of all six through outbox, delivery and SMTP, and their ratio to the bare rate of
ready-made bytes over the same pool (see mixed_run). Ratios are what counts.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from benchmarks.mixed_run import mixed
from service import log
from service.jobs import all_jobs
from service.messages.mail.compose import Composer, Email
from service.messages.mail.dkim import DkimSigner
from service.messages.mail.render import RenderedMail
from service.messages.mail.sample_goals import RECIPIENT
from tests.kinds import KINDS
from tests.samples import MailSample, samples_of

SAMPLES = samples_of(all_jobs())

_AT = datetime(2026, 3, 10, 8, tzinfo=UTC)
_ROUNDS = 7
_MIXED = 6_000


def composer(key: PrivateKeyTypes | None) -> Composer:
    """One that signs with a key, or not at all."""
    signer = DkimSigner.from_pem(_pem(key), "example.org", "s1") if key else None
    return Composer(
        "https://dashboard.example.org",
        "https://jobs.example.org",
        "D <hello@example.org>",
        KINDS.values(),
        signer=signer,
    )


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def letter(sample: MailSample) -> Email:
    """The sample, addressed."""
    return Email(
        template=sample.template,
        facts=sample.facts,
        recipient_name=RECIPIENT,
        address="ada@example.net",
        message_id="5d41402abc4b2a76b9719d911017c592@example.org",
        message_date=_AT,
        token="Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr",
        job=sample.job,
    )


def render(made: Composer, mail: Email) -> RenderedMail:
    """Subject, text and HTML alone."""
    links = made.links(mail.token)
    return made.render(mail.template, mail.facts, locale="en", name=RECIPIENT, links=links)


def cost(work: Callable[[], object], times: int) -> float:
    """µs for one call: the median of rounds of so many calls."""
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(rounds)


def main() -> None:
    """Measure each template once and print a table; then the mixed run."""
    log.configure("error", json=True)
    times = int(sys.argv[1]) if sys.argv[1:] else 200
    makers = {
        "message": composer(None),
        "+Ed25519": composer(ed25519.Ed25519PrivateKey.generate()),
        "+RSA": composer(rsa.generate_private_key(65537, 2048)),
    }
    print("".join(f"{head:>10}" for head in ("kB", "render", *makers, "RSA/none")), " µs per mail")
    plain = makers["message"]
    for template in dict.fromkeys(sample.template for sample in SAMPLES):
        mail = letter(next(sample for sample in SAMPLES if sample.template == template))
        texts = cost(partial(render, plain, mail), times)
        whole = [cost(partial(made.compose, mail), times) for made in makers.values()]
        size = len(plain.compose(mail)) / 1000
        told = "".join(f"{value:>10.0f}" for value in (texts, *whole))
        print(f"{size:>10.1f}{told}{whole[-1] / whole[0]:>10.1f}  {template}", flush=True)
    with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
        sent, bare = runner.run(mixed(_MIXED, plain))
    print(
        f"mixed run of {_MIXED:,} unsigned mails: {sent:,.0f} mails/s, bare SMTP {bare:,.0f} mails/s, ",
        end="",
    )
    print(f"ratio {sent / bare:.2f}", flush=True)


if __name__ == "__main__":
    main()
