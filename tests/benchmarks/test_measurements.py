import shutil
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests

from benchmarks.load import percentile, steady_load
from benchmarks.rates import Posts, read_posts, read_tps, wrk
from benchmarks.report import Report
from benchmarks.sink import Sink
from benchmarks.soak import growth
from tests.http_server import Answer, Post, http_server
from tests.processes import wait_until

POSTS = '{"responses": 120, "refused": 20, "broken": 3, "seconds": 2.000, "p50": 4.50, "p99": 9.25}'


def test_the_line_of_json_is_read_from_the_output_of_wrk() -> None:
    posts = read_posts(f"Running 2s test @ http://127.0.0.1:8080\n  2 threads and 16 connections\n{POSTS}\n")

    assert posts == Posts(responses=120, refused=20, broken=3, seconds=2.0, p50=4.5, p99=9.25)
    assert (posts.accepted, posts.failed, posts.per_second) == (100, 23, 50.0)


def test_the_rate_is_read_from_the_output_of_pgbench() -> None:
    assert read_tps("latency average = 1.1 ms\ntps = 15432.10 (without initial connection time)\n") == 15432.1


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_wrk_posts_different_leads_and_counts_refusals() -> None:
    bodies: list[bytes] = []
    lock = threading.Lock()

    def answer(post: Post) -> Answer:
        with lock:
            bodies.append(post.body)
            return Answer(503 if len(bodies) % 2 else 200)

    with http_server(answer) as url:
        posts = wrk(url, connections=4, seconds=1)

    assert len(bodies) == len(set(bodies)) >= posts.responses > 10
    assert posts.refused == pytest.approx(posts.responses / 2, abs=5)


def test_the_sink_remembers_each_lead_on_a_connection_that_stays_open() -> None:
    with Sink() as sink, requests.Session() as session:
        for number in range(3):
            headers = {"Idempotency-Key": f"key {number}", "X-Correlation-ID": f"id {number}"}
            assert session.post(sink.url, json={"a": 1}, headers=headers, timeout=5).json() == {"status": "accepted"}

    arrivals = [(arrival.idempotency_key, arrival.correlation_id) for arrival in sink.arrivals]
    assert arrivals == [("key 0", "id 0"), ("key 1", "id 1"), ("key 2", "id 2")]


def test_the_sink_closes_its_connections_when_it_ends() -> None:
    with Sink() as sink:
        parts = urlsplit(sink.url)
        client = socket.create_connection((parts.hostname, parts.port), timeout=5)
        wait_until(lambda: sink.transports, 5, "the connection")

    with client, suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_the_load_counts_responses_and_remembers_accepted_leads() -> None:
    enough = threading.Event()
    posted: list[Post] = []

    def answer(post: Post) -> Answer:
        posted.append(post)
        if len(posted) > 6:
            enough.set()
        return Answer(200 if len(posted) > 2 else 503, b'{"correlation_id": "%d"}' % len(posted))

    with http_server(answer) as url, steady_load(port=int(url.rpartition(":")[2]), senders=1, every=0.01) as load:
        assert enough.wait(10)

    assert load.statuses == {503: 2, 200: len(posted) - 2}
    assert list(load.accepted) == [str(number) for number in range(3, len(posted) + 1)]
    assert len({post.body for post in posted}) == len(posted)


def test_percentiles_are_values_of_the_sample() -> None:
    assert [percentile(range(100), share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]


def test_growth_is_the_slope_and_its_error() -> None:
    assert growth([0, 1, 2, 3], [10, 12, 14, 16]) == (2.0, 0.0)
    slope, error = growth([0, 1, 2, 3], [10, 13, 13, 16])
    assert (slope, error) == (pytest.approx(1.8), pytest.approx(0.4243, abs=0.001))


def test_a_report_names_missed_goals(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(1000)
    report.add("deliveries/s", "93", goal="≥ 600", met=False)
    report.add("sent twice", "0", goal="0")

    assert "| deliveries/s | 93 | ≥ 600, MISSED |\n| sent twice | 0 | 0 |\n" in report.text()
    assert "1,000 leads" in report.text()
    assert "MISSED" in capsys.readouterr().out
