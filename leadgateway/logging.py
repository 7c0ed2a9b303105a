"""One log line a thing that happened, with the ids of the lead it happened to and nothing about the person."""

import logging
import re
import sys
import traceback
from typing import Any

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

#: What looks like a person in a text that is not ours (an exception's message): e-mail addresses, phone numbers.
_PERSONAL = re.compile(r"[^\s@\"'<>(),;]+@[^\s@\"'<>(),;]+|\+?\d[\d /()-]{6,}\d")


def redact(text: str) -> str:
    """Return the first line of a foreign text, shortened, with e-mail addresses and phone numbers struck out."""
    return _PERSONAL.sub("[redacted]", text.partition("\n")[0][:200])


def _ids_on_every_line(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event.setdefault("correlation_id", None)
    event.setdefault("lead_id", None)
    return event


def _without_nothing(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _exception_without_values(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace exc_info by where and what, but not by whom: database errors quote the failing row."""
    exc_info: ExcInfo | tuple[None, None, None] | None = event.pop("exc_info", None)
    if not exc_info:
        return event
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if isinstance(exc_info, tuple) and exc_info[1] is not None:
        what = f"{exc_info[0].__module__}.{exc_info[0].__qualname__}: {redact(str(exc_info[1]))}"
        event["exception"] = "".join(traceback.format_tb(exc_info[2])) + what
    return event


def _exception_in_hand(_logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Make `log.exception` carry the exception itself to the formatter, which takes the values out."""
    if name == "exception" or event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()
    return event


#: Loggers whose lines repeat ours without the lead's ids.
_CHATTY = ("celery.worker.strategy", "celery.beat", "psycopg.pool", "kombu", "redis")


def _upper_level(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event["level"] = event["level"].upper()  # as in `docker-compose logs | grep ERROR`
    return event


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    _upper_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(level: str, log_format: str) -> dict[str, Any]:
    """Return the dictConfig for every process, and set structlog up to feed it.

    :param level: debug, info, warn or error.
    :param log_format: json (one object a line) or text.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            _exception_in_hand,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[Processor] = (
        [_ids_on_every_line, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if log_format == "json"
        else [_without_nothing, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=24)]
    )
    level_name = {"warn": "WARNING"}.get(level, level.upper())
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    _exception_without_values,
                    *render,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stderr"], "level": level_name},
        "loggers": {
            **{name: {"level": level_name if level == "debug" else "WARNING"} for name in _CHATTY},
            # Quotes the customer's URL, and his headers when they are malformed.
            "urllib3": {"level": "ERROR"},
            # Writes an exception's text, which may quote a row; our signal handler in celery.py logs it without.
            "celery.app.trace": {"level": "CRITICAL"},
            # One line for each answer comes from the request middleware; an exception still comes from here.
            "django.request": {"level": "ERROR"},
            # Writes names that people typed, which may be passwords; logins.py writes a line without.
            "axes": {"level": "ERROR"},
            "django.security": {"level": "ERROR"},
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
        },
    }


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger for one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def silence_foreign_handlers(*names: str) -> None:
    """Let the named loggers of other programs speak through ours only."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
