"""Structured logging: one line per event, with the ids of its lead and without personal data."""

import logging
import re
import traceback
from typing import Any

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

#: Personal data that the text of an exception may contain: e-mail addresses and phone numbers.
_PERSONAL = re.compile(r"[^\s@\"'<>(),;]+@[^\s@\"'<>(),;]+|\+?\d[\d /()-]{6,}\d")


def redact(text: str) -> str:
    """Return the first 200 characters of a text's first line, with e-mail addresses and phone numbers redacted."""
    return _PERSONAL.sub("[redacted]", text.partition("\n")[0][:200])


def _add_level_and_ids(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Add the level in upper case, for `docker-compose logs | grep ERROR`, and the ids that the line does not have."""
    event["level"] = event["_record"].levelname
    event.setdefault("correlation_id", None)
    event.setdefault("lead_id", None)
    return event


def _drop_empty(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _format_exception(exc_info: ExcInfo) -> str:
    """Return a traceback and a redacted message, because database errors quote the failing row."""
    kind, error, trace = exc_info
    message = f"{kind.__module__}.{kind.__qualname__}: {redact(str(error))}"
    return "".join(traceback.format_tb(trace)) + message


#: Loggers that repeat our lines without the lead's ids.
_REPETITIVE_LOGGERS = ("celery.worker.strategy", "celery.beat", "psycopg.pool", "kombu", "redis")


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(level: str, log_format: str) -> dict[str, Any]:
    """Configure structlog, and return the dictConfig that formats its events and those of other loggers.

    :param level: debug, info, warn or error.
    :param log_format: json (one object per line) or text.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[Processor] = (
        [structlog.processors.JSONRenderer(ensure_ascii=False)]
        if log_format == "json"
        else [_drop_empty, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=24)]
    )
    _record_less()
    level_name = {"warn": "WARNING"}.get(level, level.upper())
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    _add_level_and_ids,
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.ExceptionRenderer(_format_exception),
                    *render,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stderr"], "level": level_name},
        "loggers": {
            **{name: {"level": level_name if level == "debug" else "WARNING"} for name in _REPETITIVE_LOGGERS},
            # Quotes the customer's URL, and its headers when they are malformed.
            "urllib3": {"level": "ERROR"},
            # Logs the text of an exception, which may quote a row; celery.py logs task failures without it.
            "celery.app.trace": {"level": "CRITICAL"},
            # RequestContext logs each response. This logger is only needed for exceptions.
            "django.request": {"level": "ERROR"},
            # Logs the user names that people type, which may be passwords; logins.py logs failures without them.
            "axes": {"level": "ERROR"},
            "django.security": {"level": "ERROR"},
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
        },
    }


def _record_less() -> None:
    """Do not look up what no line shows, which takes a third of the time. Python's logging HOWTO lists the switches."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
