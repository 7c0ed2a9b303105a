"""`make chaos`: kills everything at random under load, and proves that nothing was lost and nothing sent twice.

Web, workers, beat, Redis and PostgreSQL are killed with SIGKILL and started again, Redis also wiped, while the customer
answers 200, 429 and 500, resets connections and hangs. Its own ledger is then compared with leads, attempts and events.
Ends with 1 when a promise was broken.
"""

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from tests.chaos.run import FAIL_RATE, FAILURES, FAILURES_AFTER_BOOKING, SETTINGS, Options, Result, run
from tests.environment import ROOT

_SHOWN = 20
_RECOVERY = """
Recovery is the time from a fault until a lead that was posted after it has reached the customer, with what was struck
running again. Other faults in that time count in.
"""


def main() -> None:
    """Run it and print what happens, what came of it, and how to repeat it."""
    options = _options()
    _announce(options)
    posts = round(options.per_minute / 60 * options.seconds)
    with tqdm(total=posts, desc="accepted", unit=" leads", disable=None) as bar:

        def show(counts: Counter[str]) -> None:
            bar.update(counts["accepted"] - bar.n)

        result = run(options, tell=lambda line: tqdm.write(line, file=sys.stdout), progress=show)
    print()
    for what, figure in _figures(result):
        print(f"{what:<44} {figure}")
    print(_RECOVERY)
    if problems := result.audit.problems:
        _complain(problems, _keep(result, options))
        sys.exit(1)


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="leads are posted so long (%(default)s)")
    parser.add_argument("--rate", type=float, default=Options.per_minute, help="leads a minute (%(default)s)")
    parser.add_argument("--every", type=float, default=Options.every, help="seconds between faults (%(default)s)")
    parser.add_argument("--seed", type=int, help="draws the same faults again; else a new one")
    parser.add_argument("--embedded", action="store_true", help="on SQLite without a broker")
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    return Options(seed, given.seconds, given.rate, given.every, embedded=given.embedded)


def _announce(options: Options) -> None:
    where = "SQLite and no broker" if options.embedded else "PostgreSQL (fsync on) and Redis (append-only file)"
    print(f"Seed {options.seed}: {options.per_minute:g} leads a minute for {options.seconds:g} s, on {where}")
    print(f"A fault every {options.every:g} s; the customer fails {FAIL_RATE:.0%} of requests:", end=" ")
    print(*FAILURES, *FAILURES_AFTER_BOOKING, sep=", ")
    print(" ".join(f"{name}={value}" for name, value in SETTINGS.items()), end="\n\n", flush=True)


def _figures(result: Result) -> Iterator[tuple[str, object]]:
    """Yield the lines of the table."""
    counts, audit = result.audit.counts, result.audit
    yield "accepted (its sender was answered 200)", counts["accepted"]
    yield "  delivered", counts["delivered"]
    yield "  rejected by our rules", counts["rejected"]
    yield "  without a telephone number", counts["incomplete"]
    yield "  refused by the customer (422)", counts["refused"]
    yield (
        f"  given up after {SETTINGS['MAX_RETRY_ATTEMPTS']} attempts",
        f"{counts['given_up']}, of which the customer has {counts['given_up_though_taken']}",
    )
    yield "lost", counts["lost"]
    yield "sent twice, after an unknown outcome", counts["sent_again"] - counts["sent_again_unexplained"]
    yield "sent twice, unexplained", counts["sent_again_unexplained"]
    yield "posts answered 503 / cut off", f"{audit.statuses[503]} / {audit.statuses[0]}"
    yield "posts recognised as received before", counts["received_again"]
    yield "attempts", counts["attempts"]
    yield "  without an answer / whose worker died", f"{counts['unanswered']} / {counts['died']}"
    yield "faults", ", ".join(f"{target} {count}" for target, count in _by_target(result).items())
    yield "longest recovery", _longest_recovery(result)
    yield "longest from 200 to the customer", f"{audit.longest_wait:.1f} s"
    yield "last lead ended after the load by", f"{result.ended_after:.1f} s"
    yield "events of the trail, its chains verified", counts["events"]


def _by_target(result: Result) -> Counter[str]:
    return Counter(outage.target for outage in result.outages)


def _longest_recovery(result: Result) -> str:
    if not result.recoveries:
        return "none was seen"
    slowest = max(result.recoveries, key=lambda recovery: recovery.seconds)
    return f"{slowest.seconds:.1f} s ({slowest.outage.target} {slowest.outage.way})"


def _complain(problems: Sequence[str], kept: Path) -> None:
    print(f"\n{len(problems)} problems; everything that is known is in {kept}:")
    for problem in problems[:_SHOWN]:
        print(f"  {problem}")


def _keep(result: Result, options: Options) -> Path:
    """Keep what all parties know and the logs; return where."""
    kept = ROOT / "var" / f"chaos-{options.seed}"
    shutil.copytree(result.logs, kept, dirs_exist_ok=True)
    (kept / "evidence.json").write_text(json.dumps(asdict(result.evidence), default=str, indent=1))
    return kept


if __name__ == "__main__":
    main()
