"""CPU time and memory of processes with their child processes, read from /proc."""

import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import Process, family

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def cpu_seconds(processes: Mapping[str, Process]) -> Iterator[dict[str, float]]:
    """Yield a dictionary that has the CPU seconds which each process used in the block, after the block.

    "client" is this process, with the senders and the customer, and its child processes that have ended, such as wrk.
    """
    used: dict[str, float] = {}
    before = _all_cpu_seconds(processes)
    yield used
    used.update({name: seconds - before[name] for name, seconds in _all_cpu_seconds(processes).items()})


def _all_cpu_seconds(processes: Mapping[str, Process]) -> dict[str, float]:
    client = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {**{name: _cpu_seconds(process.pid) for name, process in processes.items()}, "client": client}


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its running children and those that have ended."""
    ticks = 0
    for member in family(pid):
        with suppress(OSError):  # it has ended, and its time counts as its parent's
            stat = Path(f"/proc/{member}/stat").read_text()
            ticks += sum(map(int, stat[stat.rindex(")") + 2 :].split()[11:15]))
    return ticks / _TICKS


def memory_mb(process: Process) -> float:
    """Return the memory of a process and its children in MB. Shared pages count in parts (PSS)."""
    kilobytes = 0
    for member in family(process.pid):
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024
