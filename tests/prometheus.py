"""A private Prometheus: on a free port, with the project's alert rules and a scrape every second."""

import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from tests.environment import ROOT
from tests.processes import Process, free_port, scratch_directory
from tests.servers import Server, program

RULES = ROOT / "config" / "prometheus" / "alerts.yml"

_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: lead-gateway
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: [{target}]}}]
"""


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in the checkout."""
    command = [program("promtool", package="prometheus"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)


class Prometheus(Server):
    """Scrapes one gateway.

    :param target: host:port.
    """

    name = "Prometheus"

    def __init__(self, target: str, *, token: str) -> None:
        self.port = free_port()
        self._config = _CONFIG.format(rules=RULES, target=target, token=token)

    @cached_property
    def process(self) -> Process:
        directory = scratch_directory("prometheus")
        (directory / "prometheus.yml").write_text(self._config)
        return Process(self._command(directory), env={}, cwd=directory, log=directory / "prometheus.log")

    def _command(self, directory: Path) -> list[str]:
        files = [f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        return [str(program("prometheus", package="prometheus")), *files, listen, "--log.level=warn"]

    def answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of a response of the HTTP API.

        :raises AssertionError: the request was refused.
        """
        answer = requests.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current series of an expression."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found
