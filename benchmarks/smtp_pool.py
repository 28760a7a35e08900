"""Ready bytes through the SMTP pool: ``python -m benchmarks.smtp_pool [mails [connections]]``.

So many mails (20,000) of 17 kB over so many connections (8) to a recording server in a process of its own;
their dots are granted at once, or in groups, one turn of the event loop later: mails per second, and
microseconds of this process's CPU for each. Medians of three; machines differ.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterable

from benchmarks.mail_server import mail_server
from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase

_CONTENT = (
    b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\n" + b"a line of text that is 38 bytes long\r\n" * 450
)


class ReadyMails:
    """A queue of ready mails. ``grouped``: dots are granted together, a turn of the event loop later."""

    def __init__(self, mails: Iterable[Envelope], *, grouped: bool = False) -> None:
        self._mails = iter(mails)
        self._grouped = grouped
        self._requests: list[Callable[[bool], None]] = []
        self._out = 0
        self.answers = 0
        self.done = asyncio.Event()

    def next(self) -> Envelope | None:
        mail = next(self._mails, None)
        self._out += mail is not None
        return mail

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        if not self._grouped:
            granted(True)
            return
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._grant)
        self._requests.append(granted)

    def _grant(self) -> None:
        requests, self._requests = self._requests, []
        for granted in requests:
            granted(True)

    def answered(self, result: SendResult) -> None:
        assert result.accepted, result
        self.answers += 1
        if self.answers == self._out:  # the next mail is pulled before this one is answered
            self.done.set()

    def give_back(self, envelope: Envelope) -> None:
        raise AssertionError(envelope)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        raise AssertionError(phase, code, reply)


async def send_ready(transport: SmtpPool, mails: Iterable[Envelope], *, grouped: bool = False) -> float:
    """Send them; mails per second."""
    queue = ReadyMails(mails, grouped=grouped)
    began = time.perf_counter()
    transport.start(queue)
    transport.wake()
    await queue.done.wait()
    return queue.answers / (time.perf_counter() - began)


async def _measure(port: int, count: int, connections: int, *, grouped: bool) -> tuple[float, float]:
    """Mails per second, and microseconds of CPU for each."""
    pool = SmtpPool(SmtpConfig("127.0.0.1", port, "none", connections=connections), SystemClock())
    cpu = time.process_time()
    mails = (Envelope(n, "a@example.org", f"b{n}@example.org", _CONTENT) for n in range(count))
    rate = await send_ready(pool, mails, grouped=grouped)
    cpu = time.process_time() - cpu
    await pool.close()
    return rate, cpu / count * 1e6


async def _run(count: int, connections: int) -> None:
    with mail_server() as port:
        for grouped in (False, True):
            runs = [await _measure(port, count, connections, grouped=grouped) for _ in range(3)]
            rate, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            how = "in groups" if grouped else "at once"
            print(f"dots granted {how:9}  {rate:7,.0f} mails/s  {cpu:5.0f} µs of CPU each", flush=True)


def main() -> None:
    """On uvloop, as the service runs."""
    count, connections = (*map(int, sys.argv[1:]), *(20_000, 8)[len(sys.argv) - 1 :])
    with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
        runner.run(_run(count, connections))


if __name__ == "__main__":
    main()
