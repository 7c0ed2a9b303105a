"""The table of results, with a description of the machine."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.environment import ROOT
from tests.servers import postgres_binary, redis_binary

_RESULTS = ROOT / "benchmarks" / "results"


@dataclass
class Report:
    """Results in the order in which they were added. Each is printed at once, too.

    :param leads: Number of leads in the database before.
    """

    leads: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _load: float = field(default_factory=lambda: os.getloadavg()[0])
    _rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, value: str, *, goal: str = "", met: bool = True) -> None:
        """Add a result. `met` says whether it meets the goal."""
        goal = goal and f"{goal}{'' if met else ', MISSED'}"
        self._rows.append((what, value, goal))
        print(f"{what:<50} {value:<24} {goal}", flush=True)

    def text(self) -> str:
        """Return the results in Markdown."""
        lines = [f"| {what} | {value} | {goal} |" for what, value, goal in self._rows]
        head = f"# {self.began:%Y-%m-%d %H:%M} UTC, commit {_commit()}, {self.leads:,} leads in the database before"
        return "\n".join(
            [head, "", self._machine(), "", "| measurement | result | goal |", "|---|---|---|", *lines, ""]
        )

    def write(self) -> Path:
        """Write the results to a file of their own and return its path."""
        size = f"-{self.leads}-leads" if self.leads else ""
        _RESULTS.mkdir(exist_ok=True)
        file = _RESULTS / f"{self.began:%Y-%m-%d-%H%M}{size}.md"
        file.write_text(self.text())
        return file

    def _machine(self) -> str:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        parts = (
            f"{os.cpu_count()} cores ({_cpu()}), {memory:.0f} GB, {platform.system()} {platform.release()}",
            f"Python {platform.python_version()}",
            _output(str(postgres_binary("postgres")), "--version"),
            " ".join(_output(str(redis_binary()), "--version").split()[:3]),
            f"load average before: {self._load:.1f}",
        )
        return "; ".join(parts)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    return _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*") or "unknown"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
