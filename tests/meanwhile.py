"""Work that goes on while a test, or a measurement, does something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def going_on(work: Callable[[threading.Event], None], *, threads: int) -> Iterator[None]:
    """Have so many threads do `work` while the block runs.

    :param work: is given an event, and returns soon after it is set. What it raises is raised at the end of the block.
    """
    over = threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(work, over) for _ in range(threads)]
        try:
            yield
        finally:
            over.set()
    for one in running:
        one.result()
