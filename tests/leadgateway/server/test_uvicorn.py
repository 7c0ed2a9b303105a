"""The names of uvicorn, httptools and gunicorn that `leadgateway.server` uses. Written for uvicorn 0.54.

When a test fails after an update, compare `uvicorn.protocols.http.httptools_impl` with `leadgateway.server.worker`.
"""

import inspect
import re

import gunicorn.systemd
import httptools
import pytest
from gunicorn.workers.base import Worker
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http import httptools_impl
from uvicorn_worker import UvicornWorker

PROTOCOL, CYCLE = httptools_impl.HttpToolsProtocol, httptools_impl.RequestResponseCycle


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("connection_made", ["self", "transport"]),
        ("connection_lost", ["self", "exc"]),
        ("data_received", ["self", "data"]),
        ("eof_received", ["self"]),
        ("pause_writing", ["self"]),
        ("resume_writing", ["self"]),
        ("shutdown", ["self"]),
        ("on_message_begin", ["self"]),
        ("on_url", ["self", "url"]),
        ("on_header", ["self", "name", "value"]),
        ("on_headers_complete", ["self"]),
        ("on_body", ["self", "body"]),
        ("on_message_complete", ["self"]),
        ("_unset_keepalive_if_required", ["self"]),
        ("timeout_keep_alive_handler", ["self"]),
    ],
)
def test_the_overridden_methods_of_the_protocol_exist(name, expected):
    assert parameters(getattr(PROTOCOL, name)) == expected


@pytest.mark.parametrize(
    "name",
    ["parser", "transport", "loop", "client", "cycle", "headers", "scope", "url", "timeout_keep_alive",
     "timeout_keep_alive_task"],
)  # fmt: skip
def test_the_protocol_has_the_attributes_that_are_used(name):
    assert f"self.{name}" in inspect.getsource(PROTOCOL)


@pytest.mark.parametrize("name", ["response_complete", "keep_alive", "message_event", "transport"])
def test_a_cycle_has_the_attributes_that_are_used(name):
    assert f"self.{name}" in inspect.getsource(CYCLE.__init__)


def test_a_cycle_uses_its_transport_only_as_the_lingering_transport_allows():
    source = inspect.getsource(CYCLE)

    assert set(re.findall(r"self\.transport\.(\w+)", source)) == {"write", "close", "is_closing"}


def test_httptools_stops_at_an_offer_to_upgrade():
    class Request:
        def on_message_complete(self):
            assert parser.should_upgrade()

    head = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    parser = httptools.HttpRequestParser(Request())

    with pytest.raises(httptools.HttpParserUpgrade) as stopped:
        parser.feed_data(head + b"{}")
    assert stopped.value.args == (len(head),)


def test_an_error_in_a_callback_is_the_context_of_the_parser_error():
    class Request:
        def on_url(self, url):
            raise KeyError

    with pytest.raises(httptools.HttpParserError) as failed:
        httptools.HttpRequestParser(Request()).feed_data(b"GET / HTTP/1.1\r\n")
    assert isinstance(failed.value.__context__, KeyError)


def test_the_worker_has_the_names_that_are_used():
    assert inspect.iscoroutinefunction(UvicornWorker.callback_notify)
    assert "self.config = Config(" in inspect.getsource(UvicornWorker.__init__)
    assert "config_kwargs.update(self.CONFIG_KWARGS)" in inspect.getsource(UvicornWorker.__init__)
    for name in ("self.cfg", "self.age", "self.ppid"):
        assert name in inspect.getsource(Worker.__init__)
    assert parameters(gunicorn.systemd.sd_notify)[:2] == ["state", "logger"]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (["127.0.0.1", "::1"], [True, False]),
        (["*"], [True, True]),
        (["192.0.2.0/24"], [False, True]),
        ([], [False] * 2),
    ],
)
def test_trusted_proxies_are_addresses_networks_or_all(allowed, expected):
    trusted = _TrustedHosts(allowed)

    assert ["127.0.0.1" in trusted, "192.0.2.9" in trusted] == expected
