"""The filesystem transport, used by several processes at the same time."""

import json
import multiprocessing
from queue import Empty

import pytest
from kombu import Connection

from leadgateway.celery import app  # noqa: F401 (registers files://)

QUEUES = ["queue:process_lead", "queue:maintenance"]


def channel_to(folder):
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "bindings": QUEUES}
    return Connection("files://localhost//", transport_options=options).channel()


@pytest.fixture
def channel(tmp_path):
    return channel_to(tmp_path)


def test_messages_are_read_once_and_in_order(channel, tmp_path):
    for number in range(5):
        channel._put(QUEUES[0], {"number": number})

    assert channel._size(QUEUES[0]) == 5
    assert [channel._get(QUEUES[0])["number"] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(Empty):
        channel._get(QUEUES[0])
    assert list(tmp_path.iterdir()) == []


def test_queues_are_separate(channel):
    channel._put(QUEUES[1], {"task": "sweep"})

    with pytest.raises(Empty):
        channel._get(QUEUES[0])
    assert channel._get(QUEUES[1]) == {"task": "sweep"}


def test_every_queue_is_bound_by_its_name(channel):
    assert channel.typeof("leads").lookup(channel.get_table("leads"), "leads", QUEUES[0], "none") == {QUEUES[0]}


def write(folder, worker, messages):
    channel = channel_to(folder)
    for number in range(messages):
        channel._put(QUEUES[0], {"id": f"{worker}-{number}", "padding": "x" * 20_000})


def read(folder, found, stop):
    channel = channel_to(folder)
    while True:
        try:
            found.put(channel._get(QUEUES[0])["id"])
        except Empty:
            if stop.is_set():
                return


@pytest.mark.timeout(60)
def test_no_message_is_seen_half_written_or_twice(tmp_path):
    processes = multiprocessing.get_context("fork")
    found, stop = processes.Queue(), processes.Event()
    readers = [processes.Process(target=read, args=(tmp_path, found, stop)) for _ in range(2)]
    writers = [processes.Process(target=write, args=(tmp_path, worker, 300)) for worker in range(2)]
    for process in readers + writers:
        process.start()
    ids = [found.get(timeout=30) for _ in range(600)]
    stop.set()
    for process in readers + writers:
        process.join()

    assert sorted(ids) == sorted(f"{worker}-{number}" for worker in range(2) for number in range(300))
    assert [process.exitcode for process in readers + writers] == [0, 0, 0, 0]


def test_other_files_are_ignored(channel, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    channel._put(QUEUES[0], {"a": 1})

    assert channel._get(QUEUES[0]) == {"a": 1}
    assert json.dumps([entry.name for entry in tmp_path.iterdir()]) == '["notes.txt"]'
