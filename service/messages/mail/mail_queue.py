"""Queues as a connection sees them: what cannot be sent at all is answered on the way."""

from collections import deque
from collections.abc import Callable

from service.messages.mail.smtp_message import rejection
from service.messages.mail.transport import Envelope, MailQueue, SendResult, SmtpPhase


class NoMail:
    """An empty queue."""

    def next(self) -> Envelope | None:
        return None

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        raise AssertionError(delivery)

    def answered(self, result: SendResult) -> None:
        raise AssertionError(result)

    def give_back(self, envelope: Envelope) -> None:
        raise AssertionError(envelope)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        return


class OneMail:
    """A queue of one mail whose dot is granted. ``result``: what became of it."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope: Envelope | None = envelope
        self.result: SendResult | None = None

    def next(self) -> Envelope | None:
        envelope, self._envelope = self._envelope, None
        return envelope

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        granted(True)  # noqa: FBT003

    def answered(self, result: SendResult) -> None:
        self.result = result

    def give_back(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        return


class CheckedQueue:
    """A queue without the mails that must not be sent: they are answered at once.

    Mails that were pulled to see whether another connection is needed are held until any connection is
    ready for them. ``stopped``: nothing is pulled any more.
    """

    def __init__(self, queue: MailQueue) -> None:
        self.queue = queue
        self.stopped = False
        self._held: deque[Envelope] = deque()

    def next(self) -> Envelope | None:
        """The next mail; None: nothing now."""
        return self._held.popleft() if self._held else self._pull()

    def hold_next(self) -> bool:
        """Hold one mail for the next connection that is ready. False: there is none."""
        envelope = self._pull()
        if envelope is not None:
            self._held.append(envelope)
        return envelope is not None

    def give_back_held(self, but: int = 0) -> None:
        """Give back what is held, ``but`` for so many."""
        while len(self._held) > but:
            self.queue.give_back(self._held.pop())

    def _pull(self) -> Envelope | None:
        while not self.stopped and (envelope := self.queue.next()):
            refusal = rejection(envelope)
            if refusal is None:
                return envelope
            self.queue.answered(refusal)
        return None
