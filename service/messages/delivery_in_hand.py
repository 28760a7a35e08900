"""The mails that this process has claimed, until nothing is left to do for them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from service.engine.database_errors import FAILURES
from service.engine.fault_log import FaultLog
from service.engine.loops import first_of
from service.messages.delivery_traces import attempt_attributes
from service.messages.keep_writing import KeepWriting
from service.messages.outbox import ClaimedDelivery, Outbox
from service.tracing import UNTRACED, Span, Tracer

_GLANCE_SECONDS = 1.0


class DeliveriesInHand:
    """What is claimed and not done, the span of each attempt, and what is written beside the writer."""

    def __init__(self, outbox: Outbox, tracer: Tracer) -> None:
        self._outbox = outbox
        self._tracer = tracer
        self._spans: dict[tuple[int, int], Span] = {}
        self._ids: Counter[int] = Counter()
        self._claims: Counter[int] = Counter()
        self._abandoned: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left = FaultLog("claimed mails are left to their lease")
        self.keep = KeepWriting()
        self.changed = asyncio.Event()

    @property
    def claims(self) -> list[int]:
        """The claims of which something is in hand, and whose lease is to go on."""
        return [claim for claim in self._claims if claim not in self._abandoned]

    def abandon(self, delivery: ClaimedDelivery) -> None:
        """What became of this one cannot be written: the end of its claim's lease says it."""
        self._abandoned.add(delivery.claim)
        self.done(delivery)

    def add(self, claimed: Sequence[ClaimedDelivery]) -> None:
        """These are claimed now."""
        for delivery in claimed:
            self._claims[delivery.claim] += 1
            self._ids[delivery.id] += 1
            self._spans[delivery.id, delivery.claim] = self._tracer.start(
                f"message {delivery.kind}",
                attempt_attributes(delivery),
                parent=delivery.traceparent,  # the step that planned it
                kind="consumer",
            )

    def span(self, delivery: ClaimedDelivery) -> Span:
        """The span of its attempt."""
        return self._spans.get((delivery.id, delivery.claim), UNTRACED)

    def has(self, id_: int) -> bool:
        """Whether this delivery is in hand, by whichever claim."""
        return id_ in self._ids

    def done(self, delivery: ClaimedDelivery) -> None:
        """Nothing is left to do for this one."""
        self._spans.pop((delivery.id, delivery.claim), UNTRACED).end()
        self._ids[delivery.id] -= 1
        if not self._ids[delivery.id]:
            del self._ids[delivery.id]
        self._claims[delivery.claim] -= 1
        if self._claims[delivery.claim] <= 0:
            del self._claims[delivery.claim]
            if delivery.claim not in self._abandoned:
                self._outbox.done(delivery.claim)
            self._abandoned.discard(delivery.claim)
        if not self._claims:
            self.changed.set()

    def release(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta = timedelta(0)) -> None:
        """Let these be claimed again after ``pause``: no final dot of them was written."""
        if deliveries:
            self.start(self._release(list(deliveries), pause))

    async def _release(self, deliveries: list[ClaimedDelivery], pause: timedelta) -> None:
        end = self.abandon
        try:
            await self.keep.until_written(partial(self._outbox.release, deliveries, pause))
            end = self.done
        finally:
            for delivery in deliveries:
                end(delivery)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let this go on beside the rest."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self.changed.set()
        if not task.cancelled() and isinstance(error := task.exception(), FAILURES):
            self._left.occurred(error)

    async def until_none(self, over: Callable[[], bool] = lambda: False) -> None:
        """Wait until nothing is in hand any more, or it is ``over``; looked at when ``changed`` is set."""
        while (self._claims or self._tasks) and not over():
            self.changed.clear()
            await first_of(_GLANCE_SECONDS, self.changed)

    async def written(self, seconds: float) -> None:
        """Wait for what goes on beside the rest, so many seconds at the most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
