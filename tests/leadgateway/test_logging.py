import json
import logging
import logging.config

import pytest
import structlog

from leadgateway.logging import get_logger, logging_config, redact


@pytest.fixture
def lines(capsys):
    """Return what a process with the given settings would have written, line by line."""

    def configure(level="info", log_format="json"):
        structlog.contextvars.clear_contextvars()
        logging.config.dictConfig(logging_config(level, log_format))
        return lambda: capsys.readouterr().err.splitlines()

    yield configure
    from django.conf import settings

    structlog.contextvars.clear_contextvars()
    logging.config.dictConfig(settings.LOGGING)


def test_every_line_has_both_ids_even_when_there_is_no_lead(lines):
    read = lines()
    get_logger("x").info("started")

    (line,) = read()
    assert (
        json.loads(line).items()
        >= {"event": "started", "level": "INFO", "lead_id": None, "correlation_id": None}.items()
    )


def test_foreign_lines_carry_the_bound_ids_too(lines):
    read = lines()
    with structlog.contextvars.bound_contextvars(lead_id=7, correlation_id="abc"):
        logging.getLogger("some.library").warning("hm")

    (line,) = read()
    assert json.loads(line).items() >= {"event": "hm", "lead_id": 7, "correlation_id": "abc"}.items()


def test_text_can_be_searched_by_level_and_lead(lines):
    read = lines(log_format="text")
    get_logger("x").error("failed", lead_id=123)

    (line,) = read()
    assert "ERROR" in line
    assert "lead_id=123" in line


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_the_level_decides_what_is_written(lines, level, expected):
    read = lines(level=level)
    log = get_logger(f"level.{level}")
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")

    assert len(read()) == expected


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_says_what_and_where_but_not_whose(lines, log_format):
    read = lines(log_format=log_format)
    message = "bad row for ann@example.com, call 0151 12345678\nDETAIL: Failing row contains (Ann)"
    try:
        raise ValueError(message)
    except ValueError:
        get_logger("x").exception("oh")

    text = "\n".join(read())
    assert "ValueError" in text
    assert "test_logging.py" in text
    assert "ann@example.com" not in text
    assert "12345678" not in text
    assert "Failing row" not in text


def test_redact_keeps_what_is_not_personal():
    assert redact("column x does not exist at line 12") == "column x does not exist at line 12"
