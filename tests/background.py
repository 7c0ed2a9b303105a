"""Background threads for a test or a measurement."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def running_threads(work: Callable[[threading.Event], None], *, count: int) -> Iterator[None]:
    """Run `work` in `count` threads while the block runs.

    :param work: takes an event and returns soon after it is set. Its exceptions are raised at the end of the block.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, stop) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
    for future in futures:
        future.result()


def run_at_once(*works: Callable[[], object]) -> None:
    """Run functions in threads that begin at the same moment, each with a database connection of its own.

    Their exceptions are raised when all have ended.
    """
    from django.db import connection  # not at the top: the end-to-end tests need no settings

    starting_line = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        starting_line.wait()
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(run, work) for work in works]
    for future in futures:
        future.result()
