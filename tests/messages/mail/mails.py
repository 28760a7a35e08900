"""A queue of mails for a transport, which counts what becomes of each."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase, Transport
from tests.process import until
from tests.smtp_server import Misbehave, RecordingServer

BODY = b"Message-ID: <%d@example.org>\r\nSubject: x\r\n\r\n.leading dot\r\nline\r\n"


def envelope(n: int, name: str = "ann", content: bytes = BODY) -> Envelope:
    return Envelope(n, "hello@example.org", f"{name}{n}@example.org", content.replace(b"%d", b"%d" % n))


def config(server: RecordingServer, **changes: object) -> SmtpConfig:
    values = {"connections": 1, "command_timeout": 0.5, "data_timeout": 0.5, "connect_timeout": 2.0} | changes
    return SmtpConfig("127.0.0.1", server.port, "none", **values)  # type: ignore[arg-type]


def at(phase: str, told: str, name: str = "bad") -> Misbehave:
    """Misbehave in one phase towards recipients of this name; the nameless phases towards everybody."""
    nameless = phase in {"connect", "auth", "mail"}
    return lambda p, recipient: told if p == phase and (nameless or recipient.startswith(name)) else None


class Mails:
    """Each mail that was given out ends once, or the test fails.

    ``denied`` get no dot. ``held``: their requests for a dot wait in ``requests``; the others are granted one
    turn of the event loop later, or ``at_once``. ``listen``: called at each request.
    """

    def __init__(
        self,
        *envelopes: Envelope,
        denied: Sequence[int] = (),
        held: Sequence[int] = (),
        at_once: bool = False,
        listen: Callable[[int], None] = lambda _id: None,
    ) -> None:
        self.waiting = deque(envelopes)
        self.out: dict[int, Envelope] = {}
        self.denied, self.held, self.at_once, self.listen = set(denied), set(held), at_once, listen
        self.undotted: list[int] = []
        self.requests: dict[int, Callable[[bool], None]] = {}
        self.requested: list[int] = []
        self.results: list[SendResult] = []
        self.given_back: list[int] = []
        self.refusals: list[tuple[str, int | None]] = []

    def next(self) -> Envelope | None:
        if not self.waiting:
            return None
        one = self.waiting.popleft()
        assert one.id not in self.out
        self.out[one.id] = one
        return one

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        assert delivery in self.out
        self.requested.append(delivery)
        self.listen(delivery)
        if delivery in self.held:
            self.requests[delivery] = granted
        elif self.at_once:
            self._decide(delivery, granted)
        else:
            asyncio.get_running_loop().call_soon(partial(self._decide, delivery, granted))

    def _decide(self, delivery: int, granted: Callable[[bool], None]) -> None:
        may = delivery not in self.denied
        if not may:
            del self.out[delivery]
            self.undotted.append(delivery)
        granted(may)

    def answered(self, result: SendResult) -> None:
        del self.out[result.id]
        self.results.append(result)

    def give_back(self, envelope: Envelope) -> None:
        del self.out[envelope.id]
        self.given_back.append(envelope.id)
        self.waiting.appendleft(envelope)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        self.refusals.append((str(phase), code))

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do, or nothing can be done."""
        return not self.out and (not self.waiting or bool(self.refusals))

    @property
    def ends(self) -> list[tuple[int, bool, str, int | None]]:
        return [(r.id, r.accepted, str(r.phase), r.code) for r in self.results]


async def send(transport: Transport, *envelopes: Envelope, denied: Sequence[int] = ()) -> Mails:
    """Send these; what became of them."""
    mails = Mails(*envelopes, denied=denied)
    transport.start(mails)
    transport.wake()
    await until(lambda: mails.settled)
    return mails


def pool(server: RecordingServer, **changes: object) -> SmtpPool:
    return SmtpPool(config(server, **changes), SystemClock())
