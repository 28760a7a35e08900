"""Ready bytes through the SMTP pool: ``python -m benchmarks.smtp_pool [mails] [connections]``.

So many mails (20,000) of 17 kB over so many connections (8) to a recording server in a process of its own;
dots are granted at once, or in groups, one turn of the event loop later: mails per second, and microseconds
of this process's CPU for each. Medians of three; machines differ.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

from benchmarks.mail_server import mail_server
from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase

_CONTENT = (
    b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\n" + b"a line of text that is 70 bytes long\r\n" * 450
)


class ReadyMails:
    """A queue of ready mails. ``grouped``: dots are granted together, a turn of the event loop later."""

    def __init__(self, count: int, *, grouped: bool) -> None:
        self._left = count
        self._grouped = grouped
        self._requests: list[Callable[[bool], None]] = []
        self.missing = count
        self.done = asyncio.Event()

    def next(self) -> Envelope | None:
        if not self._left:
            return None
        self._left -= 1
        return Envelope(self._left, "a@example.org", f"b{self._left}@example.org", _CONTENT)

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
        self.missing -= 1
        if not self.missing:
            self.done.set()

    def give_back(self, envelope: Envelope) -> None:
        raise AssertionError(envelope)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        raise AssertionError(phase, code, reply)


async def measure(port: int, count: int, connections: int, *, grouped: bool) -> tuple[float, float]:
    """Mails per second, and microseconds of CPU for each."""
    config = SmtpConfig("127.0.0.1", port, "none", connections=connections)
    pool, mails = SmtpPool(config, SystemClock()), ReadyMails(count, grouped=grouped)
    pool.start(mails)
    began, cpu = time.perf_counter(), time.process_time()
    pool.wake()
    await mails.done.wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await pool.close()
    return count / seconds, cpu / count * 1e6


async def _run(count: int, connections: int) -> None:
    with mail_server() as port:
        for grouped in (False, True):
            runs = [await measure(port, count, connections, grouped=grouped) for _ in range(3)]
            rate, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            how = "in groups" if grouped else "at once"
            print(f"dots granted {how:9}  {rate:7,.0f} mails/s  {cpu:5.0f} us of CPU each", flush=True)


def main() -> None:
    """On uvloop, as the service runs."""
    count, connections = (*map(int, sys.argv[1:]), *(20_000, 8)[len(sys.argv) - 1 :])
    with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
        runner.run(_run(count, connections))


if __name__ == "__main__":
    main()
