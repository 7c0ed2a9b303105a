"""Kill processes and servers at random under load, and check that no lead is lost or sent twice: `make chaos`.

Web, workers, beat, Redis and PostgreSQL are killed with SIGKILL and restarted, and Redis is also wiped. The customer
responds with 200, 429 and 500, resets connections and hangs. Then its ledger is compared with leads, attempts and
events. The exit code is 1 when there is a problem.
"""

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.chaos.run import FAIL_RATE, FAILURES, FAILURES_AFTER_BOOKING, SETTINGS, Options, Result, run
from tests.environment import ROOT

_SHOWN = 20
_RECOVERY = """
Recovery is the time from a fault until a lead posted after it reaches the customer with the target restored. Other
faults in that time are included.
"""


def main() -> None:
    """Run it and print the events, the result and how to repeat the run."""
    options = _options()
    _announce(options)
    result = run(options, report=partial(print, flush=True))
    print()
    for name, value in _table(result):
        print(f"{name:<44} {value}")
    print(_RECOVERY)
    if problems := result.audit.problems:
        _print_problems(problems, _save(result, options))
        sys.exit(1)


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="duration of the load (%(default)s)")
    parser.add_argument("--rate", type=float, default=Options.per_minute, help="leads per minute (%(default)s)")
    parser.add_argument("--every", type=float, default=Options.every, help="seconds between faults (%(default)s)")
    parser.add_argument("--seed", type=int, help="repeat the faults of an earlier run")
    parser.add_argument("--embedded", action="store_true", help="use SQLite without a broker")
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    return Options(seed, given.seconds, given.rate, given.every, embedded=given.embedded)


def _announce(options: Options) -> None:
    where = "SQLite and no broker" if options.embedded else "PostgreSQL (fsync on) and Redis (append-only file)"
    print(f"Seed {options.seed}: {options.per_minute:g} leads a minute for {options.seconds:g} s, on {where}")
    print(f"A fault every {options.every:g} s; the customer fails {FAIL_RATE:.0%} of requests:", end=" ")
    print(*FAILURES, *FAILURES_AFTER_BOOKING, sep=", ")
    print(" ".join(f"{name}={value}" for name, value in SETTINGS.items()), end="\n\n", flush=True)


def _table(result: Result) -> Iterator[tuple[str, object]]:
    """Yield the names and values of the table."""
    counts, audit = result.audit.counts, result.audit
    yield "accepted (its sender received 200)", counts["accepted"]
    yield "  delivered", counts["delivered"]
    yield "  rejected by our rules", counts["rejected"]
    yield "  without a phone number", counts["incomplete"]
    yield "  rejected by the customer (422)", counts["refused"]
    yield (
        f"  given up after {SETTINGS['MAX_RETRY_ATTEMPTS']} attempts",
        f"{counts['given_up']}, the customer has {counts['given_up_though_taken']}",
    )
    yield "lost", counts["lost"]
    yield "sent twice, after an unknown outcome", counts["sent_again"] - counts["sent_again_unexplained"]
    yield "sent twice, unexplained", counts["sent_again_unexplained"]
    yield "posts refused with 503 / broken connections", f"{audit.statuses[503]} / {audit.statuses[0]}"
    yield "posts recognised as duplicates", counts["received_again"]
    yield "attempts", counts["attempts"]
    yield "  without response / of a killed worker", f"{counts['unanswered']} / {counts['died']}"
    yield "faults", ", ".join(f"{target} {count}" for target, count in _by_target(result).items())
    yield "longest recovery", _longest_recovery(result)
    yield "longest time from 200 to the customer", f"{audit.longest_wait:.1f} s"
    yield "last lead finished after the load", f"{result.finished_after:.1f} s"
    yield "events in the audit log (verified)", counts["events"]


def _by_target(result: Result) -> Counter[str]:
    return Counter(outage.target for outage in result.outages)


def _longest_recovery(result: Result) -> str:
    if not result.recoveries:
        return "none"
    slowest = max(result.recoveries, key=lambda recovery: recovery.seconds)
    return f"{slowest.seconds:.1f} s ({slowest.outage.target} {slowest.outage.kind})"


def _print_problems(problems: Sequence[str], directory: Path) -> None:
    print(f"\n{len(problems)} problems. Logs and evidence are in {directory}:")
    for problem in problems[:_SHOWN]:
        print(f"  {problem}")


def _save(result: Result, options: Options) -> Path:
    """Save the evidence and the logs, and return their directory."""
    kept = ROOT / "var" / f"chaos-{options.seed}"
    shutil.copytree(result.logs, kept, dirs_exist_ok=True)
    (kept / "evidence.json").write_text(json.dumps(asdict(result.evidence), default=str, indent=1))
    return kept


if __name__ == "__main__":
    main()
