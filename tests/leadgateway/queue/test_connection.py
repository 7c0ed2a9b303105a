"""Connections to RabbitMQ and through Redis Sentinel. tests/e2e/test_rabbitmq.py has a real RabbitMQ server."""

import socket
from datetime import timedelta
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from redis import Redis

from leadgateway import dependencies
from leadgateway.queue.connection import bounded_connection
from tests.servers import RedisSentinel, RedisServer


@pytest.mark.slow
def test_the_sentinels_say_where_redis_is(settings: Any) -> None:
    settings.QUEUE_TYPE = "redis"
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"master_name": settings.REDIS_SENTINEL_MASTER}
    with RedisServer() as master, RedisSentinel(master) as first, RedisSentinel(master) as second:
        url = settings.REDIS_URL = f"{first.url}/3;{second.url}/3"
        with bounded_connection(timedelta(seconds=10), url=url) as connection:
            channel: Any = connection.default_channel
            channel.client.set("key", "value")
        with Redis.from_url(master.url_of(3)) as client:
            assert client.get("key") == b"value"

        assert dependencies.queue_name() == (
            f"Redis, through the sentinels at 127.0.0.1:{first.port}, 127.0.0.1:{second.port}"
        )


@pytest.fixture
def _rabbitmq(settings: Any) -> None:
    settings.QUEUE_TYPE, settings.CELERY_BROKER_TRANSPORT_OPTIONS = "rabbitmq", {}


@pytest.mark.timeout(60)  # without our bounds, kombu would wait for seconds, and repeat
@pytest.mark.parametrize("is_open", [True, False], ids=["unresponsive", "refused"])
@pytest.mark.usefixtures("_rabbitmq")
def test_an_unavailable_rabbitmq_is_an_error(is_open: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if is_open:
            server.listen()
        url = f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//"
        with bounded_connection(timedelta(milliseconds=200), url=url) as connection, pytest.raises(OperationalError):
            _ = connection.default_channel


@pytest.mark.usefixtures("_rabbitmq")
def test_the_name_of_the_queue_has_no_password(settings: Any) -> None:
    settings.QUEUE_URL = "amqps://user:hunter2@rabbit.example.com:5671/leads"

    assert dependencies.queue_name() == "RabbitMQ at rabbit.example.com:5671"
