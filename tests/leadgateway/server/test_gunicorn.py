"""The private names of gunicorn that `leadgateway.server` uses. Written for gunicorn 27.

When a test fails after an update, compare `gunicorn.workers.gthread` with `leadgateway.server.worker`.
"""

import inspect

import gunicorn.systemd
import pytest
from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.message import Message, Request
from gunicorn.workers import gthread

from leadgateway.server import worker


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("init_process", ["self"]),
        ("get_thread_pool", ["self"]),
        ("enqueue_req", ["self", "conn"]),
        ("murder_pending", ["self"]),
        ("handle", ["self", "conn"]),
        ("handle_request", ["self", "req", "conn"]),
        ("on_pending_socket_readable", ["self", "conn", "client"]),
    ],
)
def test_the_overridden_methods_of_the_worker_exist(name, expected):
    assert parameters(getattr(gthread.ThreadWorker, name)) == expected


def test_the_worker_and_its_connections_have_the_attributes_that_are_used():
    source = inspect.getsource(gthread)

    for name in ("self.pending_conns", "self.poller", "self.alive", "self.cfg"):
        assert name in source
    for name in ("self.sock", "self.timeout", "self.initialized", "self.data_ready"):
        assert name in inspect.getsource(gthread.TConn)
    assert gthread.STOP_KEEPALIVE_LINGER > 0


def test_a_request_knows_whether_100_continue_is_expected():
    assert "self._expected_100_continue" in inspect.getsource(Message)
    assert parameters(Request.force_close) == ["self"]
    assert "req._expected_100_continue" in inspect.getsource(wsgi.create)


def test_the_functions_of_the_library_have_their_signatures():
    assert parameters(worker._write_error) == ["sock", "status", "reason", "_message"]
    assert util.write_error is worker._write_error
    assert parameters(util.write_nonblock)[:2] == ["sock", "data"]
    assert parameters(util.close_graceful)[:1] == ["sock"]
    assert parameters(gunicorn.systemd.sd_notify)[:2] == ["state", "logger"]
