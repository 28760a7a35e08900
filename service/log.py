"""Logs: one JSON object or one console line per event; never addresses, names or secrets at info."""

import logging
import sys

import structlog


def configure(level: str, *, json: bool) -> None:
    """Set up structlog and the standard library's loggers. ``level`` as in LOG_LEVEL (debug … error)."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json
        # The default formatter also shows the variables of each frame, including passwords.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    renderers = [structlog.processors.format_exc_info, renderer] if json else [renderer]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # The loops log that our database is away; the pool would, with a traceback, at each of its own attempts.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    root.setLevel(max(numeric, logging.WARNING) if numeric > logging.DEBUG else logging.INFO)
