"""Requests per second of the webhook by wrk, and INSERTs per second of PostgreSQL by pgbench."""

import json
import re
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.servers import postgres_binary, program

_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Posts:
    """The result of one run of wrk.

    :param refused: Responses with a status other than 200.
    :param broken: Requests without a response: timeouts, and connections that could not be opened or broke.
    :param p50: Median response time in milliseconds.
    """

    responses: int
    refused: int
    broken: int
    seconds: float
    p50: float
    p99: float

    @property
    def accepted(self) -> int:
        """Return the number of responses with status 200. wrk cuts off the last request of each connection."""
        return self.responses - self.refused

    @property
    def failed(self) -> int:
        """Return the number of requests without a 200."""
        return self.refused + self.broken

    @property
    def per_second(self) -> float:
        """Return the number of accepted leads per second."""
        return self.accepted / self.seconds


def wrk(url: str, *, connections: int, seconds: int) -> Posts:
    """Post different leads on keep-alive connections, each as soon as the last one was answered."""
    size = ["--threads", "2", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "10s"]
    script = ["--script", _SCRIPT, f"{url}/webhooks/leads", "--", uuid.uuid4().hex]
    return read_posts(_output([program("wrk", package="wrk"), *size, *script]))


def read_posts(output: str) -> Posts:
    """Read the line of JSON in the output of wrk."""
    return Posts(**json.loads(next(line for line in output.splitlines() if line.startswith("{"))))


def pgbench(url: str, script: Path, *, connections: int, seconds: int) -> float:
    """Return the transactions per second of a script."""
    size = ["--client", str(connections), "--jobs", "2", "--time", str(seconds)]
    command = [postgres_binary("pgbench"), "--no-vacuum", "--protocol", "prepared", *size, "--file", script, url]
    return read_tps(_output(command))


def _output(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def read_tps(output: str) -> float:
    """Read the transactions per second in the output of pgbench."""
    found = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
    if found is None:
        raise ValueError(f"pgbench printed no tps:\n{output}")
    return float(found[1])


#: An INSERT with the values of the newest lead. pgbench would take a colon before a letter or digit for a variable.
_INSERT = r"""
    SELECT format('INSERT INTO bare_lead (%s) VALUES (%s)', string_agg(quote_ident(key), ', '),
                  string_agg(coalesce('E' || ltrim(replace(quote_literal(value), ':', '\x3a'), ' E'), 'NULL'), ', '))
    FROM jsonb_each_text((SELECT to_jsonb(lead) - 'id' FROM inbound_lead lead ORDER BY id DESC LIMIT 1))
"""


def bare_insert(url: str, script: Path) -> None:
    """Create a table for rows of leads without indexes and triggers, and write the pgbench script that fills it."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE bare_lead (LIKE inbound_lead INCLUDING DEFAULTS INCLUDING IDENTITY)")
        [(insert,)] = connection.execute(_INSERT)
    script.write_text(f"{insert};\n")
