"""Run the stages of `make test` or `make test-fast`: `python -m tests.stages [--fast]`.

Every stage runs, also after one has failed, and a summary names those that failed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests import install_servers
from tests.environment import ROOT

#: Tests wait for half of their time, so four processes keep two cores busy. Each process has servers of its own.
PARALLEL = ("-n", "4", "--no-loadscope-reorder")


@dataclass(frozen=True)
class Stage:
    """One run of pytest."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """How a stage ended."""

    stage: Stage
    exit_code: int
    seconds: float


ALL = (
    Stage("tests of response times", ("-m", "alone", "-n", "2")),
    Stage("all other tests on PostgreSQL and Redis", ("-m", "not alone", *PARALLEL)),
    Stage("tests of our own SQL on SQLite", ("--sqlite", "-m", "not alone and not e2e", *PARALLEL)),
)
#: These tests do not wait, so two processes keep two cores busy.
FAST = (Stage("tests that start no process", ("--fast", "-n", "2")),)


def main() -> int:
    """Run the stages of the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only the tests that start no process")
    if parser.parse_args().fast:
        return run_all(FAST)
    install_servers.main()
    return run_all(ALL)


def run_all(stages: Sequence[Stage]) -> int:
    """Run every stage, print a summary, and return 0 when all of them have passed, else 1."""
    results = [run(stage) for stage in stages]
    print("\n".join(["", "== summary", *map(_line, results)]), flush=True)  # noqa: T201
    return 1 if any(result.exit_code for result in results) else 0


def run(stage: Stage) -> Result:
    """Run one stage, with its output on the terminal."""
    print(f"\n== {stage.name}", flush=True)  # noqa: T201
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "--durations=10", *stage.arguments]
    # Every process of a stage would compile the tests again without cached bytecode.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, cwd=ROOT, env=env, check=False)
    return Result(stage, done.returncode, time.monotonic() - started)


def _line(result: Result) -> str:
    verdict = "passed" if result.exit_code == 0 else f"FAILED with exit code {result.exit_code}"
    return f"{result.seconds:6.0f} s  {result.stage.name}: {verdict}"


if __name__ == "__main__":
    sys.exit(main())
