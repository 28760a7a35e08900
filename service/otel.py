"""Spans by OpenTelemetry, sent over OTLP/HTTP by a thread of their own.

Imported by ``service.tracing`` only, where an endpoint is set. What OTEL_* variables say beside the endpoint
(headers, sampler, batches, timeouts) the library reads itself. A collector that is away costs spans, which
are dropped when their queue is full, and a warning in the log; it costs the service nothing.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_KINDS = {"internal": SpanKind.INTERNAL, "consumer": SpanKind.CONSUMER, "client": SpanKind.CLIENT}
_CONTEXT = TraceContextTextMapPropagator()
_TRACES = "/v1/traces"

Attributes = Mapping[str, str | int | float | bool]


class OtelSpan:
    """See ``tracing.Span``."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """W3C trace context."""
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get("traceparent")

    def child(self, name: str, attributes: Attributes | None = None, kind: str = "internal") -> "OtelSpan":
        """A part of it."""
        context = trace.set_span_in_context(self._span)
        return OtelSpan(self._tracer, self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def note(self, attributes: Attributes) -> None:
        """What has become known."""
        self._span.set_attributes(attributes)

    def end(self, error: str | None = None) -> None:
        """It is over."""
        if not self._span.is_recording():
            return  # ended before, or not sampled
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        self.end(kind.__name__ if kind else None)


class OtelExporter:
    """See ``tracing.Exporter``. ``instance``: the process's unique name."""

    def __init__(self, endpoint: str, service: str, version: str, instance: str) -> None:
        named = {"service.name": service, "service.version": version, "service.instance.id": instance}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint.removesuffix("/").removesuffix(_TRACES) + _TRACES)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("dashboard-jobs", version)

    def start(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        parent: str | None = None,
        kind: str = "internal",
    ) -> OtelSpan:
        """A span below ``parent``, or a trace of its own."""
        context = _CONTEXT.extract({"traceparent": parent} if parent else {})
        return OtelSpan(self._tracer, self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def shutdown(self) -> None:
        """Send off what is left; blocks while the collector does."""
        self._provider.shutdown()
