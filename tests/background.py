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
