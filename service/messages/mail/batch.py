"""A batch as a queue, for a caller that hands over its mails at once, and grants dots in a coroutine."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from service.messages.mail.smtp_message import failure
from service.messages.mail.transport import (
    BeforeDot,
    Envelope,
    OnResult,
    SendResult,
    ShouldSend,
    SmtpPhase,
)


class Batch:
    """The mails of one call of ``send``. Its end waits for the callbacks, and raises what they raised."""

    def __init__(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend,
    ) -> None:
        self._left = deque(envelopes)
        self._before_dot = before_dot
        self._on_result = on_result
        self._should_send = should_send
        self._out: dict[int, Envelope] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    async def __aenter__(self) -> "Batch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._error and error is None:
            raise self._error

    def left(self) -> bool:
        """Whether there is something to send."""
        while self._left and not self._should_send(self._left[0]):
            self._left.popleft()
        return bool(self._left) and self._error is None

    def fail(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """Let this be the result of all that is left."""
        while self.left():
            self.answered(failure(self._left.popleft(), phase, code, reply))

    def next(self) -> Envelope | None:
        if not self.left():
            return None
        envelope = self._left.popleft()
        self._out[envelope.id] = envelope
        return envelope

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        task = asyncio.ensure_future(self._ask(delivery, granted))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _ask(self, delivery: int, granted: Callable[[bool], None]) -> None:
        may = False
        try:
            may = delivery in await self._before_dot([delivery])
            if not may:
                why = "the dot was not granted"
                self.answered(failure(self._out[delivery], SmtpPhase.CONTENT, None, why))
        finally:
            granted(may)

    def answered(self, result: SendResult) -> None:
        with suppress(StopIteration):
            next(iter(self._on_result(result).__await__()))
            raise RuntimeError("on_result must not wait: the next mail is chosen by what it says")

    def give_back(self, envelope: Envelope) -> None:
        self._left.appendleft(envelope)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        return

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self._error = self._error or task.exception()
