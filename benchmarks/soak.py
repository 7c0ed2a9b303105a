"""`make soak`: run the gateway under constant load, and report whether its memory or its response times grow.

The slope of a line through the measurements of each minute is compared with a limit. A gateway fails only when the
slope exceeds the limit by more than chance: by twice its standard error.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean, linear_regression

from benchmarks.load import Load, percentile, steady_load
from benchmarks.servers import servers
from benchmarks.sink import Sink
from benchmarks.usage import memory_mb
from tests import processes
from tests.e2e.gateway import Gateway
from tests.processes import wait_until

#: Share of the measurements at the beginning that do not count: caches and pools are still being filled.
_WARM_UP = 0.2


@dataclass(frozen=True)
class Series:
    """What is measured once a minute, with the maximum growth per hour."""

    name: str
    unit: str
    limit: float


SERIES = (
    Series("memory of web", "MB", 10),
    Series("memory of worker", "MB", 10),
    Series("memory of beat", "MB", 10),
    Series("response time, p50", "ms", 1),
    Series("response time, p99", "ms", 10),
    Series("accepted to arrived, p50", "ms", 2),
    Series("accepted to arrived, p99", "ms", 20),
)


def main() -> None:
    """Run it, and print a line for each minute and the verdict. The exit code is 1 when something grows."""
    arguments = argparse.ArgumentParser(prog="make soak", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--rate", type=int, default=50, help="leads per second")
    options = arguments.parse_args()
    with servers() as ours, ours.gateway() as gateway:
        print("minute  " + "  ".join(f"{series.name} ({series.unit})" for series in SERIES), flush=True)
        with steady_load(port=gateway.port, senders=5, every=5 / options.rate) as load:
            rows = _measure(gateway, ours.customer, load, options.minutes)
        with suppress(TimeoutError):
            wait_until(lambda: load.accepted.keys() <= ours.customer.lead_ids(), 120, "the last leads", pause=1)
        missing = len(load.accepted.keys() - ours.customer.lead_ids())
        twice = len(ours.customer.arrivals) - len({arrival.idempotency_key for arrival in ours.customer.arrivals})
    print(f"\nresponses by status: {load.statuses}; leads not delivered: {missing}, sent twice: {twice}")
    hours, *columns = zip(*rows[int(len(rows) * _WARM_UP) :], strict=True)
    is_steady = [_judge(series, hours, values) for series, values in zip(SERIES, columns, strict=True)]
    sys.exit(0 if all(is_steady) and set(load.statuses) == {200} and not missing and not twice else 1)


def _measure(gateway: Gateway, customer: Sink, load: Load, minutes: float) -> list[list[float]]:
    """Return a row at the end of each minute, or 20 rows in a shorter run: the hour of the row and its values."""
    rows: list[list[float]] = []
    began, interval = time.monotonic(), min(60.0, minutes * 3)
    while time.monotonic() - began < minutes * 60:
        since, first = time.monotonic(), len(load.milliseconds)
        time.sleep(interval)
        rows.append([(time.monotonic() - began) / 3600, *_values(gateway, customer, load, since, first)])
        print(f"{rows[-1][0] * 60:6.1f}  " + "  ".join(f"{value:.1f}" for value in rows[-1][1:]), flush=True)
    return rows


def _values(gateway: Gateway, customer: Sink, load: Load, since: float, first: int) -> list[float]:
    """Return the memory now, and the percentiles of the responses from the `first` on and of the arrivals since."""
    memory = [memory_mb(gateway.running(name)[-1]) for name in ("web", "worker", "beat")]
    arrived = {arrival.correlation_id for arrival in list(customer.arrivals) if arrival.at >= since}
    recent = {lead: at for lead, at in list(load.accepted.items()) if lead in arrived}
    times, waits = load.milliseconds[first:], customer.waits(recent)
    return [*memory, percentile(times, 0.5), percentile(times, 0.99), percentile(waits, 0.5), percentile(waits, 0.99)]


def growth(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return the slope per hour of a line through the values, and the standard error of the slope."""
    slope, start = linear_regression(hours, values)
    rest = sum((value - start - slope * hour) ** 2 for hour, value in zip(hours, values, strict=True))
    middle = fmean(hours)
    spread = sum((hour - middle) ** 2 for hour in hours)
    return slope, (rest / (len(values) - 2) / spread) ** 0.5


def _judge(series: Series, hours: Sequence[float], values: Sequence[float]) -> bool:
    """Print the growth of a series and return whether it stays within the limit."""
    slope, error = growth(hours, values)
    is_steady = slope - 2 * error <= series.limit
    verdict = "steady" if is_steady else "GROWS"
    print(f"{series.name:<26} {slope:+8.2f} ± {2 * error:.2f} {series.unit}/h, limit {series.limit:g}: {verdict}")
    return is_steady


if __name__ == "__main__":
    try:
        main()
    finally:
        processes.finish()
