"""Traces: run → step → message, for an OpenTelemetry collector; not loaded without an endpoint.

Parents are passed explicitly: many messages are in progress at once on one event loop, and another process
may have planned a message. A trace names jobs, runs, deliveries and counts, never anybody's address, name or
id.
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
"""The kind of a span: internal work, an item taken from a queue, a request to another server."""

_FLUSH_SECONDS = 3.0


class Span(Protocol):
    """A span. As a context manager it ends with its block, as failed if that raised."""

    @property
    def traceparent(self) -> str | None:
        """W3C trace context, for child spans in other processes; None: it is not traced."""

    def child(
        self, name: str, attributes: Mapping[str, Value] | None = None, kind: Kind = "internal"
    ) -> "Span":
        """Start a child span."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Set attributes."""

    def end(self, error: str | None = None) -> None:
        """End the span; ``error``: the type of its failure. Only the first call counts."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Starts traces."""

    def start(
        self,
        name: str,
        attributes: Mapping[str, Value] | None = None,
        *,
        parent: str | None = None,
        kind: Kind = "internal",
    ) -> Span:
        """Start a span below ``parent`` (W3C trace context), or a new trace."""


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
    """Creates and exports spans; see ``service.otel``."""

    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Tracing:
    """The traces of this process."""

    tracer: Tracer = UNTRACED
    exporter: Exporter | None = None

    async def close(self) -> None:
        """Flush remaining spans, for a few seconds at most: a lost collector must not delay the stop."""
        if self.exporter is None:
            return
        # A daemon thread: the end of the process would wait for one of the loop's executor.
        flushing = Thread(target=self.exporter.shutdown, name="traces", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, _FLUSH_SECONDS)


def tracing_of(endpoint: str, service: str, version: str, instance: str) -> Tracing:
    """Traces to the OTLP/HTTP collector at ``endpoint``; empty: none.

    Raises ConfigurationError if the ``tracing`` extra is not installed.
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
