"""Structured log lines on standard error: JSON for machines, console for people; secrets cut out of both."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import orjson
import structlog

from marketplace.redaction import redact_fields


def configure_logs(form: Literal["json", "console"], level: str, stream: TextIO | None = None) -> None:
    """Set up structlog for this process, on standard error or `stream`. Called by a command, the last call counts."""
    target = stream or sys.stderr
    final: list[Any] = (
        [structlog.processors.JSONRenderer(serializer=_dumps)]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=target.isatty())]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What isn't written costs next to nothing then: the frame has a line for each request.
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    # The frame writes one line per request itself, without the query.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It tells its signatures when it debugs.
    logging.getLogger("botocore").setLevel(logging.WARNING)


def _dumps(value: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(value, default=default or str).decode()


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    internal = {name: event.pop(name) for name in ("_record", "_from_structlog") if name in event}
    return {**redact_fields(event), **internal}
