"""The private names of kombu that `leadgateway.queue.filesystem` overrides. Written for kombu 5.7.

When a test fails after an update, compare `kombu.transport.filesystem` and `kombu.transport.virtual` with our module.
"""

import inspect

import pytest
from kombu.transport import filesystem, virtual


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_put", ["self", "queue", "payload", "kwargs"]),
        ("_get", ["self", "queue"]),
        ("_queue_bind", ["self", "exchange", "routing_key", "pattern", "queue"]),
        ("get_table", ["self", "exchange"]),
        ("_size", ["self", "queue"]),
        ("_has_queue", ["self", "queue", "kwargs"]),
    ],
)
def test_the_overridden_methods_of_the_channel_exist(name, expected):
    assert parameters(getattr(filesystem.Channel, name)) == expected


def test_the_virtual_channel_calls_the_overridden_methods():
    source = inspect.getsource(virtual.base)

    for name in ("self._put(", "self._queue_bind(", "self.get_table("):
        assert name in source
    assert "_get(" in source


def test_a_binding_has_three_fields():
    assert filesystem.exchange_queue_t._fields == ("routing_key", "pattern", "queue")


def test_messages_are_counted_by_the_suffix_of_their_files():
    assert ".msg" in inspect.getsource(filesystem.Channel._size)
    assert filesystem.Channel.data_folder_in
