"""Traces: run → step → message, for an OpenTelemetry collector; without an endpoint nothing of it is loaded.

Parents are handed on, never ambient: many messages are under way at once on one event loop, and the step that
planned a message may have been another process's. A trace names jobs, runs, deliveries and counts: nobody's
address, name or id.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import Literal, Protocol, Self

from service.errors import ConfigurationError

Value = str | int | float | bool
Kind = Literal["internal", "consumer", "client"]
"""Of a span: work of our own, something taken from a queue, a request to another server."""

_FLUSH_SECONDS = 3.0


class Span(Protocol):
    """Something that takes time. As a context it ends with it, failed by what was raised in it."""

    @property
    def traceparent(self) -> str | None:
        """W3C trace context, for whoever goes on elsewhere; None: it is not traced."""

    def child(
        self, name: str, attributes: Mapping[str, Value] | None = None, kind: Kind = "internal"
    ) -> "Span":
        """A part of it, begun now."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """What has become known of it."""

    def end(self, error: str | None = None) -> None:
        """It is over; ``error``: the kind of its failure. The first end counts."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Begins traces."""

    def start(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        *,
        parent: str | None = None,
        kind: Kind = "internal",
    ) -> Span:
        """A span below ``parent`` (W3C trace context), or a trace of its own."""


class _Nothing:
    """The span, and the tracer, of a process that is not traced."""

    traceparent: str | None = None

    def start(self, *_: object, **__: object) -> Span:
        return self

    def child(self, *_: object, **__: object) -> Span:
        return self

    def note(self, attributes: Mapping[str, Value]) -> None:
        return

    def end(self, error: str | None = None) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


UNTRACED = _Nothing()


class Exporter(Tracer, Protocol):
    """Makes spans and sends them off; see ``service.otel``."""

    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tracing:
    """The traces of this process."""

    tracer: Tracer = UNTRACED
    exporter: Exporter | None = None

    async def close(self) -> None:
        """Send off what is left, for a few seconds at most: nobody waits for a collector that is away."""
        if self.exporter is None:
            return
        # A daemon: a thread of the loop's own would be waited for at the end of the process.
        flushing = Thread(target=self.exporter.shutdown, name="traces", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, _FLUSH_SECONDS)


def tracing_of(endpoint: str, service: str, version: str, instance: str) -> Tracing:
    """Traces to the OTLP/HTTP collector at ``endpoint``; empty: none.

    Raises ConfigurationError when the ``tracing`` extra is not installed.
    """
    if not endpoint:
        return Tracing()
    try:
        from service.otel import OtelExporter  # noqa: PLC0415  an extra, not in every image
    except ImportError:
        raise ConfigurationError(
            [
                "OTEL_EXPORTER_OTLP_ENDPOINT is set and OpenTelemetry is not installed:"
                " install [tracing], or leave it empty"
            ]
        ) from None
    exporter = OtelExporter(endpoint, service, version, instance)
    return Tracing(exporter, exporter)
